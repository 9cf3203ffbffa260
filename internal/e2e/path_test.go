// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"math/rand/v2"
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

// TestConnectionsAreCut breaks each connection of an agent after some bytes, wherever that is: in the greeting, between
// messages, or within one.
func TestConnectionsAreCut(t *testing.T) {
	db := clickhousetest.Start(t)
	address, stop := startCollector(t, collectorConfig(t, db.Writer))
	g := newGate(t, address)
	random := rand.New(rand.NewPCG(8, 1))
	g.cutAfter(func() int64 { return 1 + random.Int64N(30_000) })
	f := startFleet(t, fleetConfig{nodes: 20, gpus: 2, seed: 9, collector: g.address, interval: 200 * time.Millisecond, flush: 400 * time.Millisecond})
	f.await("100 cuts", func(s agent.Stats) bool { return g.cutCount() >= 100 && s.BatchesStored >= 200 })
	g.cutAfter(nil)
	f.wantExactlyOnce(db.Reader)
	if f.sum().BatchesResent == 0 {
		t.Error("no batch was sent twice")
	}
	stop()
}
