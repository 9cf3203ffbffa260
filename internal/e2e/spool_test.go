// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/sim"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

const (
	victimCollector = "GPUFLEET_E2E_COLLECTOR" // set: this process is an agent that is about to be killed
	victimSpool     = "GPUFLEET_E2E_SPOOL"
	kills           = 12
)

var killFor = flag.Duration("kill-for", 0, "how long TestAgentIsKilled goes on killing; else a dozen times")

// runVictim is an agent with a spool, until it is told to stop, or killed.
func runVictim() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM) //nolint:forbidigo // this process is a program of its own
	defer stop()
	node, err := sim.NewNode(sim.NodeConfig{Model: sim.H100, Seed: uint64(os.Getpid()), FaultsPerGPUHour: 300})
	if err != nil {
		return err
	}
	cfg := agent.DefaultConfig()
	cfg.Node = agent.Node{Name: "victim", ReadingSource: "simulator"}
	cfg.Open = func() (gpu.Driver, error) { return node.Driver(), nil }
	cfg.Collector, cfg.SpoolDir = os.Getenv(victimCollector), os.Getenv(victimSpool) //nolint:forbidigo // this process is a program of its own
	cfg.Interval, cfg.Flush, cfg.HealthInterval, cfg.DrainWait = 100*time.Millisecond, 200*time.Millisecond, 300*time.Millisecond, limitless
	cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	return agent.Run(ctx, cfg)
}

// victim is a process of runVictim.
type victim struct {
	t       *testing.T
	cmd     *exec.Cmd
	started time.Time
	said    bytes.Buffer
}

func startVictim(t *testing.T, collector, spool string) *victim {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	v := &victim{t: t, cmd: exec.CommandContext(t.Context(), program), started: time.Now()}
	v.cmd.Env = append(os.Environ(), victimCollector+"="+collector, victimSpool+"="+spool)
	v.cmd.Stderr = &v.said
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return v
}

// end sends a signal and waits for the end. A victim of SIGTERM must end well.
func (v *victim) end(s syscall.Signal) (at time.Time) {
	v.t.Helper()
	at = time.Now()
	if err := v.cmd.Process.Signal(s); err != nil {
		v.t.Fatalf("the agent ended by itself: %v\n%s", err, v.said.String())
	}
	err := v.cmd.Wait()
	var exit *exec.ExitError
	switch {
	case s == syscall.SIGTERM && err != nil, s == syscall.SIGKILL && !errors.As(err, &exit):
		v.t.Fatalf("the agent ended with %v\n%s", err, v.said.String())
	}
	return at
}

// safe is what lies whole in the files of a spool, or of a collector's log. It is found without their own code: by the
// mark of a record, and the checksum that a batch has for the wire.
func safe(t *testing.T, pattern string) (keys []wire.Key) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	const mark, head = "GFE\x01", 32
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at+head < len(b); at += 8 {
			if string(b[at:at+4]) != mark {
				continue
			}
			metadata, header, body := binary.LittleEndian.Uint32(b[at+4:]), binary.LittleEndian.Uint32(b[at+8:]), binary.LittleEndian.Uint32(b[at+12:])
			rest := b[at+head:]
			if uint64(metadata)+uint64(header)+uint64(body) > uint64(len(rest)) {
				continue // it was being written
			}
			i, err := wire.ParseIdentity(rest[:metadata], rest[metadata:metadata+header], rest[metadata+header:][:body])
			if err == nil {
				keys = append(keys, i.Key())
			}
		}
	}
	return keys
}

// wantStored looks for batches in the ledger.
func wantStored(t *testing.T, db embedded.Endpoint, owed map[wire.Key]bool) {
	t.Helper()
	stored := map[string]bool{}
	for line := range strings.Lines(clickhousetest.Query(t, db, "SELECT concat(table_name, ' ', node_id, ' ', epoch, ' ', seq) FROM ingest_ledger WHERE state = 'stored'")) {
		stored[strings.TrimSpace(line)] = true
	}
	for k := range owed {
		table, _ := schema.TableByID(k.Table)
		if !stored[fmt.Sprint(table.Name, " ", k.Node, " ", k.Epoch, " ", k.Sequence)] {
			t.Errorf("batch %v was on disk at a kill, and is not stored", k)
		}
	}
}

