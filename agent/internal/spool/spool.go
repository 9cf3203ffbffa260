// SPDX-License-Identifier: Apache-2.0

// Package spool keeps an agent's batches until they are settled: in files, so that a batch outlives the
// process, or in memory where no folder is given or its disk does not work.
//
// It promises that a batch which was synced is given out to be sent, in the order of its sequence, until it
// is settled: in this life of the agent or in a later one, however this one ends. What is dropped because
// there is no room, or found damaged, is counted and reported. Reading settles nothing. A batch may be given
// out again that was settled before a crash: the collector knows it by its identity.
//
//	Push ─▶ memory ─▶ writer: write, sync ─▶ segments, one file after the other for each table
//	            └─(if the disk fails or dawdles)─┐            │
//	                                             ▼            ▼
//	                                    Queue.Next, Reader.Read, Queue.Settle ◀─ one sender per table
//
// Files and folder are changed by the goroutine of Run alone. DESIGN.md has the reasons.
package spool

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gpufleet/gpufleet/internal/batchtrace"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Config is where and how much to keep.
type Config struct {
	Dir            string // folder of the files; "": batches are kept in memory alone
	MaxBytes       int64  // of the files; then the oldest are dropped, readings before facts
	MaxMemoryBytes int64  // of batches that are not in a file; then the oldest are dropped
	Node           string // name of the node; a folder belongs to one
	Epoch          uint64 // of the batches that will be pushed; 0: of now, and above those that are in the folder
	Logger         *slog.Logger
	// OnLoss is told of batches that will never be stored. It must not block.
	OnLoss func(Loss)
	// OnDisk is told when batches can no longer be written to the folder, and why; and with nil, when they can
	// again. It must not block.
	OnDisk func(error)
	Trace  *batchtrace.Tracer // nil: no batch is traced

	folder folder // instead of Dir
	limits limits
}

// limits are the numbers that only tests change; the zero value stands for defaultLimits.
type limits struct {
	segmentBytes int64         // a segment is closed when it is as large
	recycleBytes int64         // or, if all of it is settled, when it is as large as this
	groupBytes   int64         // that are written and synced at once
	gather       time.Duration // readings wait so long for those of other tables before they are synced; facts do not
	patience     time.Duration // what is not synced by then is sent all the same
	stuckAfter   time.Duration // a disk that takes so long does not work
	retryWait    time.Duration // before a disk that failed is tried again: this, then longer, up to maxRetryWait
	maxRetryWait time.Duration
	calm         time.Duration // a disk works again when it has not failed for so long
}

var defaultLimits = limits{
	segmentBytes: 8 << 20, recycleBytes: 256 << 10, groupBytes: 1 << 20,
	gather: 50 * time.Millisecond, patience: 250 * time.Millisecond, stuckAfter: 10 * time.Second,
	retryWait: time.Second, maxRetryWait: 10 * time.Second, calm: time.Minute,
}

// ReadAgain is how long a batch that could not be read is not named again.
const ReadAgain = 30 * time.Second

// LossKind is why batches will not be stored.
type LossKind string

// The kinds of losses. They are kinds of gpu_events.
const (
	Dropped  LossKind = "batches_dropped"  // there was no room for them
	Rejected LossKind = "batches_rejected" // by the collector
	Damaged  LossKind = "batches_damaged"  // found so on the spool's disk
)

// Loss is batches of one table that will not be stored.
type Loss struct {
	Kind    LossKind
	Batches uint64   // of damaged ones: the places in files
	Rows    uint64   // 0 if nobody knows
	Last    wire.Key // sequence 0 if nobody knows
	Reason  string
}

// Spool is safe for use by several goroutines.
type Spool struct {
	cfg    Config
	limits limits
	node   uint64
	epoch  uint64
	queues []*Queue // one per table, in the order of their ids
	memory budget

	wake   chan struct{} // something is to be written or removed
	urgent chan struct{} // at once
	down   atomic.Bool   // the disk does not work: batches are sent from memory
	health health
	counts counts
	writer writer
}

// counts are for Stats.
type counts struct {
	queued, recovered, stored, rejected, dropped, damaged atomic.Uint64 // batches
	syncs                                                 atomic.Uint64
	syncNanos, diskBytes, setAside                        atomic.Int64
}

// budget bounds the bytes in memory of all queues together.
type budget struct {
	limit int64
	used  atomic.Int64
}

func (b *budget) exceeded() bool { return b.used.Load() > b.limit }

// Open reads what is in the folder, which is made if it is missing. It is an error if the folder belongs to
// another node or is in use by another agent; damaged files and a disk that does not work are not: then
// batches are kept in memory until it does. After Open, either Run or Close must be called.
func Open(cfg Config) (*Spool, error) {
	s := &Spool{
		cfg: cfg, limits: cfg.limits, node: wire.NodeID(cfg.Node), epoch: cfg.Epoch,
		memory: budget{limit: cfg.MaxMemoryBytes}, wake: make(chan struct{}, 1), urgent: make(chan struct{}, 1),
	}
	if s.limits == (limits{}) {
		s.limits = defaultLimits
	}
	s.limits.segmentBytes = min(s.limits.segmentBytes, max(cfg.MaxBytes/16, 1))
	for _, t := range schema.Tables() {
		s.queues = append(s.queues, newQueue(s, t))
	}
	if s.onDisk() {
		if err := s.prepare(); fatal(err) {
			return nil, err
		} // any other error comes again in Run, which reports it
	}
	if s.epoch == 0 {
		s.epoch = uint64(time.Now().UnixMilli())
	}
	return s, nil
}

