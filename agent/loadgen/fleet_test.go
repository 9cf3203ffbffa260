// SPDX-License-Identifier: Apache-2.0

package loadgen

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/sim"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

const testFlush = 2 * time.Second

// readings are those of some nodes, in batches of testFlush.
func readings(t *testing.T, nodes, seconds int) []Load {
	t.Helper()
	clock := NewClock(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	fleet, err := sim.NewFleet(sim.FleetConfig{Nodes: nodes, Seed: 1, Clock: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	drivers := make(map[string]gpu.Driver)
	for _, n := range fleet.Nodes() {
		drivers[n.Name()] = n.Driver()
	}
	loads, err := Make(drivers, clock, seconds, testFlush, true)
	if err != nil {
		t.Fatal(err)
	}
	return loads
}

// read reads a batch as a collector does.
func read(t *testing.T, b *wire.Batch) (wire.Identity, arrow.RecordBatch) {
	t.Helper()
	identity, err := wire.ParseIdentity(b.Metadata, b.Header, b.Body)
	if err != nil {
		t.Fatal(err)
	}
	z, err := wire.NewDecompressor()
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	table, _ := schema.TableByID(identity.Table)
	record, err := wire.NewDecoder(table.WireSchema(), z).Decode(identity, b.Header, b.Body)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(record.Release)
	return identity, record
}

// TestTemplatesChangeTimeAndGPUAlone and nothing else of what was read.
func TestTemplatesChangeTimeAndGPUAlone(t *testing.T) {
	load := readings(t, 1, 6)[0]
	series, err := newSeries(load, testFlush)
	if err != nil {
		t.Fatal(err)
	}
	if len(series) != 3 || len(series[0]) != 2 || len(series[1]) != 1 {
		t.Fatalf("%d flushes, of the first %d batches, of the second %d; want 3, samples and health, samples", len(series), len(series[0]), len(series[1]))
	}
	gpus := []uint64{11, 12, 13, 14, 15, 16, 17, 18}
	began := time.UnixMilli(1_900_000_000_500)
	for at, flush := range series {
		for _, one := range flush {
			identity := wire.Identity{Node: 3, Epoch: 5, Sequence: uint64(at) + 1}
			b, err := one.batch(identity, gpus, began)
			if err != nil {
				t.Fatal(err)
			}
			got, record := read(t, b)
			if got.Node != 3 || got.Epoch != 5 || got.Sequence != uint64(at)+1 || got.Table != one.table || int64(got.Rows) != record.NumRows() {
				t.Errorf("identity %+v", got)
			}
			source := slices.IndexFunc(load.Batches, func(b *wire.Batch) bool {
				return b.Identity.Table == one.table && b.Identity.Sequence == uint64(at)+1
			})
			_, want := read(t, load.Batches[source])
			wantPatched(t, record, want, gpus, began.UnixMilli())
		}
	}
}

func wantPatched(t *testing.T, got, want arrow.RecordBatch, gpus []uint64, from int64) {
	t.Helper()
	if got.NumRows() != want.NumRows() {
		t.Fatalf("%d rows, want %d", got.NumRows(), want.NumRows())
	}
	first := int64(want.Column(0).(*array.Timestamp).Value(0))
	for i, c := range got.Columns() {
		switch got.ColumnName(i) {
		case schema.ColumnTime:
			for row := range c.Len() {
				if at := int64(c.(*array.Timestamp).Value(row)); at-from != int64(want.Column(i).(*array.Timestamp).Value(row))-first {
					t.Errorf("row %d is of %d", row, at)
				}
			}
		case schema.ColumnGPU:
			for row := range c.Len() {
				if id := c.(*array.Uint64).Value(row); id != gpus[row%len(gpus)] {
					t.Errorf("row %d is of GPU %d", row, id)
				}
			}
		default:
			if !array.Equal(c, want.Column(i)) {
				t.Errorf("column %s is not what was read", got.ColumnName(i))
			}
		}
	}
}

// desk is a collector that stores nothing, and asks for each third batch twice.
type desk struct {
	flight.BaseFlightServer
	window uint32

	mu    sync.Mutex
	got   map[wire.Key][]uint32 // checksums
	names map[string]bool
}

func (d *desk) DoPut(put flight.FlightService_DoPutServer) error {
	first, err := put.Recv()
	if err != nil {
		return err
	}
	hello, err := wire.ParseHello(first.GetAppMetadata())
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.names[hello.Name] = true
	d.mu.Unlock()
	answer := func(a wire.Answer) error {
		a.Window = d.window
		return put.Send(&flight.PutResult{AppMetadata: a.Append(nil)})
	}
	if err := answer(wire.Answer{Kind: wire.Welcome}); err != nil {
		return err
	}
	for {
		data, err := put.Recv()
		if err != nil {
			return nil //nolint:nilerr // the agent has gone
		}
		i, err := wire.ParseIdentity(data.GetAppMetadata(), data.GetDataHeader(), data.GetDataBody())
		if err != nil {
			return err
		}
		d.mu.Lock()
		d.got[i.Key()] = append(d.got[i.Key()], i.CRC)
		kind := wire.Stored
		if i.Sequence%3 == 0 && len(d.got[i.Key()]) == 1 {
			kind = wire.Retry
		}
		d.mu.Unlock()
		if err := answer(wire.Answer{Kind: wire.Accepted, Sequence: i.Sequence}); err != nil {
			return err
		}
		if err := answer(wire.Answer{Kind: kind, Sequence: i.Sequence}); err != nil {
			return err
		}
	}
}

func serve(t *testing.T, d *desk) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	flight.RegisterFlightServiceServer(server, d)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() { server.Stop(); serving.Wait() })
	return listener.Addr().String()
}

// TestFleetSendsEachBatchOnce, and those once more that it is asked for, all under small credit, of a time that has passed.
func TestFleetSendsEachBatchOnce(t *testing.T) {
	d := &desk{window: 1, got: make(map[wire.Key][]uint32), names: make(map[string]bool)}
	f, err := NewFleet(FleetConfig{
		Collector: serve(t, d), Token: func(string) string { return "token" }, Nodes: 5, Flush: testFlush,
		Lasts: 14 * time.Second, Backlog: 20 * time.Second, Readings: readings(t, 2, 8),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Seven flushes of five nodes; health in the first of every four, as the readings say.
	samples, health := 5*7, 5*2
	stats := f.Stats()
	if stats.Batches != int64(samples+health) || stats.Stored != stats.Batches || stats.Rows != int64(samples)*16 || stats.Retried != 5*2 || stats.Rejected != 0 {
		t.Errorf("stats %+v", stats)
	}
	if f.GPUs() != 40 || len(d.names) != 5 || stats.CaughtUp != 0 || stats.Waits.Count() != uint64(stats.Batches) || stats.Freshness.Count() != uint64(samples)*2 {
		t.Errorf("%d GPUs, %d nodes, %d caught up, %d waits, %d ages", f.GPUs(), len(d.names), stats.CaughtUp, stats.Waits.Count(), stats.Freshness.Count())
	}
	for key, sums := range d.got {
		want := 1
		if key.Sequence%3 == 0 {
			want = 2
		}
		if len(sums) != want || sums[0] != sums[want-1] {
			t.Errorf("batch %v came %d times: %x", key, len(sums), sums)
		}
	}
	if len(d.got) != samples+health {
		t.Errorf("%d batches came, want %d", len(d.got), samples+health)
	}
	if old := stats.Waits.Quantile(0); old < 4*time.Second {
		t.Errorf("the newest batch waited %s: the backlog ended 4.4 s ago", old)
	}
}

// TestFleetCatchesUp with its clocks, and then sends at their pace.
func TestFleetCatchesUp(t *testing.T) {
	d := &desk{window: 1 << 20, got: make(map[wire.Key][]uint32), names: make(map[string]bool)}
	f, err := NewFleet(FleetConfig{
		Collector: serve(t, d), Token: func(string) string { return "token" }, Nodes: 2, Flush: time.Second,
		Lasts: 21 * time.Second, Backlog: 20 * time.Second, Readings: readings(t, 1, 1),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	if err := f.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(started); took < time.Second { // the last flush of the second node is due 1.5 s after the start
		t.Errorf("all was sent within %s, before it was read", took)
	}
	f.End() // does no harm
	if stats := f.Stats(); stats.CaughtUp != 2 {
		t.Errorf("%d of 2 nodes have caught up", stats.CaughtUp)
	}
}

// TestFleetEnds when it is told to, with everything answered.
func TestFleetEnds(t *testing.T) {
	d := &desk{window: 1 << 20, got: make(map[wire.Key][]uint32), names: make(map[string]bool)}
	f, err := NewFleet(FleetConfig{
		Collector: serve(t, d), Token: func(string) string { return "token" }, Nodes: 3, Flush: testFlush,
		Lasts: 24 * time.Hour, Backlog: 10 * time.Second, Readings: readings(t, 1, 2),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- f.Run(t.Context()) }()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for f.Stats().CaughtUp < 3 {
		select {
		case <-tick.C:
		case err := <-done:
			t.Fatalf("the fleet ended by itself: %v", err)
		case <-deadline.C:
			t.Fatal("the fleet does not catch up")
		}
	}
	f.End()
	err = <-done
	if stats := f.Stats(); err != nil || stats.Stored != stats.Batches || stats.Batches < 3*4 {
		t.Errorf("%d of %d batches are stored: %v", stats.Stored, stats.Batches, err)
	}
}

func TestFleetThatCannotBe(t *testing.T) {
	loads := readings(t, 1, 2)
	for _, cfg := range []FleetConfig{
		{Nodes: 0, Flush: testFlush, Lasts: time.Minute, Readings: loads},
		{Nodes: 1, Flush: testFlush, Lasts: time.Minute},
		{Nodes: 1, Flush: time.Second / 2, Lasts: time.Minute, Readings: loads},
		{Nodes: 1, Flush: testFlush, Lasts: time.Second, Readings: loads},
		{Nodes: 1, Flush: testFlush, Lasts: time.Minute, Readings: []Load{{Node: "empty"}}},
	} {
		if _, err := NewFleet(cfg); err == nil || !strings.HasPrefix(err.Error(), "make fleet") {
			t.Errorf("%d nodes, %d readings, %s in %s: %v", cfg.Nodes, len(cfg.Readings), cfg.Lasts, cfg.Flush, err)
		}
	}
}

func TestWaitsTellQuantiles(t *testing.T) {
	var w Waits
	if w.Quantile(0.5) != 0 {
		t.Error("of nothing")
	}
	for i := range 100 {
		w.Add(time.Duration(i+1) * time.Millisecond)
	}
	w.Add(-time.Second)
	w.Add(24 * time.Hour)
	got := fmt.Sprint(w.Quantile(0), w.Quantile(0.5), w.Quantile(0.98), w.Quantile(1), w.Count())
	if got != "0s 50ms 98ms 10m0s 102" {
		t.Errorf("quantiles %s", got)
	}
}
