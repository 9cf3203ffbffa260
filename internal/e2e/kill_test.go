// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/embedded"
)

// TestCollectorProcess kills the real program, and in the end ClickHouse with it.
func TestCollectorProcess(t *testing.T) {
	program := buildCollector(t)
	t.Run("killed", func(t *testing.T) {
		db := clickhousetest.Start(t)
		collectorIsKilled(t, newProcess(t, program, db.Writer), db.Reader, func(int) {})
	})
	t.Run("killed, and ClickHouse", func(t *testing.T) {
		server := clickhousetest.Dedicated(t)
		collectorIsKilled(t, newProcess(t, program, server.Writer()), server.Writer(), func(kill int) {
			if kill%2 == 0 {
				killClickHouse(t, server)
			}
		})
	})
}

// collectorIsKilled kills a collector again and again while agents send, each time a moment after the first batches
// were stored, drawn from a seed. also is told of each kill, just before it.
func collectorIsKilled(t *testing.T, p *process, db embedded.Endpoint, also func(kill int)) {
	t.Helper()
	const kills = 4
	p.start()
	f := startFleet(t, fleetConfig{nodes: 50, gpus: 1, seed: 2, collector: p.address, interval: 250 * time.Millisecond, flush: 500 * time.Millisecond})
	random := rand.New(rand.NewPCG(3, 1))
	for kill := range kills {
		f.awaitStored(50)
		pause(time.Duration(random.IntN(200)) * time.Millisecond)
		also(kill)
		p.kill()
		p.start()
	}
	f.awaitStored(50)
	f.stop()
	f.wantExactlyOnce(db)
	if f.sum().BatchesResent == 0 {
		t.Error("no batch was sent twice: the collector was never killed amid its work")
	}
}

// pause moves what comes next to another moment of what goes on beside it. Nothing depends on how long it takes.
func pause(d time.Duration) { <-time.After(d) }

// killClickHouse ends a server at once; it is started again by itself.
func killClickHouse(t *testing.T, server *embedded.Server) {
	t.Helper()
	if pid := server.PID(); pid != 0 { // else it is being started again
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}
}

// TestClickHouseIsKilled again and again while agents send.
func TestClickHouseIsKilled(t *testing.T) {
	server := clickhousetest.Dedicated(t)
	address, stop := startCollector(t, collectorConfig(t, server.Writer()))
	f := startFleet(t, fleetConfig{nodes: 30, gpus: 2, seed: 4, collector: address, interval: 250 * time.Millisecond, flush: 500 * time.Millisecond})
	random := rand.New(rand.NewPCG(5, 1))
	for kill := range 3 {
		f.awaitStored(60)
		pause(time.Duration(random.IntN(200)) * time.Millisecond)
		killClickHouse(t, server)
		f.await("a restart", func(agent.Stats) bool { return server.Restarts() > kill })
	}
	f.awaitStored(60)
	f.wantExactlyOnce(server.Writer())
	stop()
}
