// SPDX-License-Identifier: Apache-2.0

// Package e2e tests the whole path: simulated nodes, real agents, a real collector, a real ClickHouse. Whatever is
// killed on the way, each row that an agent has counted is stored, and stored once.
package e2e

import (
	"fmt"
	"os"
	"testing"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
)

func TestMain(m *testing.M) {
	if os.Getenv(victimCollector) != "" { //nolint:forbidigo // this process is a program of its own
		if err := runVictim(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1) //nolint:forbidigo // the same
		}
		return
	}
	if text := os.Getenv(victimLife); text != "" { //nolint:forbidigo // the same
		if err := runCollectorVictim(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1) //nolint:forbidigo // the same
		}
		return
	}
	clickhousetest.Main(m)
}
