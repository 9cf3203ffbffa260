// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/klauspost/compress/zstd"
	"go.opentelemetry.io/otel/sdk/metric"
	"google.golang.org/grpc/codes"

	"github.com/gpufleet/gpufleet/collector/internal/batchtest"
	"github.com/gpufleet/gpufleet/collector/internal/index"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// forge is a batch that says of itself what it likes, with the right checksum.
func forge(i wire.Identity, header, body []byte) *flight.FlightData {
	return &flight.FlightData{AppMetadata: i.AppendTo(nil, header, body), DataHeader: header, DataBody: body}
}

func (a *agent) identity(sequence uint64) wire.Identity {
	k := a.key(sequence)
	return wire.Identity{Codec: wire.Zstd, Table: k.Table, Node: k.Node, Epoch: k.Epoch, Sequence: k.Sequence, Rows: 5, Size: 1000}
}

// TestForgedIdentity: what an agent may not say of a batch ends its stream, and is kept under its own name.
func TestForgedIdentity(t *testing.T) {
	for name, c := range map[string]struct {
		change   func(*wire.Identity)
		code     codes.Code
		verified bool // its sequence can be told
	}{
		"another node":        {func(i *wire.Identity) { i.Node = wire.NodeID("node-2") }, codes.PermissionDenied, true},
		"another epoch":       {func(i *wire.Identity) { i.Epoch++ }, codes.PermissionDenied, true},
		"another table":       {func(i *wire.Identity) { i.Table = schema.HealthID }, codes.PermissionDenied, true},
		"no such table":       {func(i *wire.Identity) { i.Table = 200 }, codes.PermissionDenied, true},
		"sequence far ahead":  {func(i *wire.Identity) { i.Sequence = 2 + index.MaxJump }, codes.InvalidArgument, true},
		"the last sequence":   {func(i *wire.Identity) { i.Sequence = 1<<64 - 1 }, codes.InvalidArgument, true},
		"sequence 0":          {func(i *wire.Identity) { i.Sequence = 0 }, codes.InvalidArgument, false},
		"no rows":             {func(i *wire.Identity) { i.Rows = 0 }, codes.InvalidArgument, false},
		"too many rows":       {func(i *wire.Identity) { i.Rows = wire.MaxRows + 1 }, codes.InvalidArgument, false},
		"too large a frame":   {func(i *wire.Identity) { i.Size = wire.MaxFrameBytes + 1 }, codes.InvalidArgument, false},
		"codec of the future": {func(i *wire.Identity) { i.Codec = 7 }, codes.InvalidArgument, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := serve(t, nil)
			a := f.agent(t, nil)
			i := a.identity(1)
			c.change(&i)
			sent := forge(i, nil, a.batch(1).DataBody)
			a.send(sent)
			a.wantEnd(c.code)
			own := a.key(0)
			if c.verified {
				own = a.key(i.Sequence)
			}
			f.wantQuarantined(t, sent, own)
			if len(f.submitted()) != 0 {
				t.Errorf("submitted %v", f.submitted())
			}
			b := f.agent(t, nil)
			b.send(b.batch(1))
			b.want(wire.Stored, 1)
		})
	}
}

func TestNotABatch(t *testing.T) {
	for name, sent := range map[string]*flight.FlightData{
		"nothing":         {},
		"short identity":  {AppMetadata: []byte("GFB\x01")},
		"another hello":   {AppMetadata: wire.Hello{Table: 4, Epoch: 1, Oldest: 1, Name: "x"}.Append(nil)},
		"a schema":        {DataHeader: schema.Tables()[0].SchemaMessage()},
		"text":            {AppMetadata: bytes.Repeat([]byte("x"), 44), DataBody: []byte("hello")},
		"a wrong version": {AppMetadata: append([]byte("GFB\x02"), make([]byte, 40)...)},
	} {
		t.Run(name, func(t *testing.T) {
			f := serve(t, nil)
			a := f.agent(t, nil)
			a.send(sent)
			a.wantEnd(codes.InvalidArgument)
			f.wantQuarantined(t, sent, a.key(0))
		})
	}
}

