// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpufleet/gpufleet/schema"
)

// running is a spool with the goroutine and the limits that an agent's has, in the bubble of a test.
type running struct {
	*fixture
	cancel context.CancelFunc
	done   chan error

	mu   sync.Mutex // guards told: two goroutines tell
	told []error
}

func runs(t *testing.T, disk *fakeDisk) *running {
	t.Helper()
	r := &running{done: make(chan error, 1)}
	r.fixture = open(t, disk, func(c *Config) {
		c.limits = limits{}
		c.OnDisk = func(err error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.told = append(r.told, err)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	r.cancel = cancel
	go func() { r.done <- r.Run(ctx) }()
	synctest.Wait()
	return r
}

func (r *running) end() {
	r.t.Helper()
	r.cancel()
	if err := <-r.done; err != nil {
		r.t.Error(err)
	}
}

func (r *running) health() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.told)
}

// wantInMemory tells what is not safe yet, now that nothing moves.
func (r *running) wantInMemory(batches int64) {
	r.t.Helper()
	synctest.Wait()
	if got := r.Stats().MemoryBatches; got != batches {
		r.t.Errorf("%d batches are in memory, want %d", got, batches)
	}
}

// TestFactsAreSafeAtOnce and readings a moment later, those of several tables together.
func TestFactsAreSafeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runs(t, newFakeDisk())
		r.put(schema.SamplesID, 1, 1, 200)
		r.wantInMemory(1)
		<-time.After(defaultLimits.gather / 2)
		r.put(schema.HealthID, 1, 1, 200)
		r.wantInMemory(2)
		<-time.After(defaultLimits.gather / 2)
		r.wantInMemory(0)
		for _, table := range []uint8{schema.EventsID, schema.GPUInventoryID} {
			before := time.Now()
			r.put(schema.SamplesID, uint64(table)+1, uint64(table)+1, 200)
			r.put(table, 1, 1, 60)
			r.wantInMemory(0)
			if waited := time.Since(before); waited > 0 {
				t.Errorf("table %d waited %s", table, waited)
			}
		}
		r.end()
	})
}

// TestTheDiskIsWaitedFor: not for long, though; and one that never answers is no disk.
func TestTheDiskIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, answers := newFakeDisk(), make(chan struct{})
		r := runs(t, disk)
		disk.set(func(operation, name string) error {
			if operation == "sync" && strings.HasSuffix(name, segmentSuffix) {
				<-answers
			}
			return nil
		})
		q := r.Queue(schema.SamplesID)
		r.put(schema.SamplesID, 1, 1, 200)
		_, wait, ok := q.Next(r.Epoch(), 0)
		if ok || wait != defaultLimits.patience {
			t.Fatalf("named before it is safe: %v, wait %s", ok, wait)
		}
		<-time.After(wait)
		if item, _, ok := q.Next(r.Epoch(), 0); !ok || item.Sequence != 1 {
			t.Errorf("after the wait: %+v, %v", item, ok)
		}
		if told := r.health(); len(told) > 0 {
			t.Errorf("told %v", told)
		}
		changed := q.Changed()
		<-time.After(defaultLimits.stuckAfter)
		if told := r.health(); len(told) != 1 || told[0] == nil || !r.Stats().Failing {
			t.Errorf("told %v", told)
		}
		<-changed
		r.put(schema.SamplesID, 2, 2, 200)
		if item, _, ok := q.Next(r.Epoch(), 1); !ok || item.Sequence != 2 {
			t.Errorf("a disk that does not answer is not waited for: %+v, %v", item, ok)
		}
		q.Stored(r.Epoch(), 1)
		close(answers)
		r.wantInMemory(0)
		if told := r.health(); len(told) != 1 {
			t.Errorf("told %v: one sync is no recovery", told)
		}
		<-time.After(defaultLimits.calm)
		r.put(schema.SamplesID, 3, 3, 200)
		<-time.After(defaultLimits.gather)
		r.wantInMemory(0)
		if told := r.health(); len(told) != 2 || told[1] != nil || r.Stats().Failing {
			t.Errorf("told %v", told)
		}
		r.end()
		if got := sequences(open(t, disk, nil).given(schema.SamplesID)); !slices.Equal(got, upTo(3)) {
			t.Errorf("a later life gets %v", got) // with 1, which is settled: the file remembers nothing of that
		}
	})
}

