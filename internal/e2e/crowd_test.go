// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"io"
	"net"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
)

// gate is a way to a server that can be closed: then nothing answers at its address, as if the server were stopped.
type gate struct {
	t       *testing.T
	address string
	target  string
	ended   sync.WaitGroup

	mu       sync.Mutex // guards the fields below
	listener net.Listener
	conns    map[net.Conn]struct{}
}

func newGate(t *testing.T, target string) *gate {
	t.Helper()
	g := &gate{t: t, target: target, address: "127.0.0.1:0", conns: map[net.Conn]struct{}{}}
	g.open()
	t.Cleanup(g.close)
	return g
}

func (g *gate) open() {
	g.t.Helper()
	listener, err := net.Listen("tcp", g.address)
	if err != nil {
		g.t.Fatal(err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.listener, g.address = listener, listener.Addr().String()
	g.ended.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			g.ended.Go(func() { g.join(conn) })
		}
	})
}

// join copies both ways until one side or the gate closes.
func (g *gate) join(near net.Conn) {
	far, err := net.Dial("tcp", g.target)
	if err != nil {
		_ = near.Close()
		return
	}
	g.mu.Lock()
	g.conns[near], g.conns[far] = struct{}{}, struct{}{}
	g.mu.Unlock()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			_ = near.Close()
			_ = far.Close()
		})
	}
	both.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, near)
	delete(g.conns, far)
}

// close breaks what is open and refuses what comes.
func (g *gate) close() {
	g.mu.Lock()
	_ = g.listener.Close()
	for conn := range g.conns {
		_ = conn.Close()
	}
	g.mu.Unlock()
	g.ended.Wait()
}

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
