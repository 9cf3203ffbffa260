// SPDX-License-Identifier: Apache-2.0

package loadgen

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// template is one batch that many nodes send, each with its own GPUs, times and identity. Between two of them only
// 16 bytes a row change; what costs is the compression, as in an agent. Its readings are those of one simulated node:
// two GPUs far from each other have the same, one GPU has none twice within what was simulated.
type template struct {
	table uint8
	rows  int64
	start time.Time     // of the flush that it is of
	flush time.Duration // how long that lasts
	times []int64       // of each row after start, milliseconds
	gpu   []int         // of each row: which of the node's
	gpus  int

	mu           sync.Mutex // guards what lies below, from the patching to the end of the compression
	header, body []byte
	time, id     []byte // the values of two columns, within body
	encoder      *wire.Encoder
}

// newTemplate takes a batch of gpu_samples or gpu_health apart. Flushes begin at multiples of flush after begin.
func newTemplate(b *wire.Batch, begin time.Time, flush time.Duration) (*template, error) {
	table, ok := schema.TableByID(b.Identity.Table)
	if !ok {
		return nil, fmt.Errorf("make template of batch %v: no such table", b.Identity.Key())
	}
	z, err := wire.NewDecompressor()
	if err != nil {
		return nil, err
	}
	defer z.Close()
	decoder := wire.NewDecoder(table.WireSchema(), z)
	record, err := decoder.Decode(b.Identity, b.Header, b.Body)
	if err != nil {
		return nil, fmt.Errorf("make template: %w", err)
	}
	defer record.Release()
	plain, err := wire.EncodePlain(record, b.Identity)
	if err != nil {
		return nil, fmt.Errorf("make template: %w", err)
	}
	// The columns of an uncompressed batch lie in its body: what is written to them is in the batch.
	columns, err := decoder.Columns(plain.Identity, plain.Header, plain.Body)
	if err != nil {
		return nil, fmt.Errorf("make template: %w", err)
	}
	t := &template{table: table.ID, rows: record.NumRows(), flush: flush, header: plain.Header, body: plain.Body}
	if t.encoder, err = wire.NewEncoder(); err != nil {
		return nil, err
	}
	for i, c := range table.WireColumns() {
		switch c.Name {
		case schema.ColumnTime:
			t.time = columns.Column(i).Values
		case schema.ColumnGPU:
			t.id = columns.Column(i).Values
		}
	}
	first := time.UnixMilli(int64(binary.LittleEndian.Uint64(t.time)))
	t.start = first.Add(-(first.Sub(begin) % flush))
	t.readRows()
	return t, nil
}

// readRows notes which row is of which GPU and time.
func (t *template) readRows() {
	var seen []uint64
	for at := 0; at < len(t.id); at += 8 {
		id := binary.LittleEndian.Uint64(t.id[at:])
		place := slices.Index(seen, id)
		if place < 0 {
			place = len(seen)
			seen = append(seen, id)
		}
		t.gpu = append(t.gpu, place)
		t.gpus = len(seen)
		t.times = append(t.times, int64(binary.LittleEndian.Uint64(t.time[at:]))-t.start.UnixMilli())
	}
}

// batch is the template as a node sends it of a flush that began at start.
func (t *template) batch(identity wire.Identity, gpus []uint64, start time.Time) (*wire.Batch, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	from := start.UnixMilli()
	for row, place := range t.gpu {
		binary.LittleEndian.PutUint64(t.time[8*row:], uint64(from+t.times[row]))
		binary.LittleEndian.PutUint64(t.id[8*row:], gpus[place])
	}
	identity.Table = t.table
	return t.encoder.Pack(t.header, t.body, t.rows, identity)
}