// TestSequencesGoOn: a stream may live for longer than a sequence may jump.
func TestSequencesGoOn(t *testing.T) {
	f := serve(t, nil)
	a := f.agent(t, nil)
	for _, s := range []uint64{1, 1 + index.MaxJump, 1 + 2*index.MaxJump, 2 + 2*index.MaxJump, 2} {
		a.send(a.batch(s))
		a.want(wire.Stored, s)
	}
}

// TestForgedBody: a body that is not what its identity says is rejected, and the stream goes on.
func TestForgedBody(t *testing.T) {
	f := serve(t, nil)
	a := f.agent(t, nil)
	real := batchtest.RecordAt(a.table, 1, noon)
	whole := batchtest.Encode(t, real, a.key(1))
	other := batchtest.Encode(t, batchtest.RecordAt(batchtest.Table(t, schema.SamplesID), 1, noon), a.key(1))
	plain, err := wire.EncodePlain(real, wire.Identity{Table: a.table.ID, Node: wire.NodeID(a.name), Epoch: a.epoch, Sequence: 1})
	if err != nil {
		t.Fatal(err)
	}
	for name, sent := range map[string]*flight.FlightData{
		"garbage":             forge(whole.Identity, nil, []byte("not zstd at all")),
		"empty":               forge(whole.Identity, nil, nil),
		"cut":                 forge(whole.Identity, nil, whole.Body[:len(whole.Body)/2]),
		"header beside":       forge(whole.Identity, plain.Header, whole.Body),
		"of another table":    forge(other.Identity, nil, other.Body),
		"more rows announced": forge(with(whole.Identity, func(i *wire.Identity) { i.Rows++ }), nil, whole.Body),
		"smaller announced":   forge(with(whole.Identity, func(i *wire.Identity) { i.Size-- }), nil, whole.Body),
		"larger announced":    forge(with(whole.Identity, func(i *wire.Identity) { i.Size++ }), nil, whole.Body),
		"other codec":         forge(with(whole.Identity, func(i *wire.Identity) { i.Codec, i.Size = wire.Uncompressed, 0 }), nil, whole.Body),
		"plain, cut":          forge(plain.Identity, plain.Header, plain.Body[:len(plain.Body)-8]),
		"plain, no header":    forge(plain.Identity, nil, plain.Body),
		"plain, a schema":     forge(plain.Identity, a.table.SchemaMessage(), plain.Body),
	} {
		a.send(sent)
		if answer := a.want(wire.Rejected, 1); answer.Reason == "" {
			t.Errorf("%s: no reason", name)
		}
		f.wantQuarantined(t, sent, a.key(1))
	}
	if keys := f.submitted(); len(keys) != 0 {
		t.Errorf("submitted %v", keys)
	}
	a.send(data(plain))
	a.want(wire.Stored, 1)
}

func with(i wire.Identity, change func(*wire.Identity)) wire.Identity {
	change(&i)
	return i
}

// TestBombs: what unpacks to far more than it says costs no more than it says.
func TestBombs(t *testing.T) {
	var frames [2]bytes.Buffer // without and with the true size in the frame
	zeros := make([]byte, 256<<20)
	for i, option := range []zstd.EOption{zstd.WithSingleSegment(false), zstd.WithSingleSegment(true)} {
		w, err := zstd.NewWriter(&frames[i], option, zstd.WithWindowSize(8<<20))
		if err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			frames[i].Write(w.EncodeAll(zeros, nil))
		} else if _, err := w.Write(zeros); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	f := serve(t, nil)
	a := f.agent(t, nil)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range frames {
		for _, size := range []uint32{0, 1000, 1 << 20} {
			a.send(forge(with(a.identity(1), func(i *wire.Identity) { i.Size = size }), nil, frames[i].Bytes()))
			a.want(wire.Rejected, 1)
		}
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
		t.Errorf("bombs of %d bytes made the process allocate %d MiB", frames[0].Len(), took>>20)
	}
}

