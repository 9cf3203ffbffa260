// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/collector"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// victimLife is the environment variable that tells this process to be a collector that ends itself.
const victimLife = "GPUFLEET_E2E_LIFE"

// life is one life of a collector that ends itself with SIGKILL.
type life struct {
	Listen, DataDir string
	Database        collector.Endpoint
	Step            string // at which it ends; "": at none
	Times           int64  // that it has reached the step by then
}

// runCollectorVictim is a collector until its step, or until it is told to stop.
func runCollectorVictim(text string) error {
	var l life
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM) //nolint:forbidigo // this process is a program of its own
	defer stop()
	cfg := collector.DefaultConfig()
	cfg.Name, cfg.Listen, cfg.DataDir, cfg.Database, cfg.UnitWait = "e2e", l.Listen, l.DataDir, l.Database, 100*time.Millisecond
	cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	var reached atomic.Int64
	cfg.OnStep = func(step string) {
		if step == l.Step && reached.Add(1) == l.Times {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // nothing is done any more
		}
	}
	return collector.Run(ctx, cfg)
}

// collectorLives are the lives of one collector, one after the other.
type collectorLives struct {
	*process
	life life
}

func newLives(t *testing.T, db embedded.Endpoint) *collectorLives {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := newProcess(t, program, db)
	p.args = nil
	return &collectorLives{p, life{
		Listen: p.address, DataDir: t.TempDir(),
		Database: collector.Endpoint{Address: db.HTTPAddress(), User: db.User, Password: db.Password, Database: db.Database},
	}}
}

// begin starts a life that ends at a step.
func (c *collectorLives) begin(step string, times int64) {
	c.t.Helper()
	c.life.Step, c.life.Times = step, times
	text, err := json.Marshal(c.life)
	if err != nil {
		c.t.Fatal(err)
	}
	c.env = append(os.Environ(), victimLife+"="+string(text))
	c.start()
}

// awaitEnd waits until the life has ended at its step.
func (c *collectorLives) awaitEnd() {
	c.t.Helper()
	ended := make(chan struct{})
	cmd := c.cmd
	go func() {
		defer close(ended)
		_ = cmd.Wait() // how it ended is in its state
	}()
	select {
	case <-ended:
		if s, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || s.Signal() != syscall.SIGKILL {
			c.t.Fatalf("the collector ended by itself before %q: %v", c.life.Step, cmd.ProcessState)
		}
	case <-time.After(limitless):
		_ = cmd.Process.Kill()
		<-ended
		c.t.Fatalf("the collector never came to %q", c.life.Step)
	}
	c.cmd = nil
}

// pattern is where the batches of its log lie.
func (c *collectorLives) pattern() string { return filepath.Join(c.life.DataDir, "log", "*", "*.gfl") }

// steps are the steps of a batch and a unit, in their order.
var steps = []string{"log written", "log synced", "unit noted", "unit inserted", "unit recorded", "batch settled"}

// TestCollectorIsKilledAtEachStep ends a collector at each step of a unit's life, twice, while agents send. Every row is
// stored once.
func TestCollectorIsKilledAtEachStep(t *testing.T) {
	for _, step := range steps {
		t.Run(step, func(t *testing.T) {
			db := clickhousetest.Start(t)
			c := newLives(t, db.Writer)
			c.begin(step, 3)
			f := startFleet(t, fleetConfig{nodes: 10, gpus: 1, seed: 6, collector: c.address, interval: 200 * time.Millisecond, flush: 400 * time.Millisecond})
			owed := map[wire.Key]bool{}
			for _, times := range []int64{6, 0} {
				c.awaitEnd()
				for _, k := range safe(t, c.pattern()) {
					owed[k] = true
				}
				if times > 0 {
					c.begin(step, times)
				}
			}
			c.begin("", 0)
			f.awaitStored(30)
			f.wantExactlyOnce(db.Reader)
			wantStored(t, db.Reader, owed)
			if len(owed) == 0 {
				t.Error("nothing was in the log at a kill")
			}
		})
	}
}

// TestAcceptedOutlivesItsAgent: what a collector has accepted is stored although the collector was killed before it was,
// and the agents are no more.
func TestAcceptedOutlivesItsAgent(t *testing.T) {
	db := clickhousetest.Start(t)
	c := newLives(t, db.Writer)
	c.begin("unit noted", 3)
	f := startFleet(t, fleetConfig{
		nodes: 10, gpus: 1, seed: 8, collector: c.address, interval: 200 * time.Millisecond, flush: 400 * time.Millisecond,
		change: func(cfg *agent.Config) { cfg.DrainWait = time.Millisecond }, lossy: true,
	})
	c.awaitEnd()
	f.stop()
	owed := map[wire.Key]bool{}
	for _, k := range safe(t, c.pattern()) {
		owed[k] = true
	}
	if len(owed) == 0 {
		t.Fatal("nothing was accepted")
	}
	c.begin("", 0)
	awaitAnswer(t, db.Reader, fmt.Sprintf("SELECT uniqExact(table_name, node_id, epoch, seq) >= %d FROM ingest_ledger", len(owed)), "1")
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("the last life ended with %v", err)
	}
	c.cmd = nil
	wantStored(t, db.Reader, owed)
	for _, table := range []string{"gpu_samples", "gpu_events", "gpu_health", "gpu_inventory", "node_inventory"} {
		wantTableMatchesLedger(t, db.Reader, table)
	}
}
