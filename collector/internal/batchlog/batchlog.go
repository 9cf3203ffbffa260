// SPDX-License-Identifier: Apache-2.0

// Package batchlog keeps the batches that a collector has accepted on its disk until they are stored, and how they were
// joined into units. It promises that a batch whose Append was answered with nil is found by the next life of the
// collector unless it was settled, and that a unit that was noted is found with the same batches, order and token.
//
//	Append, Note, Settle ─▶ lane: group, write, sync ─▶ segments of one table, one file after the other
//	                                   └─▶ answers, in the order of the appends
//
// Each table has a lane with two goroutines of its own, joined by Run: a table that cannot be stored fills its own part of
// the disk and no other's. DESIGN.md has the reasons.
package batchlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/gpufleet/gpufleet/internal/frames"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Config is where and how much to keep.
type Config struct {
	Dir      string
	MaxBytes int64 // of all files; each table has its part, and when it is full its batches are refused
	Logger   *slog.Logger
	// OnStep is told of each step, before the next one; nil if nobody asks. Tests end the process there.
	OnStep func(step string)

	limits limits
}

// The steps that OnStep is told of.
const (
	StepWritten  = "log written"   // a group is in the file and not synced
	StepAccepted = "log synced"    // it is, and nobody was told
	StepNoted    = "unit noted"    // a unit is durable and not sent
	StepSettled  = "batch settled" // that a batch is stored is in the file, not synced
)

// limits are the numbers that only tests change; the zero value stands for defaultLimits.
type limits struct {
	segmentBytes int64 // a segment is ended when it is as large
	groupBytes   int64 // that are written and synced at once, about
	folder       func(dir string) folder
}

var defaultLimits = limits{
	segmentBytes: 16 << 20, groupBytes: 4 << 20,
	folder: func(dir string) folder { return disk{dir} },
}

// ErrFull means that the files of a table have reached their limit.
var ErrFull = errors.New("collector's log is full")

// errStopped means that the log does not run any more.
var errStopped = errors.New("collector's log has stopped")

// Unit is batches that are stored together.
type Unit struct {
	Token string // "": they were not joined yet
	Keys  []wire.Key
}

// Kept is a batch of an earlier life.
type Kept struct {
	*wire.Batch
	Columns []string // that it has, if an earlier version accepted it (wire.NewOlderDecoder); nil: the table's
}

// Log is safe for use by several goroutines.
type Log struct {
	cfg   Config
	lock  io.Closer
	lanes map[uint8]*lane
	// appending are the appends that were not answered yet.
	appending sync.WaitGroup
}

// Open takes the folder and reads what an earlier life has left. No file, however damaged, keeps it from opening.
func Open(cfg Config) (*Log, error) {
	if cfg.limits.folder == nil {
		cfg.limits = defaultLimits
	}
	lock, err := frames.Lock(cfg.Dir)
	if errors.Is(err, frames.ErrLocked) {
		return nil, fmt.Errorf("collector's log %w: stop that one, or give --data another folder", err)
	}
	if err != nil {
		return nil, fmt.Errorf("open collector's log: %w", err)
	}
	l := &Log{cfg: cfg, lock: lock, lanes: make(map[uint8]*lane)}
	for _, t := range schema.Tables() {
		cfg.MaxBytes = part(l.cfg.MaxBytes, t)
		opened, err := openLane(cfg, t, cfg.limits.folder(filepath.Join(cfg.Dir, t.Name)))
		if err != nil {
			return nil, errors.Join(err, lock.Close())
		}
		l.lanes[t.ID] = opened
	}
	return l, nil
}

// part is how much of the log a table may fill: samples one half, the others the other half in equal parts.
func part(bytes int64, t schema.Table) int64 {
	if t.ID == schema.SamplesID {
		return bytes / 2
	}
	return bytes / 2 / int64(len(schema.Tables())-1)
}

// Run writes until the context ends, and then what is left.
func (l *Log) Run(ctx context.Context) error {
	var group errgroup.Group
	for _, n := range l.lanes {
		group.Go(func() error { return n.write(ctx) })
		group.Go(func() error { return n.deliver() })
	}
	return errors.Join(group.Wait(), l.lock.Close())
}

// Close ends a Log that never runs; one that does closes itself.
func (l *Log) Close() error {
	if l == nil {
		return nil // there is none
	}
	return l.lock.Close()
}

// Append keeps a batch, whose bytes must not change. Then done is called, from one goroutine of its table and in the
// order of the appends. An error says that the batch is not kept: whoever sent it must send it again. Append never
// blocks; what waits is bounded by the memory that its batches were admitted to.
func (l *Log) Append(b *wire.Batch, done func(error)) {
	l.appending.Add(1)
	l.lanes[b.Identity.Table].push(&entry{batch: b, done: func(err error) {
		defer l.appending.Done()
		done(err)
	}})
}

// Flush waits until every Append was answered.
func (l *Log) Flush() { l.appending.Wait() }

// Note makes durable that batches are stored together under a token, before they are. What was noted of them before is
// void.
func (l *Log) Note(ctx context.Context, table uint8, token string, keys []wire.Key) error {
	noted := make(chan error, 1)
	l.lanes[table].push(&entry{unit: &Unit{token, keys}, done: func(err error) { noted <- err }})
	select {
	case err := <-noted:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Settle forgets batches: they are stored, or will never be. It does not wait for the disk: a batch that a crash brings
// back is known to the ledger.
func (l *Log) Settle(keys ...wire.Key) {
	if len(keys) > 0 {
		l.lanes[keys[0].Table].push(&entry{settled: keys})
	}
}

// Damaged settles a batch of which the bytes are lost. Its file is set aside for a person to look at once the rest is done.
func (l *Log) Damaged(k wire.Key) {
	l.lanes[k.Table].spoil(k)
	l.Settle(k)
}

// Pending lists what an earlier life has left, by table, units first.
func (l *Log) Pending() []Unit {
	var units []Unit
	for _, t := range schema.Tables() {
		units = append(units, l.lanes[t.ID].pending()...)
	}
	return units
}

// Read reads a batch that is not settled. A frames.ErrBad says that its bytes are lost, any other error that they may be read
// later.
func (l *Log) Read(k wire.Key) (Kept, error) { return l.lanes[k.Table].read(k) }

// Fill is how much of its part of the log a table uses.
type Fill struct {
	Table       string
	Used, Limit int64
}

// Fills tells of each table how much of its part is used.
func (l *Log) Fills() []Fill {
	var fills []Fill
	for _, t := range schema.Tables() {
		n := l.lanes[t.ID]
		fills = append(fills, Fill{t.Name, n.bytes(), n.cfg.MaxBytes})
	}
	return fills
}

// Bytes is the size of all files.
func (l *Log) Bytes() (sum int64) {
	for _, n := range l.lanes {
		sum += n.bytes()
	}
	return sum
}