// TestAgentIsKilled kills an agent at random moments, again and again, while the collector is away half of the time.
// Whatever lay in the spool then is stored in the end, once, and the sequences of each life have no hole.
func TestAgentIsKilled(t *testing.T) {
	db := clickhousetest.Start(t)
	address, stop := startCollector(t, collectorConfig(t, db.Writer))
	g, spool := newGate(t, address), filepath.Join(t.TempDir(), "spool")
	random := rand.New(rand.NewPCG(11, 3))
	enough := func(n int) bool { return n >= kills }
	if *killFor > 0 {
		until := time.Now().Add(*killFor)
		enough = func(int) bool { return time.Now().After(until) }
	}
	type life struct{ from, to time.Time }
	var lives []life
	owed := map[wire.Key]bool{}
	for n := 0; !enough(n); n++ {
		if n%4 == 1 {
			g.close()
		}
		if n%4 == 3 {
			g.open()
		}
		v := startVictim(t, g.address, spool)
		letRun(t, time.Duration(500+random.IntN(1500))*time.Millisecond)
		lives = append(lives, life{v.started, v.end(syscall.SIGKILL)})
		for _, k := range safe(t, filepath.Join(spool, "*.gfs")) {
			owed[k] = true
		}
	}
	g.close()
	g.open()
	last := startVictim(t, g.address, spool)
	awaitAnswer(t, db.Reader, fmt.Sprintf("SELECT count() > 0 FROM gpu_samples WHERE epoch >= %d", last.started.UnixMilli()), "1")
	last.end(syscall.SIGTERM)

	left, err := filepath.Glob(filepath.Join(spool, "*.gfs*"))
	if err != nil || len(left) > 0 {
		t.Errorf("files %v are left in the spool, %v", left, err)
	}
	wantStored(t, db.Reader, owed)
	const holes = `SELECT table_name, epoch, min(seq), max(seq), uniqExact(seq) AS batches FROM ingest_ledger
		GROUP BY table_name, epoch HAVING min(seq) != 1 OR max(seq) != batches OR countIf(state != 'stored') > 0`
	if got := clickhousetest.Query(t, db.Reader, holes); got != "" {
		t.Errorf("table, epoch, first and last sequence, batches:\n%s", got)
	}
	for _, table := range []string{"gpu_samples", "gpu_events", "gpu_health", "gpu_subsecond", "gpu_inventory", "node_inventory"} {
		wantTableMatchesLedger(t, db.Reader, table)
	}
	if got := clickhousetest.Query(t, db.Reader, "SELECT count() - uniqExact(gpu_id, epoch, ts) FROM gpu_samples"); got != "0" {
		t.Errorf("%s rows are there twice", got)
	}
	var after, stored int
	for _, l := range lives {
		var n, late int
		sql := fmt.Sprintf("SELECT count(), countIf(recorded_at > fromUnixTimestamp64Milli(%d)) FROM ingest_ledger WHERE epoch BETWEEN %d AND %d",
			l.to.Add(50*time.Millisecond).UnixMilli(), l.from.UnixMilli(), l.to.UnixMilli())
		if _, err := fmt.Sscan(clickhousetest.Query(t, db.Reader, sql), &n, &late); err != nil {
			t.Fatal(err)
		}
		stored, after = stored+n, after+late
	}
	t.Logf("%d lives left %d batches, of which %d lay in the spool at a kill, and %d were stored after their agent was dead", len(lives), stored, len(owed), after)
	if after == 0 || len(owed) == 0 {
		t.Error("nothing came out of the spool of an agent that was killed")
	}
	stop()
}

// letRun lets real processes run for a while.
func letRun(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}
