// SPDX-License-Identifier: Apache-2.0

// Package batchtrace writes traces along the way of some batches, one in so many, from the tick to the answer that they
// are stored.
//
// Which batches these are, the id of the trace and that of its first span follow from the batch's identity. So an agent and
// a collector choose the same ones and their spans join in one trace, however often the batch is sent, after a restart of
// either, and with nothing more on the wire than a header that says that the agent traces:
//
//	batch ───────────────────────────────────────────────── agent: from its first tick until it is stored
//	├ sample ── encode ── spool ── send ─────────────────── agent
//	└ collect ───────────────────────────────────────────── collector: from when it came until it is answered
//	  └ check ── log ── wait ── insert ── ledger             an insert's context goes on to ClickHouse
//
// All methods of a nil Tracer, Way and Span do nothing, so that whoever traces nothing pays for a comparison. Spans are
// written when they have ended, with both their times; nothing is held open but a Span's own few words.
package batchtrace

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// DefaultEvery is of how many batches one is traced where nothing else is said: of 100,000 GPUs that is two or three a
// second.
const DefaultEvery = 1000

// Tracer traces one batch in so many. It is safe for use by several goroutines.
type Tracer struct {
	tracer trace.Tracer
	every  uint64

	mu    sync.Mutex // guards began
	began map[wire.Key]time.Time
}

// maxBegan bounds the memory of batches that began and have not come to an end, as while a collector is away.
const maxBegan = 4096

// New traces one batch in so many with spans of the provider, whose ids must come from IDs; nil if there is no provider,
// or if it is one in none.
func New(provider trace.TracerProvider, every uint64) *Tracer {
	if provider == nil || every == 0 {
		return nil
	}
	return &Tracer{tracer: provider.Tracer("github.com/gpufleet/gpufleet"), every: every, began: make(map[wire.Key]time.Time)}
}

// Every is of how many batches one is traced; 0: none is.
func (t *Tracer) Every() uint64 {
	if t == nil {
		return 0
	}
	return t.every
}

// Of is the way of a batch; nil if it is not traced.
func (t *Tracer) Of(k wire.Key) *Way {
	if t == nil || !chosen(k, t.every) {
		return nil
	}
	return &Way{tracer: t, key: k}
}

// Began notes when a batch began, if it is traced.
func (t *Tracer) Began(k wire.Key, at time.Time) {
	if t == nil || !chosen(k, t.every) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.began) >= maxBegan {
		clear(t.began)
	}
	t.began[k] = at
}

// beginning takes what Began has noted.
func (t *Tracer) beginning(k wire.Key) (at time.Time, noted bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at, noted = t.began[k]
	delete(t.began, k)
	return at, noted
}

// Way is that of one traced batch.
type Way struct {
	tracer *Tracer
	key    wire.Key
}

// Step writes a span of the agent that has ended.
func (w *Way) Step(name string, from, to time.Time, err error, more ...attribute.KeyValue) {
	if w == nil {
		return
	}
	w.write(span{name: name, id: newSpanID(), parent: rootID(w.key), from: from, to: to, err: err, more: more})
}

// End writes the span of the whole way. It began when Began was told, or at the given time if that was in an earlier life.
func (w *Way) End(from, to time.Time, err error, more ...attribute.KeyValue) {
	if w == nil {
		return
	}
	if at, noted := w.tracer.beginning(w.key); noted {
		from = at
	}
	w.write(span{name: "batch", id: rootID(w.key), from: from, to: to, err: err, more: more})
}

// Collect begins the span of the collector. agentEvery is of how many batches the agent traces one: the span is part of the
// agent's, if that one has traced this batch.
func (w *Way) Collect(name string, at time.Time, agentEvery uint64) *Span {
	if w == nil {
		return nil
	}
	s := &Span{way: w, name: name, id: newSpanID(), lap: newSpanID(), from: at, mark: at}
	if agentEvery > 0 && chosen(w.key, agentEvery) {
		s.parent = rootID(w.key)
	}
	return s
}

// Span is one that a batch takes through the collector, in laps. It belongs to whoever has the batch.
type Span struct {
	way        *Way
	name       string
	id, parent trace.SpanID
	lap        trace.SpanID // of the lap that has begun
	from, mark time.Time    // mark: when it has
}

// Lap writes the lap that has just ended, and begins another one.
func (s *Span) Lap(name string, err error, more ...attribute.KeyValue) {
	if s == nil {
		return
	}
	now := time.Now()
	s.way.write(span{name: name, id: s.lap, parent: s.id, from: s.mark, to: now, err: err, more: more})
	s.mark, s.lap = now, newSpanID()
}

// Context is that of the present lap, for whom it asks; not valid if nothing is traced.
func (s *Span) Context() trace.SpanContext {
	if s == nil {
		return trace.SpanContext{}
	}
	return contextOf(traceID(s.way.key), s.lap)
}

// End writes the span.
func (s *Span) End(err error, more ...attribute.KeyValue) {
	if s == nil {
		return
	}
	s.way.write(span{name: s.name, id: s.id, parent: s.parent, from: s.from, to: time.Now(), err: err, more: more})
}

// span is one that has ended.
type span struct {
	name       string
	id, parent trace.SpanID // no parent: it is the first
	from, to   time.Time
	err        error
	more       []attribute.KeyValue
}

func (w *Way) write(s span) {
	id := traceID(w.key)
	ctx := context.WithValue(context.Background(), idsKey{}, ids{id, s.id})
	options := []trace.SpanStartOption{trace.WithTimestamp(s.from), trace.WithAttributes(w.attributes()...), trace.WithAttributes(s.more...)}
	if s.parent.IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, contextOf(id, s.parent))
	} else {
		options = append(options, trace.WithNewRoot())
	}
	_, open := w.tracer.tracer.Start(ctx, s.name, options...)
	if s.err != nil {
		open.SetStatus(codes.Error, s.err.Error())
	}
	open.End(trace.WithTimestamp(s.to))
}

func (w *Way) attributes() []attribute.KeyValue {
	table, _ := schema.TableByID(w.key.Table)
	return []attribute.KeyValue{
		attribute.String("gpufleet.table", table.Name), attribute.String("gpufleet.batch", w.key.String()),
		attribute.Int64("gpufleet.sequence", int64(min(w.key.Sequence, math.MaxInt64))),
	}
}

func contextOf(id trace.TraceID, span trace.SpanID) trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: span, TraceFlags: trace.FlagsSampled, Remote: true})
}

func newSpanID() (id trace.SpanID) {
	for !id.IsValid() {
		put(id[:], rand.Uint64())
	}
	return id
}
