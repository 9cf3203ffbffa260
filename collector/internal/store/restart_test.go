// SPDX-License-Identifier: Apache-2.0

package store

import (
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/schema"
)

// awaitRestart waits until a server that was killed answers again.
func awaitRestart(t *testing.T, server *embedded.Server, restarts int) {
	t.Helper()
	timeout := time.NewTimer(limitless)
	defer timeout.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for server.Restarts() < restarts {
		select {
		case <-timeout.C:
			t.Fatal("ClickHouse was not started again")
		case <-tick.C:
		}
	}
}

// TestClickHouseIsKilled again and again, at moments drawn from a seed, while batches come.
func TestClickHouseIsKilled(t *testing.T) {
	server := clickhousetest.Dedicated(t)
	cfg := config(endpoint(server.Writer()))
	cfg.UnitRows = 40
	r := start(t, cfg)
	random := rand.New(rand.NewPCG(1, 1))
	var batches []*sent
	kills := 0
	for sequence := uint64(1); sequence <= 60; sequence++ {
		b := r.submit(schema.SamplesID, sequence, 20)
		batches = append(batches, b, r.submit(schema.EventsID, sequence, 3))
		if sequence%15 != 0 {
			continue
		}
		// Somewhere within the inserts that are under way, or between them.
		pause := time.NewTimer(time.Duration(random.IntN(40)) * time.Millisecond)
		<-pause.C
		if err := syscall.Kill(server.PID(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		kills++
		awaitRestart(t, server, kills)
	}
	var samples, events []*sent
	for _, b := range batches {
		if b.key.Table == schema.SamplesID {
			samples = append(samples, b)
		} else {
			events = append(events, b)
		}
	}
	wantStored(t, server.Writer(), append(samples, events...)...)
}
