// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/recording"
	"github.com/gpufleet/gpufleet/agent/sim"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// tape is a recording that an agent's Tee writes.
type tape struct {
	bytes.Buffer
	t      *testing.T
	writer *recording.Writer
	keys   []wire.Key
}

func newTape(t *testing.T, node string) *tape {
	t.Helper()
	r := &tape{t: t}
	var err error
	r.writer, err = recording.NewWriter(r, recording.Provenance{Node: node, Program: "test", Version: "1", RecordedAt: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// tee is the Tee of an agent.
func (r *tape) tee(b *wire.Batch) {
	r.keys = append(r.keys, b.Identity.Key())
	if err := r.writer.Write(b); err != nil {
		r.t.Error(err)
	}
}

func (r *tape) load() *recording.Recording {
	r.t.Helper()
	loaded, err := recording.Load(&r.Buffer)
	if err != nil {
		r.t.Fatal(err)
	}
	return loaded
}

// recordNode runs an agent on a simulated node, without a collector, and returns what its Tee got.
func recordNode(t *testing.T, name string, length time.Duration) *recording.Recording {
	t.Helper()
	node, err := sim.NewNode(sim.NodeConfig{Model: sim.H100, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	recorded := newTape(t, name)
	cfg := agent.DefaultConfig()
	cfg.Node = agent.Node{Name: name, ReadingSource: "simulator", Provider: "aws"}
	cfg.Open = func() (gpu.Driver, error) { return node.Driver(), nil }
	cfg.Tee = recorded.tee
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	if err := agent.Run(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	return recorded.load()
}

// texts are the rows of a table without their time; ms are these times in milliseconds.
func texts(r *recording.Recording, table uint8, except ...string) (rows []string, ms []int64) {
	for _, record := range r.Records(table) {
		for row := range int(record.NumRows()) {
			var cells []string
			for i, c := range record.Columns() {
				if i > 0 && !strings.Contains(strings.Join(except, " "), record.ColumnName(i)) {
					cells = append(cells, c.ValueStr(row))
				}
			}
			rows = append(rows, strings.Join(cells, " "))
			at := record.Column(0).(*array.Timestamp)
			ms = append(ms, at.Value(row).ToTime(at.DataType().(*arrow.TimestampType).Unit).UnixMilli())
		}
	}
	return rows, ms
}

func TestWhatIsRecordedIsPlayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		recorded := recordNode(t, "node-1", 70*time.Second)
		if got := recorded.Rows(schema.SamplesID); got < 8*68 || got > 8*70 {
			t.Fatalf("%d rows of gpu_samples of 8 GPUs in 70 s", got)
		}
		start := time.Now()
		again := newTape(t, "node-1")
		cfg := agent.DefaultConfig()
		cfg.Node.Name = "another"
		cfg.Tee = again.tee
		stats, err := agent.Replay(t.Context(), cfg, recorded, agent.ReplayOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if stats.Rows != uint64(recorded.Rows(schema.SamplesID)) || stats.GPUs != 8 || stats.MissedTicks != 0 || stats.DriverCalls != 0 {
			t.Errorf("stats %+v", stats)
		}
		if took := time.Since(start); took < 69*time.Second || took > 72*time.Second {
			t.Errorf("70 s were played in %s", took)
		}
		played := again.load()
		shift := start.UnixMilli() - recorded.First.UnixMilli()
		for _, table := range schema.Tables() {
			want, before := texts(recorded, table.ID, "reading_source", "content_hash")
			got, after := texts(played, table.ID, "reading_source", "content_hash")
			if table.ID == schema.EventsID { // the replay's own begin and end are there besides
				got, after = got[1:len(got)-1], after[1:len(after)-1]
			}
			if len(got) != len(want) {
				t.Errorf("%s: %d rows played, %d recorded", table.Name, len(got), len(want))
				continue
			}
			for i := range want {
				if got[i] != want[i] || after[i] != before[i]+shift {
					t.Errorf("%s, row %d: played %d %s\nrecorded %d %s", table.Name, i, after[i], got[i], before[i], want[i])
					break
				}
			}
		}
		sources, _ := texts(played, schema.NodeInventoryID)
		if len(sources) == 0 || !strings.Contains(sources[0], " node-1 recording aws ") {
			t.Errorf("the node says %q", sources)
		}
		checkKeys(t, again.keys, start)
	})
}

// checkKeys wants the batches of one new life of the recorded node.
func checkKeys(t *testing.T, keys []wire.Key, start time.Time) {
	t.Helper()
	next := map[uint8]uint64{}
	for _, k := range keys {
		next[k.Table]++
		if want := (wire.Key{Table: k.Table, Node: wire.NodeID("node-1"), Epoch: uint64(start.UnixMilli()), Sequence: next[k.Table]}); k != want {
			t.Errorf("batch %v, want %v", k, want)
		}
	}
}

// storing is a collector that stores everything.
type storing struct {
	flight.BaseFlightServer
	mu    sync.Mutex
	names map[string]bool // of the nodes
	rows  map[uint8]uint32
}

// DoPut implements flight.FlightServer.
func (s *storing) DoPut(put flight.FlightService_DoPutServer) error {
	first, err := put.Recv()
	if err != nil {
		return err
	}
	hello, err := wire.ParseHello(first.GetAppMetadata())
	if err != nil {
		return err
	}
	answer := wire.Answer{Kind: wire.Welcome, Window: 1 << 20}
	for {
		if err := put.Send(&flight.PutResult{AppMetadata: answer.Append(nil)}); err != nil {
			return err
		}
		data, err := put.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		identity, err := wire.ParseIdentity(data.GetAppMetadata(), data.GetDataHeader(), data.GetDataBody())
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.names[hello.Name] = true
		s.rows[identity.Table] += identity.Rows
		s.mu.Unlock()
		answer = wire.Answer{Kind: wire.Stored, Sequence: identity.Sequence, Window: 1 << 20}
	}
}

func startStoring(t *testing.T) (*storing, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &storing{names: map[string]bool{}, rows: map[uint8]uint32{}}
	server := grpc.NewServer()
	flight.RegisterFlightServiceServer(server, s)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, listener.Addr().String()
}

// TestEveryRecordingReachesACollector plays all recordings that are shipped, faster than they were made.
func TestEveryRecordingReachesACollector(t *testing.T) {
	const folder = "testdata/recordings"
	about, err := os.ReadFile(filepath.Join(folder, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob(filepath.Join(folder, "*.gfr"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no recording under %s: %v", folder, err)
	}
	for _, path := range paths {
		r, err := recording.Open(path)
		if err != nil {
			t.Error(err)
			continue
		}
		if name := filepath.Base(path); r.Cut != nil || !bytes.Contains(about, []byte(name)) {
			t.Errorf("%s: cut %v; README.md must name it", name, r.Cut)
		}
		collector, address := startStoring(t)
		cfg := agent.DefaultConfig()
		cfg.Collector = address
		stats, err := agent.Replay(t.Context(), cfg, r, agent.ReplayOptions{Speed: 1000})
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if stats.Rows == 0 || stats.BatchesStored != stats.BatchesQueued || stats.BatchesQueued == 0 {
			t.Errorf("%s: stats %+v", path, stats)
		}
		collector.mu.Lock()
		if !collector.names[r.Provenance.Node] || len(collector.names) != 1 {
			t.Errorf("%s: it came as %v", path, collector.names)
		}
		for _, table := range schema.Tables() {
			if got, want := int64(collector.rows[table.ID]), r.Rows(table.ID); table.ID != schema.EventsID && got != want {
				t.Errorf("%s: %d rows of %s arrived, want %d", path, got, table.Name, want)
			}
		}
		collector.mu.Unlock()
	}
}

func TestBatchesGoToTeeAndCollector(t *testing.T) {
	r, err := recording.Open("testdata/recordings/h100-80gb-hbm3-590.48.01.gfr")
	if err != nil {
		t.Fatal(err)
	}
	collector, address := startStoring(t)
	both := newTape(t, r.Provenance.Node)
	cfg := agent.DefaultConfig()
	cfg.Collector, cfg.Tee = address, both.tee
	if _, err := agent.Replay(t.Context(), cfg, r, agent.ReplayOptions{Speed: 1000}); err != nil {
		t.Fatal(err)
	}
	teed := both.load()
	collector.mu.Lock()
	defer collector.mu.Unlock()
	for _, table := range schema.Tables() {
		if got, want := int64(collector.rows[table.ID]), teed.Rows(table.ID); got != want {
			t.Errorf("%s: %d rows sent, %d given to the Tee", table.Name, got, want)
		}
	}
}

func TestReplayConfigurationIsChecked(t *testing.T) {
	r, err := recording.Open("testdata/recordings/h100-80gb-hbm3-590.48.01.gfr")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		change  func(*agent.Config)
		options agent.ReplayOptions
		want    string
	}{
		{"nowhere to", func(c *agent.Config) { c.Collector = "" }, agent.ReplayOptions{}, "nothing else wants the batches"},
		{"in plain text", func(c *agent.Config) { c.Collector = "collector.example:4490" }, agent.ReplayOptions{}, "plain text"},
		{"backwards", nil, agent.ReplayOptions{Speed: -1}, "speed of -1"},
		{"at once", nil, agent.ReplayOptions{Speed: math.Inf(1)}, "speed of +Inf"},
		{"no number", nil, agent.ReplayOptions{Speed: math.NaN()}, "speed of NaN"},
		{"into the future", nil, agent.ReplayOptions{Loop: true, Speed: 2}, "lie in the future"},
		{"never sent", func(c *agent.Config) { c.Flush = 0 }, agent.ReplayOptions{}, "flush of 0s"},
	}
	for _, tt := range tests {
		cfg := agent.DefaultConfig()
		cfg.Collector = "127.0.0.1:4490"
		if tt.change != nil {
			tt.change(&cfg)
		}
		_, err := agent.Replay(t.Context(), cfg, r, tt.options)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestAnAgentWithoutCollectorNeedsATee(t *testing.T) {
	cfg := agent.DefaultConfig()
	cfg.Node.Name = "node-1"
	cfg.Open = func() (gpu.Driver, error) { return nil, errors.New("none") }
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "nothing else wants the batches") {
		t.Errorf("neither: %v", err)
	}
	cfg.Tee = func(*wire.Batch) {}
	if err := cfg.Validate(); err != nil {
		t.Errorf("with a Tee: %v", err)
	}
}