// TestAFailingDiskIsTriedAgain: less and less often, and told of once.
func TestAFailingDiskIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newFakeDisk()
		r := runs(t, disk)
		var tries []time.Time
		disk.set(func(operation, _ string) error {
			if operation != "write" {
				return nil
			}
			tries = append(tries, time.Now())
			return syscall.EROFS
		})
		r.put(schema.EventsID, 1, 1, 60)
		for s := uint64(1); s <= 120; s++ {
			r.put(schema.SamplesID, s, s, 60)
			<-time.After(500 * time.Millisecond)
		}
		synctest.Wait()
		if told := r.health(); len(told) != 1 || !errors.Is(told[0], syscall.EROFS) {
			t.Errorf("told %v", told)
		}
		if len(tries) > 30 {
			t.Errorf("%d tries in a minute", len(tries)) // of two tables
		}
		disk.set(nil)
		<-time.After(defaultLimits.maxRetryWait)
		r.wantInMemory(0)
		r.end()
		if got := open(t, disk, nil).given(schema.SamplesID); len(got) != 120 {
			t.Errorf("a later life gets %d batches", len(got))
		}
	})
}

// TestTheEndWritesWhatIsLeft.
func TestTheEndWritesWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newFakeDisk()
		r := runs(t, disk)
		r.put(schema.SamplesID, 1, 5, 200)
		r.end()
		disk.crash(rand.New(rand.NewPCG(1, 1)))
		if got := sequences(open(t, disk, nil).given(schema.SamplesID)); !slices.Equal(got, upTo(5)) {
			t.Errorf("a later life gets %v", got)
		}
	})
}

// TestDrained waits for the last answer, and for no longer than it may.
func TestDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runs(t, newFakeDisk())
		r.put(schema.SamplesID, 1, 2, 200)
		r.put(schema.EventsID, 1, 1, 200)
		drained := make(chan bool, 1)
		go func() { drained <- r.Drained(t.Context()) }()
		<-time.After(time.Second)
		for _, settle := range []struct {
			table    uint8
			sequence uint64
		}{{schema.SamplesID, 2}, {schema.EventsID, 1}, {schema.SamplesID, 1}} {
			synctest.Wait()
			if len(drained) > 0 {
				t.Fatalf("drained before batch %d of table %d is settled", settle.sequence, settle.table)
			}
			r.Queue(settle.table).Stored(r.Epoch(), settle.sequence)
		}
		if !<-drained {
			t.Error("all is settled, and it is not drained")
		}
		r.put(schema.SamplesID, 3, 3, 200)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if r.Drained(ctx) {
			t.Error("drained with a batch that waits")
		}
		r.end()
	})
}

// TestFactsOnAFullDisk: the spool may grow, and its disk is full of what others have written. Readings go for facts.
func TestFactsOnAFullDisk(t *testing.T) {
	disk := newFakeDisk()
	f := open(t, disk, nil)
	f.put(schema.SamplesID, 1, 20, 400)
	f.work()
	before := len(disk.segments())
	disk.set(func(operation, _ string) error {
		return when(operation == "write" && len(disk.now) > before, syscall.ENOSPC) // life, and one segment less
	})
	f.put(schema.EventsID, 1, 1, 60)
	f.work()
	if events := f.given(schema.EventsID); len(events) != 1 || f.Stats().MemoryBatches != 0 {
		t.Errorf("events %v, %+v", events, f.Stats())
	}
	if len(f.losses) == 0 || f.losses[0].Kind != Dropped || f.losses[0].Reason != "spool disk is full" {
		t.Errorf("losses %+v", f.losses)
	}
	got := sequences(f.given(schema.SamplesID))
	if len(got) == 0 || got[len(got)-1] != 20 || uint64(len(got))+f.Stats().Dropped != 20 {
		t.Errorf("readings %v, %+v", got, f.Stats())
	}
}

// TestTheOldestReadingsGoFirst, whichever table has them.
func TestTheOldestReadingsGoFirst(t *testing.T) {
	f := open(t, newFakeDisk(), func(c *Config) { c.MaxBytes = 64 << 10 })
	tables := []uint8{schema.HealthID, schema.SubsecondID, schema.SamplesID}
	for n := range uint64(20) {
		for _, table := range tables {
			for s := 4*n + 1; s <= 4*n+4; s++ {
				f.put(table, s, s, 600)
				f.work()
			}
		}
	}
	var lost []uint8
	for _, l := range f.losses {
		lost = append(lost, l.Last.Table)
	}
	if lost = slices.Compact(lost); len(lost) < 2*len(tables) || !slices.Equal(lost[:len(tables)], tables) {
		t.Errorf("lost are batches of tables %v", lost)
	}
}
