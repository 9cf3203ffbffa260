// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package e2e

import (
	"sync/atomic"
	"testing"
)

// cable is known on Linux alone.
type cable struct {
	address     string
	delay, loss atomic.Int64
	up, down    direction
}

type direction struct {
	cut  atomic.Bool
	lost atomic.Int64
}

func newCable(t *testing.T, _ string) *cable {
	t.Helper()
	t.Skip("SKIPPED: there are no network namespaces on this system")
	return nil
}

func (c *cable) heal() {}
