// SPDX-License-Identifier: Apache-2.0

// Package store brings batches into ClickHouse, each exactly once. One lane per table gathers batches
// into units, and has several written at the same time; a unit is one INSERT of one block into one partition,
// so all of it lands or none. Its bytes never change between tries; when a try ends without a clear answer the store itself is asked
// what landed. A batch is done once its rows were counted and the ledger has it.
package store

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"golang.org/x/sync/errgroup"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Endpoint is a ClickHouse's HTTP interface and whom to be there.
type Endpoint struct {
	Address  string // host:port
	User     string
	Password string
	Database string
	Secure   bool // HTTPS
	// Authorities that its certificate must come from; nil: the system's.
	Authorities *x509.CertPool
	// Plaintext allows to speak HTTP with an address beyond this machine: who listens learns the password.
	Plaintext bool
}

// LogValue keeps the password out of logs.
func (e Endpoint) LogValue() slog.Value {
	return slog.StringValue(e.User + "@" + e.Address + "/" + e.Database)
}

// Config is how batches become inserts. Start from DefaultConfig.
type Config struct {
	Endpoint      Endpoint
	Shard         *Shard        // whose server it is; nil: there is no cluster
	Name          string        // of this collector, unique among those that write to one database
	Instance      uint64        // of this process, never used before; 0: drawn
	Former        []uint64      // processes of this name that are known to have ended
	Lease         time.Duration // after this time without a word a process of this name counts as ended
	DrainPatience time.Duration // how long inserts of another collector may take whose agent has come here, before they are ended: other agents' batches are in them, too
	Program       string        // and its version, for the record of schema changes
	UnitRows      int           // a unit is written when it has this many rows
	UnitWait      time.Duration // or when its first batch has waited this long; events wait a tenth of it
	Inserts       int           // units of one table that may be written at the same time
	QueueItems    int           // batches that may wait for a lane; then Submit blocks
	InsertTimeout time.Duration // of one insert of a unit
	QueryTimeout  time.Duration // of anything else that ClickHouse is asked
	RetryWait     time.Duration // before another try: this, then longer, up to MaxRetryWait
	MaxRetryWait  time.Duration
	StopWait      time.Duration // how long a stop goes on writing what is left
	MaxAge        time.Duration // of rows when they are submitted
	// Notes makes durable of which batches a unit is before it is sent; nil: nobody does. After a crash the unit comes
	// back by Resume.
	Notes  Notes
	Logger *slog.Logger
	Meter  metric.Meter
	// OnStep is told of each step, before the next one; nil if nobody asks. Tests end the process there.
	OnStep func(step string)
}

// Notes is where units are noted.
type Notes interface {
	Note(ctx context.Context, table uint8, token string, keys []wire.Key) error
}

// The steps that OnStep is told of.
const (
	StepInserted = "unit inserted" // ClickHouse has its rows, and the ledger does not
	StepRecorded = "unit recorded" // the ledger has it, and nobody was told
)

// DefaultConfig writes once a second, or every 250,000 rows: the larger a unit, the less of ClickHouse a row takes.
func DefaultConfig() Config {
	return Config{
		UnitRows: 250_000, UnitWait: time.Second, Inserts: 2, QueueItems: 4096, InsertTimeout: time.Minute, QueryTimeout: 20 * time.Second,
		RetryWait: 200 * time.Millisecond, MaxRetryWait: 5 * time.Second, StopWait: 15 * time.Second,
		MaxAge: 7 * 24 * time.Hour, Lease: schema.CollectorLease, DrainPatience: 5 * time.Second,
		Logger: slog.New(slog.DiscardHandler), Meter: noop.Meter{},
	}
}

// Store writes into one ClickHouse.
type Store struct {
	cfg       Config
	db        *database
	metrics   *instruments
	lanes     map[uint8]*lane
	questions chan question
	instance  uint64 // this process: in its query ids and its claims
	nameTaken chan struct{}
	naming    errgroup.Group // what says that this process runs, and which claims it has
	leave     func()         // ends it
	inserts   atomic.Int64

	mu      sync.Mutex      // guards drained
	drained map[life]uint32 // tenures of claims since which no insert of those who had the life before runs

	mapChanged     chan struct{}
	mapChangedOnce sync.Once
}