// onDisk tells whether there is a folder.
func (s *Spool) onDisk() bool { return s.cfg.Dir != "" || s.cfg.folder != nil }

// Epoch is that of the batches to push: later than any in the folder, even if the clock was set back.
func (s *Spool) Epoch() uint64 { return s.epoch }

// Push takes a batch of this epoch. The batches of a table come in the order of their sequences. It never
// blocks.
func (s *Spool) Push(b *wire.Batch) {
	q := s.queues[b.Identity.Table-1]
	q.push(b)
	for s.memory.exceeded() && heaviest(s.queues).dropOldest() {
	}
	if !s.onDisk() {
		return
	}
	if q.facts {
		signal(s.urgent)
	} else {
		signal(s.wake)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Queue is that of a table.
func (s *Spool) Queue(table uint8) *Queue { return s.queues[table-1] }

// Run writes what is pushed until the context ends; then it writes what is left, and closes. Nothing may be
// pushed after.
func (s *Spool) Run(ctx context.Context) error {
	if !s.onDisk() {
		<-ctx.Done()
		return nil
	}
	for ctx.Err() == nil {
		wait := s.round(time.Now())
		s.sleep(ctx, wait)
	}
	return s.Close()
}

// sleep waits until there is something to do, or for so long if wait is not 0.
func (s *Spool) sleep(ctx context.Context, wait time.Duration) {
	var over <-chan time.Time
	if wait > 0 {
		over = time.After(wait)
	}
	select {
	case <-ctx.Done():
	case <-over:
	case <-s.urgent:
	case <-s.wake:
		select {
		case <-ctx.Done():
		case <-time.After(s.limits.gather):
		case <-s.urgent:
		}
	}
}

// Close writes what is in memory, if that is possible, and gives the folder up. Run does it by itself.
func (s *Spool) Close() error {
	if !s.onDisk() {
		return nil
	}
	s.writer.retryAt = time.Time{}
	s.round(time.Now())
	if err := s.release(); err != nil {
		return fmt.Errorf("close spool %s: %w", s.cfg.Dir, err)
	}
	return nil
}

// Drained waits until everything is settled; false if the context ended before. Nothing may be pushed
// meanwhile.
func (s *Spool) Drained(ctx context.Context) bool {
	for _, q := range s.queues {
		if !q.waitEmpty(ctx) {
			return false
		}
	}
	return true
}

// lose counts and reports batches that will not be stored.
func (s *Spool) lose(l Loss) {
	switch l.Kind {
	case Dropped:
		s.counts.dropped.Add(l.Batches)
	case Rejected:
		s.counts.rejected.Add(l.Batches)
	case Damaged:
		s.counts.damaged.Add(l.Batches)
	}
	if s.cfg.OnLoss != nil {
		s.cfg.OnLoss(l)
	}
}

// health is whether the disk works, as it was told.
type health struct {
	mu     sync.Mutex // guards the fields below
	failed time.Time  // latest failure that was noticed
	told   bool       // that it does not work
}

// fails has batches sent from memory, and says so once.
func (s *Spool) fails(err error) {
	s.down.Store(true)
	for _, q := range s.queues {
		q.notify() // what waits for the disk may be sent
	}
	s.health.mu.Lock()
	first := !s.health.told
	s.health.failed, s.health.told = time.Now(), true
	s.health.mu.Unlock()
	if !first {
		return
	}
	s.cfg.Logger.Error("the spool's disk does not work: batches are kept in memory, and are lost if the agent dies", "dir", s.cfg.Dir, "error", err)
	if s.cfg.OnDisk != nil {
		s.cfg.OnDisk(err)
	}
}

// works notes that batches could be written. It is told once that has been so for a while.
func (s *Spool) works() {
	s.down.Store(false)
	s.health.mu.Lock()
	over := s.health.told && time.Since(s.health.failed) >= s.limits.calm
	if over {
		s.health.told = false
	}
	s.health.mu.Unlock()
	if over {
		s.cfg.Logger.Info("the spool's disk works again", "dir", s.cfg.Dir)
		if s.cfg.OnDisk != nil {
			s.cfg.OnDisk(nil)
		}
	}
}

// Stats tells what is kept and what became of the rest. Batches queued and recovered are those stored,
// rejected, dropped, damaged after they were recovered, and waiting.
type Stats struct {
	Queued                             uint64 // batches that were pushed
	Recovered                          uint64 // that earlier lives have left
	Stored, Rejected, Dropped, Damaged uint64

	WaitingBatches, WaitingBytes int64         // not settled
	MemoryBatches, MemoryBytes   int64         // of those, not in a file
	Oldest                       time.Duration // age of the oldest of them

	DiskBytes int64 // of all files
	SetAside  int64 // files that are kept because of damage
	Syncs     uint64
	SyncTime  time.Duration
	Failing   bool // the disk does not work
}

// Stats may be asked for at any time.
func (s *Spool) Stats() Stats {
	c := &s.counts
	sum := Stats{
		Queued: c.queued.Load(), Recovered: c.recovered.Load(), Stored: c.stored.Load(), Rejected: c.rejected.Load(),
		Dropped: c.dropped.Load(), Damaged: c.damaged.Load(), DiskBytes: c.diskBytes.Load(), SetAside: c.setAside.Load(),
		Syncs: c.syncs.Load(), SyncTime: time.Duration(c.syncNanos.Load()), Failing: s.down.Load(),
	}
	now := time.Now()
	for _, q := range s.queues {
		q.addTo(&sum, now)
	}
	return sum
}
