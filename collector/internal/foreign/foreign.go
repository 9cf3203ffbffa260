// SPDX-License-Identifier: Apache-2.0

// Package foreign makes batches of what other programs push: readings of single metrics, from OpenTelemetry Collectors
// and Prometheus servers. It promises that a request which it answers without an error is in the collector's log, on
// disk, whole; that readings which come again are not stored again, as long as they are among the last of their GPU; and
// that what it does not keep is told, with the reason. What it makes is a node like any other, with batches of its own
// identity: log, store and audit do not know the difference, but every row says that it is one (QualityForeign).
//
//	requests ─▶ Take: names to columns ─▶ gather: readings of one GPU and time to one row ─▶ batches ─▶ log ─▶ store
//
// Run gathers, in its caller's goroutine, which owns all that is known of GPUs. A second one asks which of them agents read;
// it is joined when Run returns.
package foreign

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"regexp"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.opentelemetry.io/otel/metric"
	"golang.org/x/sync/semaphore"

	"github.com/gpufleet/gpufleet/collector/internal/aside"
	"github.com/gpufleet/gpufleet/collector/internal/foreign/mapping"
	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Store takes batches.
type Store interface {
	// Submit hands a batch over; it blocks while the store is behind.
	Submit(ctx context.Context, i store.Item) error
	// Quarantined records that a batch can never be stored.
	Quarantined(ctx context.Context, k wire.Key, rows int64, reason string) error
}

// Log keeps batches on disk until they are settled.
type Log interface {
	// Append calls done once the batch is durable, or with why it is not.
	Append(b *wire.Batch, done func(error))
	Settle(keys ...wire.Key)
}

// Config is what is taken. All must be set that does not say otherwise.
type Config struct {
	Name     string        // of this collector
	MaxGPUs  int           // of which is remembered what came
	MaxBytes int64         // of batches on their way into ClickHouse
	MaxAge   time.Duration // readings older than this are refused
	MaxAhead time.Duration // and those further in the future than this
	Gather   time.Duration // how long readings wait for others of the same GPU and time

	Store      Store
	Log        Log
	Quarantine aside.Files    // keeps batches that can never be stored
	Left       func(wire.Key) // is told of a batch that is not stored because another collector has its node
	Database   Database       // which GPUs agents read as well; nil: nobody asks
	Logger     *slog.Logger
	Meter      metric.Meter
	now        func() time.Time
}

// MaxWaiting is how many readings may wait to be gathered: a scrape of some thousand GPUs.
const MaxWaiting = 1 << 18

// MaxReadings is how many readings a request may have: small in a body, they are large in memory. A body of 4 MiB with
// the labels that exporters give has fewer.
const MaxReadings = 1 << 16

// ErrTooMany means that a request is too large, however few bytes it has. Sending the same again cannot help.
var ErrTooMany = errors.New("too much in one request: make the batches of the sender smaller")

// ErrBusy means that there is no room now: whoever pushed is to push again, later.
var ErrBusy = errors.New("collector has no room now")

// Door takes readings. It is safe for use by several goroutines.
type Door struct {
	cfg      Config
	aside    aside.Aside
	epoch    uint64
	mapping  *mapping.Table
	metrics  *instruments
	agents   *agents
	zstd     *zstd.Decoder
	encoder  *wire.Encoder
	decoders map[uint8]*wire.Decoder
	memory   *semaphore.Weighted
	wake     chan struct{}

	mu      sync.Mutex // guards the fields below
	waiting []*Request
	held    int // readings in waiting
}

// New makes a door. Run must be called.
func New(cfg Config) (*Door, error) {
	if cfg.now == nil {
		cfg.now = time.Now
	}
	metrics, err := newInstruments(cfg.Meter)
	if err != nil {
		return nil, err
	}
	encoder, err := wire.NewEncoder()
	if err != nil {
		return nil, err
	}
	z, err := wire.NewDecompressor()
	if err != nil {
		return nil, err
	}
	d := &Door{
		aside: aside.Aside{Collector: cfg.Name, Files: cfg.Quarantine, Ledger: cfg.Store, Logger: cfg.Logger, Now: cfg.now},
		cfg:   cfg, epoch: epoch(cfg.Name, cfg.now()), mapping: mapping.New(), metrics: metrics, agents: newAgents(cfg.Database, cfg.MaxGPUs), zstd: z, encoder: encoder,
		decoders: make(map[uint8]*wire.Decoder), memory: semaphore.NewWeighted(cfg.MaxBytes), wake: make(chan struct{}, 1),
	}
	for _, t := range schema.Tables() {
		d.decoders[t.ID] = wire.NewDecoder(t.WireSchema(), z)
	}
	return d, nil
}

// epoch is this life of the door: its start. Two collectors that start in the same millisecond must not make batches of
// the same identity for a source that pushes to both: so it is up to a minute earlier, by the name of the collector.
func epoch(collector string, now time.Time) uint64 {
	h := fnv.New32a()
	h.Write([]byte(collector))
	return uint64(now.UnixMilli()) - uint64(h.Sum32()%60_000)
}

var sourceName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// CheckSource tells what is wrong with the name of a source: it becomes part of the names of its nodes.
func CheckSource(name string) error {
	if !sourceName.MatchString(name) {
		return fmt.Errorf("source %q: 1 to 63 small letters, digits, dots, dashes and underscores", name)
	}
	return nil
}

// Take keeps what was sorted. An error means that none of it may count as kept: all must be pushed again. What can never
// be kept is told in the outcome, and is no reason to.
func (d *Door) Take(ctx context.Context, r *Request) (Outcome, error) {
	if len(r.rows) == 0 {
		return r.outcome, nil
	}
	if err := d.enqueue(r); err != nil {
		d.metrics.failed(ctx, r.from, err)
		return Outcome{}, err
	}
	select {
	case err := <-r.done:
		if err != nil {
			d.metrics.failed(ctx, r.from, err)
			return Outcome{}, err
		}
		return r.outcome, nil
	case <-ctx.Done():
		return Outcome{}, ctx.Err()
	}
}

func (d *Door) enqueue(r *Request) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held > 0 && d.held+r.cells > MaxWaiting {
		return fmt.Errorf("%d readings wait to be gathered: %w", d.held, ErrBusy)
	}
	d.waiting = append(d.waiting, r)
	d.held += r.cells
	select {
	case d.wake <- struct{}{}:
	default:
	}
	return nil
}

// Run gathers until the context ends; then what waits, once more. Nothing may be taken after the context has ended. What
// the store has no room for by then stays in the log.
func (d *Door) Run(ctx context.Context) error {
	defer d.zstd.Close()
	storing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	if d.agents.database != nil {
		var asking sync.WaitGroup
		defer asking.Wait()
		asking.Go(func() { d.agents.run(ctx, d) })
	}
	g := newGatherer(d)
	for ctx.Err() == nil {
		select {
		case <-d.wake:
		case <-ctx.Done():
		}
		pause(ctx, d.cfg.Gather, nil)
		g.gather(storing, d.next())
	}
	return nil
}

// Close ends a Door that never runs; one that does closes itself.
func (d *Door) Close() error {
	d.zstd.Close()
	return nil
}

// next takes what waits.
func (d *Door) next() []*Request {
	d.mu.Lock()
	defer d.mu.Unlock()
	requests := d.waiting
	d.waiting, d.held = nil, 0
	return requests
}