// Open connects, brings the schema up to date, and settles what an earlier process of this name left
// half done. From then on until the end of Run, or Close, the name is kept.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Instance == 0 {
		cfg.Instance = NewInstance()
	}
	db, err := open(cfg.Endpoint, (cfg.Inserts+1)*len(schema.Tables())+4)
	if err != nil {
		return nil, err
	}
	instruments, err := newInstruments(cfg.Meter)
	if err != nil {
		return nil, err
	}
	s := &Store{
		cfg: cfg, db: db, metrics: instruments, lanes: make(map[uint8]*lane),
		questions: make(chan question, maxQuestions), instance: cfg.Instance, nameTaken: make(chan struct{}), leave: func() {}, drained: make(map[life]uint32),
		mapChanged: make(chan struct{}),
	}
	if cfg.Shard != nil {
		s.db.name = schema.LocalDatabase(cfg.Endpoint.Database)
	}
	for _, t := range schema.Tables() {
		s.lanes[t.ID] = newLane(s, t)
	}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(cfg.Endpoint.explain(err), s.Close())
	}
	return s, nil
}

// NewInstance draws the number of a process, which is never 0.
func NewInstance() uint64 {
	return rand.Uint64() | 1
}

// Run writes what is submitted until the context ends, then what is left, at most for StopWait.
// Nothing may be submitted after the context has ended. If another process has taken the
// name, that is the error in the end.
func (s *Store) Run(ctx context.Context) error {
	return errors.Join(s.write(ctx), s.Close())
}

// Close ends a Store that never runs; one that does closes itself.
func (s *Store) Close() error {
	s.leave()
	return errors.Join(s.naming.Wait(), s.db.Close())
}

// NameTaken is closed when another process has the name: this one is to stop.
func (s *Store) NameTaken() <-chan struct{} { return s.nameTaken }

// write is Run without the end.
func (s *Store) write(ctx context.Context) error {
	writing, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var group errgroup.Group
	group.Go(func() error { return s.answerQuestions(ctx) })
	for _, l := range s.lanes {
		group.Go(func() error { return l.run(writing) })
	}
	<-ctx.Done()
	for _, l := range s.lanes {
		close(l.items)
	}
	stop := time.AfterFunc(s.cfg.StopWait, cancel)
	defer stop.Stop()
	return group.Wait()
}

// Submit hands a batch over. It blocks while the lane is full.
func (s *Store) Submit(ctx context.Context, i Item) error {
	items := s.lanes[i.Key.Table].items
	select {
	case items <- i: // also of one whose context has ended: there is room
		return nil
	default:
	}
	select {
	case items <- i:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Resume hands over all batches of a unit that an earlier process had noted, in the same order: they are sent as the same
// bytes with the same token. Should that process's insert still be on its way, then ClickHouse takes only one of the two.
// It answers a token that it has seen with the full count, also if its crash took the rows: what landed is asked for.
func (s *Store) Resume(ctx context.Context, token string, items []Item) error {
	l := s.lanes[items[0].Key.Table]
	u := (&unit{table: l.table}).part(items)
	u.token, u.resumed = token, true
	select {
	case l.resumed <- u:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Store) reached(step string) {
	if s.cfg.OnStep != nil {
		s.cfg.OnStep(step)
	}
}

// Ping tells whether ClickHouse answers.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.QueryTimeout)
	defer cancel()
	return s.cfg.Endpoint.explain(s.db.Ping(ctx))
}

// SchemaVersion is the newest version of the schema that was applied to the database.
func (s *Store) SchemaVersion(ctx context.Context) (version uint32, err error) {
	err = s.db.QueryRow(ctx, fmt.Sprintf("SELECT max(version) FROM `%s`.schema_versions", s.db.name)).Scan(&version)
	if err != nil {
		return 0, fmt.Errorf("ask for the version of the schema: %w", err)
	}
	return version, nil
}

// queryID names a query so that its process and its purpose can be told.
func (s *Store) queryID(purpose string) string {
	return fmt.Sprintf("%s%016x/%s/%d", s.prefix(), s.instance, purpose, s.inserts.Add(1))
}

// prefix is that of the query ids of this collector, before and after a restart. A name has no slash, so
// that it is not the beginning of another one's.
func (s *Store) prefix() string { return "gpufleet/" + s.cfg.Name + "/" }