// TestMessageTooLarge: gRPC itself refuses what is larger than any batch.
func TestMessageTooLarge(t *testing.T) {
	f := serve(t, nil)
	a := f.agent(t, nil)
	a.send(forge(a.identity(1), nil, make([]byte, wire.MaxMessageBytes+1)))
	a.wantEnd(codes.ResourceExhausted)
	b := f.agent(t, nil)
	b.send(b.batch(1))
	b.want(wire.Stored, 1)
}

// TestForgedSchema opens streams with schemas that are not the collector's.
func TestForgedSchema(t *testing.T) {
	real := schema.Tables()[schema.EventsID-1].SchemaMessage()
	columns := len(schema.Tables()[schema.EventsID-1].WireColumns())
	huge := bytes.Clone(real)
	count := binary.LittleEndian.AppendUint32(nil, uint32(columns))
	at := bytes.Index(huge, count)
	for at >= 0 { // the number of columns is one of these
		binary.LittleEndian.PutUint32(huge[at:], 10_000_000)
		at = bytes.Index(huge, count)
	}
	for name, message := range map[string][]byte{
		"none": nil, "ten million columns": huge, "of another table": schema.Tables()[0].SchemaMessage(),
		"cut": real[:len(real)-8], "text": []byte("schema"),
	} {
		t.Run(name, func(t *testing.T) {
			f := serve(t, nil)
			a := f.newAgent(t, f.dial(t), wire.NodeHeader, "node-1")
			first := a.first()
			first.DataHeader = message
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			a.send(first)
			if reason := a.wantEnd(codes.FailedPrecondition); !strings.Contains(reason, "gpu_events") {
				t.Error(reason)
			}
			runtime.ReadMemStats(&after)
			if took := after.TotalAlloc - before.TotalAlloc; took > 16<<20 {
				t.Errorf("a schema of %d bytes made the process allocate %d MiB", len(message), took>>20)
			}
		})
	}
}

func TestBadHello(t *testing.T) {
	for name, c := range map[string]struct {
		change func(a *agent, first *flight.FlightData)
		code   codes.Code
	}{
		"nothing":        {func(_ *agent, first *flight.FlightData) { *first = flight.FlightData{} }, codes.InvalidArgument},
		"a batch":        {func(a *agent, first *flight.FlightData) { *first = *a.batch(1) }, codes.InvalidArgument},
		"cut":            {func(_ *agent, first *flight.FlightData) { first.AppMetadata = first.AppMetadata[:20] }, codes.InvalidArgument},
		"too long":       {func(_ *agent, first *flight.FlightData) { first.AppMetadata = append(first.AppMetadata, 'x') }, codes.InvalidArgument},
		"epoch 0":        {hello(wire.Hello{Table: schema.EventsID, Oldest: 1, Name: "node-1"}), codes.InvalidArgument},
		"oldest 0":       {hello(wire.Hello{Table: schema.EventsID, Epoch: 1, Name: "node-1"}), codes.InvalidArgument},
		"no name":        {hello(wire.Hello{Table: schema.EventsID, Epoch: 1, Oldest: 1}), codes.InvalidArgument},
		"a path as name": {hello(wire.Hello{Table: schema.EventsID, Epoch: 1, Oldest: 1, Name: "../x"}), codes.InvalidArgument},
		"another node":   {hello(wire.Hello{Table: schema.EventsID, Epoch: 1, Oldest: 1, Name: "node-2"}), codes.PermissionDenied},
		"no such table":  {hello(wire.Hello{Table: 99, Epoch: 1, Oldest: 1, Name: "node-1"}), codes.NotFound},
		"the ledger":     {hello(wire.Hello{Table: 0, Epoch: 1, Oldest: 1, Name: "node-1"}), codes.NotFound},
		"another's path": {func(_ *agent, first *flight.FlightData) { first.FlightDescriptor.Path[0] = "gpu_health" }, codes.NotFound},
		"no path":        {func(_ *agent, first *flight.FlightData) { first.FlightDescriptor = nil }, codes.NotFound},
		"more than a path": {func(_ *agent, first *flight.FlightData) {
			first.FlightDescriptor.Path = append(first.FlightDescriptor.Path, "x")
		}, codes.NotFound},
	} {
		t.Run(name, func(t *testing.T) {
			f := serve(t, nil)
			a := f.newAgent(t, f.dial(t), wire.NodeHeader, "node-1")
			first := a.first()
			c.change(a, first)
			a.send(first)
			a.send(a.batch(1))
			a.wantEnd(c.code)
			if len(f.submitted())+len(f.files(t)) != 0 {
				t.Errorf("submitted %v, quarantined %v", f.submitted(), f.files(t))
			}
		})
	}
}

