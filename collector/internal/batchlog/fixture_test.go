// SPDX-License-Identifier: Apache-2.0

package batchlog

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/collector/internal/batchtest"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// events makes batches of events with the sequences from 1 on.
func events(t testing.TB, count uint64) []*wire.Batch {
	t.Helper()
	table := batchtest.Table(t, schema.EventsID)
	var all []*wire.Batch
	for s := range count {
		k := wire.Key{Table: table.ID, Node: 7, Epoch: 9, Sequence: s + 1}
		b := batchtest.Encode(t, batchtest.Record(table, s, 2, noon), k)
		b.Scope = []wire.Scope{{}, {Tenant: "acme", Residency: "eu"}, {Residency: "us"}}[s%3]
		all = append(all, b)
	}
	return all
}

func keysOf(batches ...*wire.Batch) (keys []wire.Key) {
	for _, b := range batches {
		keys = append(keys, b.Identity.Key())
	}
	return keys
}

// configOf is a log in a folder.
func configOf(dir string) Config {
	return Config{Dir: dir, MaxBytes: 1 << 30, Logger: slog.New(slog.DiscardHandler)}
}

// running is a log that runs until stop, or the end of the test.
type running struct {
	*Log
	t    *testing.T
	stop func()
}

func start(t *testing.T, cfg Config) *running {
	t.Helper()
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	r := &running{Log: l, t: t, stop: sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})}
	t.Cleanup(r.stop)
	return r
}

// append appends one batch and returns its answer.
func (r *running) append(b *wire.Batch) error {
	answered := make(chan error, 1)
	r.Append(b, func(err error) { answered <- err })
	return <-answered
}

func (r *running) mustAppend(batches ...*wire.Batch) {
	r.t.Helper()
	for _, b := range batches {
		if err := r.append(b); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *running) note(token string, batches ...*wire.Batch) error {
	return r.Note(r.t.Context(), schema.EventsID, token, keysOf(batches...))
}

// settle settles batches and waits until that is in the file.
func (r *running) settle(batches ...*wire.Batch) {
	r.t.Helper()
	r.Settle(keysOf(batches...)...)
	if err := r.note("barrier"); err != nil {
		r.t.Fatal(err)
	}
}

// want compares what is pending, and reads it.
func want(t *testing.T, l *Log, batches []*wire.Batch, units ...Unit) {
	t.Helper()
	got := l.Pending()
	if !slices.EqualFunc(got, units, func(a, b Unit) bool { return a.Token == b.Token && slices.Equal(a.Keys, b.Keys) }) {
		t.Errorf("pending %v, want %v", got, units)
	}
	for _, u := range got {
		for _, k := range u.Keys {
			i := slices.IndexFunc(batches, func(b *wire.Batch) bool { return b.Identity.Key() == k })
			if i < 0 {
				t.Errorf("batch %v was never appended", k)
				continue
			}
			wantBytes(t, l, batches[i])
		}
	}
}

func wantBytes(t *testing.T, l *Log, b *wire.Batch) {
	t.Helper()
	got, err := l.Read(b.Identity.Key())
	if err != nil {
		t.Error(err)
		return
	}
	if !bytes.Equal(got.Metadata, b.Metadata) || !bytes.Equal(got.Header, b.Header) || !bytes.Equal(got.Body, b.Body) || got.Identity != b.Identity || got.Scope != b.Scope {
		t.Errorf("batch %v was read with other bytes", b.Identity.Key())
	}
}

// files are the segments of events in a folder.
func files(t testing.TB, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "gpu_events", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}
