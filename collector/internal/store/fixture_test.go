// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/gpufleet/gpufleet/collector/internal/batchtest"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// limitless is how long a test waits for what must come: it fails by this only if it hangs.
const limitless = time.Minute

// today is a time of this day: tables drop rows that are old.
func today() time.Time { return time.Now().UTC().Truncate(24 * time.Hour).Add(time.Hour) }

func endpoint(e embedded.Endpoint) Endpoint {
	return Endpoint{Address: e.HTTPAddress(), User: e.User, Password: e.Password, Database: e.Database}
}

// config is a store that waits for nothing.
func config(e Endpoint) Config {
	cfg := DefaultConfig()
	cfg.Endpoint, cfg.Name, cfg.Program = e, "test", "test"
	cfg.UnitWait, cfg.RetryWait, cfg.MaxRetryWait, cfg.DrainPatience = 5*time.Millisecond, time.Millisecond, 20*time.Millisecond, time.Second
	return cfg
}

// running is a store that runs until the end of the test, or until stop.
type running struct {
	*Store
	t     *testing.T
	stop  func()
	epoch uint64 // of the batches that it is given
}

func start(t *testing.T, cfg Config) *running {
	t.Helper()
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r := &running{Store: s, t: t, epoch: 1000, stop: sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})}
	t.Cleanup(r.stop)
	return r
}

// sent is a batch that was given to a store.
type sent struct {
	key    wire.Key
	record arrow.RecordBatch
	done   chan error
}

func key(table uint8, sequence uint64) wire.Key {
	return wire.Key{Table: table, Node: wire.NodeID("node-1"), Epoch: 1000, Sequence: sequence}
}

// submit hands over a batch of so many rows, of which each has a time of its own.
func (r *running) submit(table uint8, sequence uint64, rows int) *sent {
	r.t.Helper()
	from := today().Add(time.Duration(sequence) * 10 * time.Minute)
	k := key(table, sequence)
	k.Epoch = r.epoch
	return r.submitRecord(k, batchtest.Record(batchtest.Table(r.t, table), sequence, rows, from), from, from.Add(time.Duration(rows-1)*time.Second))
}

func (r *running) submitRecord(k wire.Key, record arrow.RecordBatch, from, to time.Time) *sent {
	r.t.Helper()
	return r.submitItem(Item{Key: k, From: from, To: to}, record)
}

// submitUnder hands over a batch under a claim.
func (r *running) submitUnder(tenure uint32, k wire.Key, record arrow.RecordBatch, from, to time.Time) *sent {
	r.t.Helper()
	return r.submitItem(Item{Key: k, From: from, To: to, Tenure: tenure}, record)
}

// submitScoped hands over a batch of a tenant and zone.
func (r *running) submitScoped(k wire.Key, scope wire.Scope, record arrow.RecordBatch, from, to time.Time) *sent {
	r.t.Helper()
	return r.submitItem(Item{Key: k, From: from, To: to, Scope: scope}, record)
}

func (r *running) submitItem(i Item, record arrow.RecordBatch) *sent {
	r.t.Helper()
	b := &sent{key: i.Key, record: record, done: make(chan error, 2)}
	i.Columns = batchtest.Columns(r.t, batchtest.Table(r.t, i.Key.Table), record)
	i.Done = func(err error) { b.done <- err }
	err := r.Submit(r.t.Context(), i)
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

// wait returns how a batch ended.
func (b *sent) wait(t *testing.T) error {
	t.Helper()
	timeout := time.NewTimer(limitless)
	defer timeout.Stop()
	select {
	case err := <-b.done:
		b.done <- err // for whoever asks again
		return err
	case <-timeout.C:
		t.Fatalf("batch %v has not ended", b.key)
		return nil
	}
}

// wantStored waits for batches and counts them in the table and in the ledger: all their rows, once.
func wantStored(t *testing.T, db embedded.Endpoint, batches ...*sent) {
	t.Helper()
	for _, b := range batches {
		if err := b.wait(t); err != nil {
			t.Errorf("batch %v: %v", b.key, err)
		}
	}
	wantRows(t, db, batches...)
}

// wantRows compares what tables and ledger hold of the batches' life with the batches.
func wantRows(t *testing.T, db embedded.Endpoint, batches ...*sent) {
	t.Helper()
	want := map[uint8]string{}
	of := "true"
	for _, b := range batches {
		of = fmt.Sprintf("epoch = %d", b.key.Epoch)
		want[b.key.Table] += fmt.Sprintf("%d\t%d\t%d\t%d\n", b.key.Node, b.key.Epoch, b.key.Sequence, b.record.NumRows())
	}
	for _, table := range schema.Tables() {
		const columns = "SELECT node_id, epoch, seq, "
		const sorted = " GROUP BY node_id, epoch, seq ORDER BY node_id, epoch, seq"
		got := clickhousetest.Query(t, db, columns+"count() FROM "+table.Name+" WHERE "+of+sorted)
		wantText(t, table.Name, got, want[table.ID])
		got = clickhousetest.Query(t, db, columns+"max(rows) FROM ingest_ledger WHERE state = 'stored' AND table_name = '"+table.Name+"' AND "+of+sorted)
		wantText(t, "ledger of "+table.Name, got, want[table.ID])
	}
}

func wantText(t *testing.T, what, got, want string) {
	t.Helper()
	if got != "" {
		got += "\n"
	}
	if got != want {
		t.Errorf("%s holds (node, epoch, sequence, rows)\n%swant\n%s", what, got, want)
	}
}

// journal keeps what a store says.
type journal struct {
	mu   sync.Mutex // guards said
	said strings.Builder
}

// Write implements io.Writer.
func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.said.Write(p)
}

func (j *journal) text() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.said.String()
}
