// SPDX-License-Identifier: Apache-2.0

package sender

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gpufleet/gpufleet/agent/internal/spool"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// leave has a life of the agent push batches of some tables into a folder, and end without a collector.
func leave(t *testing.T, dir string, epoch, batches uint64, tables ...uint8) {
	t.Helper()
	s := newLife(t, dir, epoch)
	for _, table := range tables {
		for seq := range batches {
			s.Push(batchOf(epoch, table, seq+1, 100))
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func newLife(t *testing.T, dir string, epoch uint64) *spool.Spool {
	t.Helper()
	s, err := spool.Open(spool.Config{
		Dir: dir, MaxBytes: 1 << 20, MaxMemoryBytes: 1 << 20, Node: "node-1", Epoch: epoch, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestEarlierLivesGoFirst: life by life, each in order and over streams that say which it is, while streams break. The
// files are gone in the end.
func TestEarlierLivesGoFirst(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	tables := []uint8{schema.SamplesID, schema.EventsID}
	leave(t, dir, 5, 8, tables...)
	leave(t, dir, 6, 3, schema.EventsID)
	var answers atomic.Int64
	c := &scripted{answer: func(k wire.Key) (*wire.Answer, error) {
		if answers.Add(1)%7 == 0 {
			return nil, status.Error(codes.Unavailable, "collector is stopping")
		}
		return stored(k)
	}}
	s := startFrom(t, c, newSpool(t, func(cfg *spool.Config) { cfg.Dir, cfg.Epoch = dir, 7 }))
	for seq := range uint64(4) {
		for _, table := range tables {
			s.Push(batchOf(7, table, seq+1, 100))
		}
	}
	drain(t, s)

	want := map[uint8]map[uint64]int{schema.SamplesID: {5: 8, 7: 4}, schema.EventsID: {5: 8, 6: 3, 7: 4}}
	for _, table := range tables {
		var epochs []uint64
		once := map[wire.Key]bool{}
		for _, k := range c.received() {
			if k.Table == table {
				epochs, once[k] = append(epochs, k.Epoch), true
			}
		}
		got := map[uint64]int{}
		for k := range once {
			got[k.Epoch]++
		}
		if !slices.IsSorted(epochs) || len(got) != len(want[table]) {
			t.Errorf("table %d: epochs %v", table, epochs)
		}
		for epoch, batches := range want[table] {
			if got[epoch] != batches {
				t.Errorf("table %d, epoch %d: %d batches, want %d", table, epoch, got[epoch], batches)
			}
		}
	}
	if stats := s.Stats(); stats.Recovered != 19 || stats.Stored != 27 {
		t.Errorf("stats %+v", stats)
	}
}

// TestEachLifeHasAStream: that of an earlier life ends once all of it is settled.
func TestEachLifeHasAStream(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	leave(t, dir, 5, 2, schema.SamplesID)
	c := &scripted{answer: stored}
	s := startFrom(t, c, newSpool(t, func(cfg *spool.Config) { cfg.Dir, cfg.Epoch = dir, 7 }))
	drain(t, s)
	s.Push(batchOf(7, schema.SamplesID, 1, 100))
	drain(t, s)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.hellos) != 2 || c.hellos[0].Epoch != 5 || c.hellos[1] != (wire.Hello{Table: schema.SamplesID, Epoch: 7, Oldest: 1, Name: "node-1"}) {
		t.Errorf("hellos %+v", c.hellos)
	}
}

// TestABatchIsDamagedOnItsWay: the stream goes on with those behind it.
func TestABatchIsDamagedOnItsWay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	leave(t, dir, 5, 6, schema.SamplesID)
	from := newSpool(t, func(cfg *spool.Config) { cfg.Dir, cfg.Epoch = dir, 7 })
	files, err := filepath.Glob(filepath.Join(dir, "*.gfs"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, %v", files, err)
	}
	spoilLast(t, files[0])
	c := &scripted{answer: stored}
	s := startFrom(t, c, from)
	s.Push(batchOf(7, schema.SamplesID, 1, 100))
	drain(t, s)
	if stats := s.Stats(); stats.Stored != 6 || stats.Damaged != 1 {
		t.Errorf("stats %+v", stats)
	}
	if _, err := os.Stat(files[0]); err != nil { // its new name comes with the writer's next round
		if _, err := os.Stat(files[0] + ".damaged"); err != nil {
			t.Error(err)
		}
	}
}

// spoilLast changes the last batch of a file.
func spoilLast(t *testing.T, name string) {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)-20] ^= 1
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestWhatCouldNotBeReadIsSentLater: the batches behind it do not wait, and it is sent once.
func TestWhatCouldNotBeReadIsSentLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := newSpool(t, nil)
		for seq := range uint64(3) {
			from.Push(newBatch(schema.SamplesID, seq+1, 100))
		}
		way := newFlying(from.Queue(schema.SamplesID), 5, &resent{}, patience{first: time.Millisecond, most: time.Millisecond})
		way.window.Store(1 << 20)
		began := time.Now()
		for n, want := range []uint64{1, 2, 3, 2} {
			item, ok := way.next(t.Context())
			if !ok || item.Sequence != want {
				t.Fatalf("next is %d, %v, want %d", item.Sequence, ok, want)
			}
			if n == 1 {
				way.later(item.Sequence)
			}
		}
		if waited := time.Since(began); waited != spool.ReadAgain {
			t.Errorf("sent after %s", waited)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*spool.ReadAgain)
		defer cancel()
		if again, ok := way.next(ctx); ok {
			t.Errorf("batch %d once more", again.Sequence)
		}
	})
}
