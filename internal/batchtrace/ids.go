// SPDX-License-Identifier: Apache-2.0

package batchtrace

import (
	"context"
	"encoding/binary"
	"math"
	"math/rand/v2"

	"go.opentelemetry.io/otel/trace"

	"github.com/gpufleet/gpufleet/schema/wire"
)

// What follows from an identity is the same in every version of every program, or their spans do not meet: these seeds
// and mix never change.
const (
	seedChoice uint64 = 0x67706675666c6565 // "gpufflee"
	seedTrace1 uint64 = 0x9ae16a3b2f90404f
	seedTrace2 uint64 = 0xc949d7c7509e6557
	seedRoot   uint64 = 0xff51afd7ed558ccd
)

// hash mixes all of a key into a number. It allocates nothing.
func hash(seed uint64, k wire.Key) uint64 {
	h := mix(seed ^ uint64(k.Table))
	h = mix(h ^ k.Node)
	h = mix(h ^ k.Epoch)
	return mix(h ^ k.Sequence)
}

// mix is the finaliser of SplitMix64: each bit of the result depends on each bit of the input.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// chosen tells whether a batch is one in so many. Those of one in 1000 are among those of one in 10.
func chosen(k wire.Key, every uint64) bool { return hash(seedChoice, k) <= math.MaxUint64/every }

// TraceID is that of a batch, traced or not.
func TraceID(k wire.Key) string { return traceID(k).String() }

func traceID(k wire.Key) (id trace.TraceID) {
	put(id[:8], hash(seedTrace1, k))
	put(id[8:], hash(seedTrace2, k)|1) // never all zero
	return id
}

// rootID is the id of the span of the whole way.
func rootID(k wire.Key) (id trace.SpanID) {
	put(id[:], hash(seedRoot, k)|1)
	return id
}

func put(into []byte, x uint64) { binary.BigEndian.PutUint64(into, x) }

type idsKey struct{}

// ids are those that a span is to have.
type ids struct {
	trace trace.TraceID
	span  trace.SpanID
}

// IDs gives spans the ids that this package has chosen for them, and others ids by chance. A provider that New is given
// must use it as its IDGenerator.
type IDs struct{}

// NewIDs implements the SDK's IDGenerator.
func (IDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if own, ok := ctx.Value(idsKey{}).(ids); ok {
		return own.trace, own.span
	}
	var id trace.TraceID
	put(id[:8], rand.Uint64())
	put(id[8:], rand.Uint64()|1)
	return id, newSpanID()
}

// NewSpanID implements the SDK's IDGenerator.
func (IDs) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	if own, ok := ctx.Value(idsKey{}).(ids); ok {
		return own.span
	}
	return newSpanID()
}
