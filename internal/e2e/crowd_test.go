// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os/exec"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
)

// TestCrowd has a thousand agents come at once while ClickHouse is not there, goes on when it is, and takes it away
// again: the reconnects and the questions to the ledger come all together.
func TestCrowd(t *testing.T) {
	if raceDetector {
		// With it a thousand agents need 10 GB and minutes.
		cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", "-run=^TestCrowd$", ".")
		output, err := cmd.CombinedOutput()
		t.Logf("without the race detector:\n%s", output)
		if err != nil {
			t.Error(err)
		}
		return
	}
	const nodes = 1000
	db := clickhousetest.Start(t)
	g := newGate(t, db.Writer.HTTPAddress())
	cfg := collectorConfig(t, db.Writer)
	cfg.Database.Address = g.address
	address, stop := startCollector(t, cfg)
	g.close()
	f := startFleet(t, fleetConfig{nodes: nodes, gpus: 1, seed: 6, collector: address, interval: time.Second, flush: 2 * time.Second, few: true})
	f.await("a batch of each agent", func(s agent.Stats) bool { return s.BatchesQueued >= 3*nodes })
	if s := f.sum(); s.BatchesStored != 0 {
		t.Errorf("%d batches are stored without a ClickHouse", s.BatchesStored)
	}
	g.open()
	f.awaitStored(nodes)
	g.close()
	pause(500 * time.Millisecond)
	g.open()
	f.wantExactlyOnce(db.Reader)
	stop()
}
