// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/collector/internal/batchtest"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// notes notes units, or does not.
type notes struct {
	mu    sync.Mutex // guards the fields below
	units map[string][]wire.Key
	err   error
}

func (n *notes) Note(_ context.Context, _ uint8, token string, keys []wire.Key) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err == nil {
		n.units[token] = keys
	}
	return n.err
}

func (n *notes) of(token string) []wire.Key {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.units[token]
}

// request is an insert into a table as it was sent.
type request struct {
	token string
	keys  []wire.Key // noted before it came
	body  []byte
}

// watching notes what a proxy sees of inserts into tables.
func watching(p *proxy, n *notes) func() []request {
	var mu sync.Mutex
	var seen []request
	p.set(func(r *http.Request, body []byte) fault {
		if kindOf(r, body) == toTable {
			token := r.URL.Query().Get("insert_deduplication_token")
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, request{token, n.of(token), bytes.Clone(body)})
		}
		return pass
	})
	return func() []request {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(seen)
	}
}

// TestResume sends a unit of an earlier process: the same bytes, the same token. ClickHouse has its rows already, as if
// that process's insert had come in late, and they are stored once.
func TestResume(t *testing.T) {
	n := &notes{units: map[string][]wire.Key{}}
	r, p, db := through(t, func(cfg *Config) { cfg.Notes, cfg.UnitRows, cfg.UnitWait = n, 9, time.Hour })
	inserts := watching(p, n)
	at := today()
	var batches []*sent
	for s := uint64(1); s <= 3; s++ {
		batches = append(batches, r.submitRecord(key(schema.EventsID, s), batchtest.Record(batchtest.Table(t, schema.EventsID), s, 3, at), at, at.Add(2*time.Second)))
	}
	wantStored(t, db, batches...)
	first := inserts()
	if len(first) != 1 || !slices.Equal(first[0].keys, []wire.Key{batches[0].key, batches[1].key, batches[2].key}) {
		t.Fatalf("%d inserts, noted %v", len(first), first)
	}
	r.resume(first[0].token, at, batches)
	again := inserts()[1:]
	if len(again) != 1 || again[0].token != first[0].token || !bytes.Equal(again[0].body, first[0].body) {
		t.Errorf("%d inserts, with another token or other bytes", len(again))
	}
	if rows := clickhousetest.Query(t, db, "SELECT count() FROM gpu_events"); rows != "9" {
		t.Errorf("%s rows", rows)
	}
}

// resume hands a unit of three-row batches over once more, and waits for it.
func (r *running) resume(token string, at time.Time, batches []*sent) {
	r.t.Helper()
	var items []Item
	done := make(chan error, len(batches))
	for _, b := range batches {
		items = append(items, Item{
			Key: b.key, Columns: batchtest.Columns(r.t, batchtest.Table(r.t, schema.EventsID), b.record), From: at, To: at.Add(2 * time.Second),
			Done: func(err error) { done <- err },
		})
	}
	if err := r.Resume(r.t.Context(), token, items); err != nil {
		r.t.Fatal(err)
	}
	for range items {
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	}
}

// TestResumeOfWhatIsGone sends a unit under a token that ClickHouse knows and answers with the full count, although a
// crash took its rows: they are there once afterwards.
func TestResumeOfWhatIsGone(t *testing.T) {
	n := &notes{units: map[string][]wire.Key{}}
	r, p, db := through(t, func(cfg *Config) { cfg.Notes, cfg.UnitRows, cfg.UnitWait = n, 6, time.Hour })
	inserts := watching(p, n)
	at := today()
	var batches []*sent
	for s := uint64(1); s <= 2; s++ {
		batches = append(batches, r.submitRecord(key(schema.EventsID, s), batchtest.Record(batchtest.Table(t, schema.EventsID), s, 3, at), at, at.Add(2*time.Second)))
	}
	wantStored(t, db, batches...)
	clickhousetest.Exec(t, db, "ALTER TABLE gpu_events DELETE WHERE true SETTINGS mutations_sync = 2")
	r.resume(inserts()[0].token, at, batches)
	wantRows(t, db, batches...)
}

// TestNotNoted: a unit that cannot be noted is written all the same.
func TestNotNoted(t *testing.T) {
	said := &journal{}
	n := &notes{err: errors.New("the log is full")}
	r, _, db := through(t, func(cfg *Config) { cfg.Notes, cfg.Logger = n, slog.New(slog.NewTextHandler(said, nil)) })
	wantStored(t, db, r.submit(schema.EventsID, 1, 3))
	if !strings.Contains(said.text(), "the log is full") {
		t.Error("nobody was told")
	}
}

// TestEveryUnitIsNoted before it is sent, also what is left of one.
func TestEveryUnitIsNoted(t *testing.T) {
	n := &notes{units: map[string][]wire.Key{}}
	r, p, db := through(t, func(cfg *Config) { cfg.Notes, cfg.UnitRows, cfg.UnitWait = n, 15, time.Hour })
	var unnoted int
	p.set(func(request *http.Request, body []byte) fault {
		if kindOf(request, body) != toTable {
			return pass
		}
		if keys := n.of(request.URL.Query().Get("insert_deduplication_token")); int64(3*len(keys)) != rowsOf(body) {
			unnoted++
		}
		if rowsOf(body) > 6 {
			return exception("241", "MEMORY_LIMIT_EXCEEDED")
		}
		return pass
	})
	var batches []*sent
	for s := uint64(1); s <= 5; s++ {
		at := today()
		batches = append(batches, r.submitRecord(key(schema.EventsID, s), batchtest.Record(batchtest.Table(t, schema.EventsID), s, 3, at), at, at.Add(2*time.Second)))
	}
	wantStored(t, db, batches...)
	if unnoted > 0 {
		t.Errorf("%d inserts of other batches than were noted", unnoted)
	}
}
