// SPDX-License-Identifier: Apache-2.0

package top

import (
	"testing"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
)

func TestMain(m *testing.M) { clickhousetest.Main(m) }
