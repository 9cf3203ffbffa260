// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"flag"
	"maps"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/sim"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

var outage = flag.Duration("outage", 10*time.Minute, "how long TestOutage is without a collector")

// counted is a Tee that counts.
type counted struct {
	mu    sync.Mutex // guards the fields below
	rows  map[uint8]uint32
	bytes map[uint8]int64 // on the wire
}

func (c *counted) tee(b *wire.Batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rows[b.Identity.Table] += b.Identity.Rows
	c.bytes[b.Identity.Table] += int64(b.Bytes())
}

// outageConfig is an agent of eight GPUs with all defaults.
func outageConfig(t *testing.T, dir, collector string, c *counted) agent.Config {
	t.Helper()
	node, err := sim.NewNode(sim.NodeConfig{Model: sim.H100, Seed: 1, FaultsPerGPUHour: 1})
	if err != nil {
		t.Fatal(err)
	}
	cfg := agent.DefaultConfig()
	cfg.Node = agent.Node{Name: "node-1", ReadingSource: "simulator"}
	cfg.Open = func() (gpu.Driver, error) { return node.Driver(), nil }
	cfg.Collector, cfg.SpoolDir, cfg.Tee = collector, dir, c.tee
	return cfg
}

// heap is the memory that is in use, and what the process ever took from the system for it.
func heap() (live, most int64) {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc), int64(m.Sys)
}

// TestOutage: while no collector is there a node's rows take disk, as much as a day may take, and hardly any memory; then
// all of them are sent, by the agent's next life.
func TestOutage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	made := &counted{rows: map[uint8]uint32{}, bytes: map[uint8]int64{}}
	var left agent.Stats
	synctest.Test(t, func(t *testing.T) { left = withoutCollector(t, outageConfig(t, dir, "127.0.0.1:1", made)) })
	wantADayToFit(t, made, left)

	collector, address := startStoring(t)
	cfg := outageConfig(t, dir, address, made)
	cfg.DrainWait = 10 * time.Minute
	a, err := agent.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, before := heap()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // it samples once, and sends what is left
	if err := a.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if _, most := heap(); most-before > 32<<20 {
		t.Errorf("sending took %d MB of memory", (most-before)>>20) // with what the collector took
	}
	if s := a.Stats(); s.BatchesRecovered != left.BatchesQueued || s.BatchesWaiting != 0 || s.BatchesDropped+s.BatchesDamaged+s.BatchesRejected > 0 {
		t.Errorf("stats %+v of %d batches", s, left.BatchesQueued)
	}
	collector.mu.Lock()
	defer collector.mu.Unlock()
	if !maps.Equal(collector.rows, made.rows) {
		t.Errorf("rows by table that arrived: %v, that were made: %v", collector.rows, made.rows)
	}
}

// withoutCollector runs an agent through the outage, and tells what is left when it ends.
func withoutCollector(t *testing.T, cfg agent.Config) agent.Stats {
	t.Helper()
	a, err := agent.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), *outage)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	<-time.After(*outage / 10)
	first, few := heap()
	early := a.Stats()
	<-time.After(*outage * 8 / 10)
	then, most := heap()
	late := a.Stats()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	grown, more := then-first, late.BatchesWaiting-early.BatchesWaiting
	t.Logf("%d batches wait; %d more of them took %d kB of memory; %d MB in use, %d MB taken", late.BatchesWaiting, more, grown>>10, then>>20, most>>20)
	// A day makes 51,000 batches: at 64 bytes each they take 3 MB of an agent's 64.
	if grown > 64*more+1<<20 || most-few > 16<<20 {
		t.Errorf("%d batches that wait took %d bytes of memory, and %d MB were taken meanwhile", more, grown, (most-few)>>20)
	}
	return a.Stats()
}

// wantADayToFit does the arithmetic of the spool's DESIGN.md: what was made, for a day; four times as much if readings are
// noisy (ADR 3); and sub-second samples at twice the rate of the driver's rings, four at 20 Hz and two at 6.
func wantADayToFit(t *testing.T, made *counted, left agent.Stats) {
	t.Helper()
	const (
		gpus, noise                           = 8, 4
		samplesPerSecond, sampleBytes         = 200, 16 // of a GPU in gpu_subsecond
		subsecondPerDay                       = samplesPerSecond * sampleBytes * gpus * 86400
		aroundBatches                         = 1.25 // heads of records, headers, blocks that are not full
		megabyte                      float64 = 1e6
	)
	days := float64(*outage) / float64(24*time.Hour)
	var bytes float64 // of all but sub-second samples, in a day
	for table, n := range made.bytes {
		if table != schema.SubsecondID {
			bytes += float64(n) / days
		}
	}
	subsecond, samples := float64(made.bytes[schema.SubsecondID])/days, float64(made.rows[schema.SubsecondID])
	rate, each := samples/outage.Seconds()/gpus, float64(made.bytes[schema.SubsecondID])/samples
	files := float64(left.SpoolBytes) / days
	need, have := aroundBatches*(noise*bytes+subsecondPerDay), float64(agent.DefaultConfig().SpoolBytes)
	t.Logf("a day: %.0f MB of rows, %.0f MB of sub-second samples (%.0f a second and GPU, %.1f bytes each), %.0f MB of files; at worst %.0f MB of %.0f",
		bytes/megabyte, subsecond/megabyte, rate, each, files/megabyte, need/megabyte, have/megabyte)
	if rate > samplesPerSecond/2 || each > sampleBytes || files > aroundBatches*(bytes+subsecond) {
		t.Error("the simulator makes more than the arithmetic allows for")
	}
	if need > have {
		t.Error("a day does not fit")
	}
}
