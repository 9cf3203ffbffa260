// SPDX-License-Identifier: Apache-2.0

package batchtrace

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"

	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var key = wire.Key{Table: 1, Node: 0xdeadbeef, Epoch: 1_700_000_000_000, Sequence: 42}

// TestIDsNeverChange: programs of different versions meet in one trace.
func TestIDsNeverChange(t *testing.T) {
	got := []any{TraceID(key), rootID(key).String(), hash(seedChoice, key)}
	want := []any{"531e8aa60433aafb917fb3500f952ad7", "33549432c02aaac5", uint64(5295498659137669257)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ids of a batch (-want +got):\n%s", diff)
	}
}

// TestOneInSoMany: about as many as said are chosen, of nodes and of sequences alike, and the fewer are among the more.
func TestOneInSoMany(t *testing.T) {
	const all = 200_000
	count := make(map[uint64]int)
	for i := range uint64(all) {
		k := wire.Key{Table: 1 + uint8(i%8), Node: i % 1000, Epoch: 1_700_000_000_000, Sequence: 1 + i/1000}
		for _, every := range []uint64{1, 10, 1000} {
			if chosen(k, every) {
				count[every]++
			} else if every == 10 && chosen(k, 1000) {
				t.Errorf("%v is one in 1000 and not one in 10", k)
			}
		}
	}
	if count[1] != all || count[10] < all/10*9/10 || count[10] > all/10*11/10 || count[1000] < 130 || count[1000] > 270 {
		t.Errorf("of %d batches were chosen %v", all, count)
	}
}

// recorded traces every batch into memory.
func recorded(t *testing.T) (*Tracer, *tracetest.InMemoryExporter) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans), sdktrace.WithIDGenerator(IDs{}))
	t.Cleanup(func() {
		if err := provider.Shutdown(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return New(provider, 1), spans
}

func TestOneTraceOfBothSides(t *testing.T) {
	agent, ofAgent := recorded(t)
	collector, ofCollector := recorded(t)
	start := time.Now().Add(-time.Minute)
	agent.Began(key, start)
	agent.Of(key).Step("sample", start, start.Add(time.Second), nil)
	span := collector.Of(key).Collect("collect", start.Add(2*time.Second), 1)
	insert := span.Context()
	span.Lap("insert", errors.New("not now"))
	span.Lap("insert", nil)
	span.End(nil)
	agent.Of(key).End(time.Now(), time.Now(), nil)
	agent.Of(key).End(start.Add(time.Second), time.Now(), nil) // as after a restart: the beginning is not known any more
	parents := make(map[string]string)
	for _, s := range append(ofAgent.GetSpans(), ofCollector.GetSpans()...) {
		if s.SpanContext.TraceID().String() != TraceID(key) {
			t.Errorf("%s is in trace %s", s.Name, s.SpanContext.TraceID())
		}
		parents[s.Name] = s.Parent.SpanID().String()
		if s.Name == "batch" && (s.Parent.IsValid() || s.SpanContext.SpanID() != rootID(key)) {
			t.Errorf("the first span %s has the parent %s", s.SpanContext.SpanID(), s.Parent.SpanID())
		}
	}
	inserts := ofCollector.GetSpans()[:2]
	if inserts[0].SpanContext.SpanID() != insert.SpanID() || inserts[0].Status.Description != "not now" || inserts[1].SpanContext.SpanID() == insert.SpanID() {
		t.Errorf("tries to insert: %v", inserts)
	}
	if !inserts[1].StartTime.Equal(inserts[0].EndTime) {
		t.Error("there is a hole between two laps")
	}
	collect := ofCollector.GetSpans()[2].SpanContext.SpanID().String()
	want := map[string]string{"batch": "0000000000000000", "sample": rootID(key).String(), "collect": rootID(key).String(), "insert": collect}
	if diff := cmp.Diff(want, parents); diff != "" {
		t.Errorf("parents (-want +got):\n%s", diff)
	}
	whole := ofAgent.GetSpans()[1:]
	if !whole[0].StartTime.Equal(start) || !whole[1].StartTime.Equal(start.Add(time.Second)) {
		t.Errorf("the way began at %s and %s", whole[0].StartTime, whole[1].StartTime)
	}
}

// TestCollectorAlone: what the agent does not trace has no parent that nobody knows.
func TestCollectorAlone(t *testing.T) {
	tracer, spans := recorded(t)
	for _, every := range []uint64{0, 1 << 60} {
		tracer.Of(key).Collect("collect", time.Now(), every).End(nil)
	}
	for _, s := range spans.GetSpans() {
		if s.Parent.IsValid() || s.SpanContext.TraceID().String() != TraceID(key) {
			t.Errorf("%s has the parent %s in trace %s", s.Name, s.Parent.SpanID(), s.SpanContext.TraceID())
		}
	}
}

// TestNothingCostsNothing: whoever does not trace, and whoever traces others, allocates nothing.
func TestNothingCostsNothing(t *testing.T) {
	rare, _ := recorded(t)
	rare.every = 1 << 62
	for name, tracer := range map[string]*Tracer{"no tracer": New(nil, 1000), "one in none": New(nil, 0), "another batch": rare} {
		if n := testing.AllocsPerRun(100, func() {
			tracer.Began(key, time.Time{})
			way := tracer.Of(key)
			way.Step("sample", time.Time{}, time.Time{}, nil)
			span := way.Collect("collect", time.Time{}, tracer.Every())
			span.Lap("check", nil)
			if span.Context().IsValid() {
				t.Error("a context of nothing")
			}
			span.End(nil)
			way.End(time.Time{}, time.Time{}, nil)
		}); n != 0 {
			t.Errorf("%s: %.0f allocations", name, n)
		}
	}
}

func TestMemoryOfBeginningsIsBounded(t *testing.T) {
	tracer, _ := recorded(t)
	for i := range uint64(3 * maxBegan) {
		tracer.Began(wire.Key{Sequence: i}, time.Now())
	}
	if len(tracer.began) > maxBegan {
		t.Errorf("%d beginnings are kept", len(tracer.began))
	}
}

func TestForeignSpansHaveIDs(t *testing.T) {
	trace, span := IDs{}.NewIDs(t.Context())
	if !trace.IsValid() || !span.IsValid() || !(IDs{}).NewSpanID(t.Context(), trace).IsValid() {
		t.Error("no ids")
	}
}
