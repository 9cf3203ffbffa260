// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/gpufleet/gpufleet/agent/recording"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Reader reads the batches of one queue. It belongs to one goroutine and must be closed.
type Reader struct {
	queue *Queue
	open  *segment // whose file is open
	file  file
	older *older
}

// NewReader makes a reader.
func (q *Queue) NewReader() *Reader { return &Reader{queue: q} }

// Read returns a batch that Next has named; nil if it is not to be sent now: it was settled or dropped
// meanwhile, it is damaged, or its file cannot be read. All of that was counted and said.
func (r *Reader) Read(i Item) *wire.Batch {
	if i.batch != nil {
		return i.batch
	}
	b, err := r.read(i)
	switch {
	case err == nil:
		return b
	case errors.Is(err, fs.ErrNotExist):
		r.queue.vanished(i.segment, err)
	case errors.Is(err, errBad):
		r.queue.spoilt(i, err)
	default:
		r.queue.unreadable(i, err)
	}
	r.Close() // the next try opens the file anew
	return nil
}

// Close closes what is open.
func (r *Reader) Close() {
	if r.file != nil {
		_ = r.file.Close() // it was only read
	}
	if r.older != nil {
		r.older.zstd.Close()
	}
	r.file, r.open, r.older = nil, nil, nil
}

func (r *Reader) read(i Item) (*wire.Batch, error) {
	if r.open != i.segment {
		r.Close()
		f, err := i.segment.folder.open(i.segment.name, os.O_RDONLY)
		if err != nil {
			return nil, err
		}
		r.open, r.file = i.segment, f
	}
	offset := r.queue.offset(i)
	rec, err := records.ReadAt(r.file, offset)
	if err != nil {
		return nil, err
	}
	batch, err := batchOf(rec)
	if err != nil {
		return nil, err
	}
	if batch.Identity.Key() != r.queue.key(i.segment.epoch, i.Sequence) {
		return nil, fmt.Errorf("batch %v lies where %d should: %w", batch.Identity.Key(), i.Sequence, errBad)
	}
	if i.segment.old == "" {
		return batch, nil
	}
	return r.renew(batch)
}

// older reads batches of columns that an earlier version of the table had.
type older struct {
	zstd    *zstd.Decoder
	layout  *recording.Layout
	encoder *wire.Encoder
}

// renew encodes a batch of an earlier version anew: what its table has gained since is NULL. The collector takes
// batches of its own version alone, and knows this one by its identity, which stays.
func (r *Reader) renew(b *wire.Batch) (*wire.Batch, error) {
	if r.older == nil {
		z, err := wire.NewDecompressor()
		if err != nil {
			return nil, err
		}
		r.older = &older{zstd: z}
		if r.older.layout, err = recording.NewLayout(r.queue.table, strings.Split(r.open.old, "\n"), z); err != nil {
			return nil, err
		}
		if r.older.encoder, err = wire.NewEncoder(); err != nil {
			return nil, err
		}
	}
	if b.Identity.Codec != wire.Zstd {
		return nil, fmt.Errorf("batch %v: codec %d, want %d: %w", b.Identity.Key(), b.Identity.Codec, wire.Zstd, errBad)
	}
	record, err := r.older.layout.Decode(b.Identity, b.Body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errBad)
	}
	defer record.Release()
	return r.older.encoder.Encode(record, b.Identity)
}

func (q *Queue) offset(i Item) int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return int64(i.segment.places[i.place].offset)
}

// waitsLocked tells whether an item still waits to be sent.
func (q *Queue) waitsLocked(i Item) bool {
	for _, s := range q.segments {
		if s == i.segment {
			return !s.isSettled(i.place)
		}
	}
	return false
}

// spoilt gives up a batch that was whole when it was written, and is no more. Its file will be kept.
func (q *Queue) spoilt(i Item, err error) {
	q.mu.Lock()
	waited := q.waitsLocked(i)
	if waited {
		i.segment.damaged = true
		i.segment.settle(i.place)
		q.notifyLocked()
	}
	rows := uint64(i.segment.places[i.place].rows)
	q.mu.Unlock()
	if !waited {
		return
	}
	signal(q.spool.wake)
	l := Loss{Kind: Damaged, Batches: 1, Rows: rows, Last: q.key(i.segment.epoch, i.Sequence), Reason: err.Error()}
	q.spool.cfg.Logger.Error("a batch in the spool is damaged", "batch", l.Last.String(), "rows", rows, "file", i.segment.name, "error", err)
	q.spool.lose(l)
}

// vanished gives up a segment whose file is no more there.
func (q *Queue) vanished(g *segment, err error) {
	q.mu.Lock()
	ours := g.dropped
	g.vanished = !ours
	q.mu.Unlock()
	if ours {
		return // the writer is about to count it
	}
	l := q.giveUp(g, err.Error())
	if l.Batches == 0 {
		return // all of it was settled
	}
	l.Kind = Damaged
	q.spool.cfg.Logger.Error("a file of the spool was removed by somebody else", "file", g.name, "batches", l.Batches, "rows", l.Rows)
	q.spool.lose(l)
}

// unreadable has a batch skipped for a while: a disk that does not answer now may do so later.
func (q *Queue) unreadable(i Item, err error) {
	q.mu.Lock()
	waited := q.waitsLocked(i)
	if waited {
		i.segment.postpone(i.place, time.Now().Add(ReadAgain))
	}
	q.mu.Unlock()
	if waited {
		q.spool.cfg.Logger.Warn("a batch in the spool cannot be read now", "file", i.segment.name, "seq", i.Sequence, "again_in", ReadAgain, "error", err)
	}
}
