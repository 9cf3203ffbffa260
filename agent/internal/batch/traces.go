// SPDX-License-Identifier: Apache-2.0

package batch

import (
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/gpufleet/gpufleet/schema/wire"
)

// clock is the time, if anything is traced.
func (b *Builder) clock() (now time.Time) {
	if b.cfg.Trace != nil {
		now = time.Now()
	}
	return now
}

// traceOpened notes when the batch of a table began, whose first row is about to come.
func (b *Builder) traceOpened(t *table) {
	if b.cfg.Trace == nil {
		return
	}
	t.opened = time.Now()
	b.cfg.Trace.Began(wire.Key{Table: t.id, Node: b.cfg.Node, Epoch: b.cfg.Epoch, Sequence: t.sequence + 1}, t.opened)
}

// traceClosed writes that a batch was gathered until it was full, and then encoded.
func (b *Builder) traceClosed(t *table, made *wire.Batch, full time.Time) {
	way := b.cfg.Trace.Of(made.Identity.Key())
	if way == nil {
		return
	}
	way.Step("sample", t.opened, full, nil, attribute.Int("gpufleet.rows", int(made.Identity.Rows)))
	way.Step("encode", full, time.Now(), nil, attribute.Int("gpufleet.bytes", made.Bytes()))
}
