// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
)

// TestPlain: nothing goes wrong.
func TestPlain(t *testing.T) {
	db := clickhousetest.Start(t)
	address, stop := startCollector(t, collectorConfig(t, db.Writer))
	f := startFleet(t, fleetConfig{nodes: 20, seed: 1, collector: address, interval: 200 * time.Millisecond, flush: 500 * time.Millisecond})
	f.await("3,000 rows", func(s agent.Stats) bool { return s.Rows >= 3000 })
	f.wantExactlyOnce(db.Reader)
	stop()
}