func hello(h wire.Hello) func(*agent, *flight.FlightData) {
	return func(_ *agent, first *flight.FlightData) { first.AppMetadata = h.Append(nil) }
}

func TestSlowHello(t *testing.T) {
	f := serve(t, func(cfg *Config) { cfg.limits.helloWait = 50 * time.Millisecond })
	a := f.newAgent(t, f.dial(t), wire.NodeHeader, "node-1")
	if reason := a.wantEnd(codes.DeadlineExceeded); !strings.Contains(reason, "hello") {
		t.Error(reason)
	}
}

func TestAgentLeavesBeforeItsHello(t *testing.T) {
	f := serve(t, nil)
	a := f.newAgent(t, f.dial(t), wire.NodeHeader, "node-1")
	if err := a.put.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.put.Recv(); err == nil {
		t.Error("a stream without a hello was answered")
	}
}

func TestLedgerIsAwayAtAHello(t *testing.T) {
	f := serve(t, func(cfg *Config) { cfg.Name = "test" })
	f.set(func() { f.away = errors.New("ClickHouse is away") })
	a := f.newAgent(t, f.dial(t), wire.NodeHeader, "node-1")
	a.hello()
	if reason := a.wantEnd(codes.Unavailable); !strings.Contains(reason, "ClickHouse is away") {
		t.Error(reason)
	}
	f.set(func() { f.away = nil })
	b := f.agent(t, nil)
	b.send(b.batch(1))
	b.want(wire.Stored, 1)
}

// TestAnswersAreNotRead sends and never receives.
func TestAnswersAreNotRead(t *testing.T) {
	reader := metric.NewManualReader()
	provider := metric.NewMeterProvider(metric.WithReader(reader))
	f := serve(t, func(cfg *Config) {
		cfg.Meter = provider.Meter("test")
		cfg.limits.maxAnswers, cfg.limits.stopGrace = 10_000, 10*time.Millisecond
	})
	a := f.agent(t, nil)
	sent := a.batch(1)
	var sending sync.WaitGroup
	sending.Go(func() {
		for a.put.Send(sent) == nil { // until the collector has had enough
		}
	})
	// Nothing is read until the collector has ended the stream, though an answer is stuck in its Send by then.
	for counters(t, reader)["gpufleet.collector.broken.streams[code=ResourceExhausted]"] == 0 {
		select {
		case <-a.put.Context().Done():
			t.Fatal("the collector keeps the stream")
		case <-time.After(time.Millisecond):
		}
	}
	a.wantEnd(codes.ResourceExhausted)
	sending.Wait()
	if keys := f.submitted(); !slices.Equal(keys, []wire.Key{a.key(1)}) {
		t.Errorf("submitted %v", keys)
	}
}
