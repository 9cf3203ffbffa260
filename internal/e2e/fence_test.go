// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// TestAgentsMoveFromADeadCollector whose log holds batches of theirs. It starts again and leaves them to the other one.
func TestAgentsMoveFromADeadCollector(t *testing.T) {
	db := clickhousetest.Start(t)
	dead := newLives(t, db.Writer)
	dead.begin("unit noted", 3)
	cfg := collectorConfig(t, db.Writer)
	cfg.Name = "other"
	other, _ := startCollector(t, cfg)
	f := startFleet(t, fleetConfig{
		nodes: 20, gpus: 1, seed: 9, collector: dead.address + "," + other, interval: 200 * time.Millisecond, flush: 400 * time.Millisecond,
	})
	dead.awaitEnd()
	owed := map[wire.Key]bool{}
	for _, k := range safe(t, dead.pattern()) {
		owed[k] = true
	}
	if len(owed) == 0 {
		t.Fatal("nothing was accepted")
	}
	f.awaitStored(100)
	dead.begin("", 0)
	f.awaitStored(100)
	f.wantExactlyOnce(db.Reader)
	wantStored(t, db.Reader, owed)
	awaitAnswer(t, db.Reader, "SELECT uniqExact(collector) > 1 FROM ingest_ledger", "1")
}

// TestSecondCollectorOfAName does not start, says why, and leaves the first one alone.
func TestSecondCollectorOfAName(t *testing.T) {
	program := buildCollector(t)
	db := clickhousetest.Start(t)
	first := newProcess(t, program, db.Writer).named("twin")
	first.start()
	f := startFleet(t, fleetConfig{nodes: 5, gpus: 1, seed: 3, collector: first.address, interval: 200 * time.Millisecond, flush: 200 * time.Millisecond})
	f.awaitStored(10)
	second := newProcess(t, program, db.Writer).named("twin")
	second.start()
	if err := second.cmd.Wait(); err == nil {
		t.Error("it ended in order")
	}
	second.cmd = nil
	text, err := os.ReadFile(second.log.Name())
	if err != nil || !bytes.Contains(text, []byte("give each collector a --name of its own")) {
		t.Errorf("it said %s, %v", text, err)
	}
	f.awaitStored(10)
	f.wantExactlyOnce(db.Reader)
	if n := strings.Count(string(text), "\n"); n > 20 {
		t.Errorf("it said %d lines", n)
	}
}
