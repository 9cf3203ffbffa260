// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"bytes"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const nodeName = "node-1"

// fixture is a spool whose rounds a test makes.
type fixture struct {
	*Spool
	t      *testing.T
	disk   *fakeDisk
	losses []Loss
	health []error
}

func open(t *testing.T, disk *fakeDisk, change func(*Config)) *fixture {
	t.Helper()
	f := &fixture{t: t, disk: disk}
	cfg := Config{
		MaxBytes: 1 << 20, MaxMemoryBytes: 1 << 20, Node: nodeName, Logger: slog.New(slog.DiscardHandler), folder: disk,
		OnLoss: func(l Loss) { f.losses = append(f.losses, l) }, OnDisk: func(err error) { f.health = append(f.health, err) },
		limits: limits{segmentBytes: 4 << 10, recycleBytes: 1 << 10, groupBytes: 1 << 10, stuckAfter: time.Minute, calm: time.Nanosecond},
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if f.Spool, err = Open(cfg); err != nil {
		t.Fatal(err)
	}
	return f
}

// makeBatch is a batch whose bytes say which it is.
func makeBatch(table uint8, epoch, sequence uint64, size int) *wire.Batch {
	body := bytes.Repeat([]byte{byte(sequence), table}, size/2)
	i := wire.Identity{Codec: wire.Zstd, Table: table, Node: wire.NodeID(nodeName), Epoch: epoch, Sequence: sequence, Rows: uint32(sequence), Size: 8}
	return &wire.Batch{Body: body, Metadata: i.AppendTo(nil, nil, body), Identity: i}
}

func (f *fixture) put(table uint8, from, to uint64, size int) {
	for s := from; s <= to; s++ {
		f.Push(makeBatch(table, f.Epoch(), s, size))
	}
}

// work makes a round, whatever it is waiting for.
func (f *fixture) work() {
	f.writer.retryAt = time.Time{}
	f.round(time.Now())
}

// given is what waits to be sent of a table, in order, as epoch-relative pairs; each is checked to be what was pushed.
func (f *fixture) given(table uint8) (found []wire.Key) {
	f.t.Helper()
	q := f.Queue(table)
	r := q.NewReader()
	defer r.Close()
	var epochs []uint64
	q.mu.Lock()
	for _, g := range q.segments {
		if !slices.Contains(epochs, g.epoch) {
			epochs = append(epochs, g.epoch)
		}
	}
	q.mu.Unlock()
	if !slices.Contains(epochs, f.Epoch()) {
		epochs = append(epochs, f.Epoch())
	}
	for _, epoch := range epochs {
		after := uint64(0)
		for {
			item, _, ok := q.Next(epoch, after)
			if !ok {
				break
			}
			after = item.Sequence
			b := r.Read(item)
			if b == nil {
				continue
			}
			want := makeBatch(table, epoch, item.Sequence, len(b.Body))
			if b.Identity != want.Identity || !bytes.Equal(b.Body, want.Body) || !bytes.Equal(b.Metadata, want.Metadata) {
				f.t.Fatalf("batch %v is not what was pushed", b.Identity.Key())
			}
			found = append(found, b.Identity.Key())
		}
	}
	return found
}

func sequences(keys []wire.Key) (list []uint64) {
	for _, k := range keys {
		list = append(list, k.Sequence)
	}
	return list
}

func upTo(n uint64) (list []uint64) {
	for s := uint64(1); s <= n; s++ {
		list = append(list, s)
	}
	return list
}

func TestALaterLifeGetsWhatIsLeft(t *testing.T) {
	disk := newFakeDisk()
	first := open(t, disk, nil)
	first.put(schema.SamplesID, 1, 20, 400)
	first.put(schema.EventsID, 1, 3, 60)
	first.work()
	if s := first.Stats(); s.MemoryBatches != 0 || s.WaitingBatches != 23 {
		t.Fatalf("stats %+v: all should be on disk", s)
	}
	for s := uint64(1); s <= 5; s++ {
		first.Queue(schema.SamplesID).Stored(first.Epoch(), s)
	}
	disk.crash(rand.New(rand.NewPCG(1, 1)))
	second := open(t, disk, nil)
	if second.Epoch() <= first.Epoch() {
		t.Errorf("epochs %d and %d", first.Epoch(), second.Epoch())
	}
	second.put(schema.SamplesID, 1, 2, 400)
	second.work()
	got := second.given(schema.SamplesID)
	// What was settled comes again, as the collector knows it; the earlier life goes first.
	if want := append(upTo(20), 1, 2); !slices.Equal(sequences(got), want) || got[0].Epoch != first.Epoch() || got[21].Epoch != second.Epoch() {
		t.Errorf("got %v", got)
	}
	if got := sequences(second.given(schema.EventsID)); !slices.Equal(got, upTo(3)) {
		t.Errorf("events %v", got)
	}
	if epoch, waiting := second.Queue(schema.SamplesID).Life(); !waiting || epoch != first.Epoch() {
		t.Errorf("life %d, %v", epoch, waiting)
	}
}

// TestFilesGoWhenAllIsSettled: and a clean end leaves none.
func TestFilesGoWhenAllIsSettled(t *testing.T) {
	disk := newFakeDisk()
	f := open(t, disk, nil)
	f.put(schema.SamplesID, 1, 40, 400)
	f.work()
	before := len(disk.segments())
	for s := uint64(1); s <= 40; s++ {
		f.Queue(schema.SamplesID).Stored(f.Epoch(), s)
	}
	f.work()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if left := disk.segments(); before < 3 || len(left) != 0 || f.Stats().DiskBytes != 0 {
		t.Errorf("%d segments, then %v, %d bytes", before, left, f.Stats().DiskBytes)
	}
}

// TestTornWrite cuts the last segment at every byte of its last record.
func TestTornWrite(t *testing.T) {
	disk := newFakeDisk()
	f := open(t, disk, nil)
	f.put(schema.SamplesID, 1, 2, 200)
	f.work()
	name := disk.segments()[0]
	two := len(disk.bytes(name))
	f.put(schema.SamplesID, 3, 3, 200)
	f.work()
	whole := disk.bytes(name)
	for n := two; n < len(whole); n++ {
		disk.change(name, whole[:n])
		after := open(t, disk, nil)
		after.work()
		if got := sequences(after.given(schema.SamplesID)); !slices.Equal(got, upTo(2)) {
			t.Fatalf("cut at %d of %d: got %v", n, len(whole), got)
		}
		if len(after.losses) > 0 {
			t.Fatalf("cut at %d: %v: what was never synced is no loss", n, after.losses)
		}
		disk.change(name, whole)
	}
}

// TestFlippedBit flips each bit of a segment: what comes out is what was pushed, and what is missing was told.
func TestFlippedBit(t *testing.T) {
	disk := newFakeDisk()
	f := open(t, disk, nil)
	f.put(schema.SamplesID, 1, 3, 80)
	f.work()
	f.put(schema.EventsID, 1, 1, 40)
	f.work()
	name := disk.segments()[0]
	whole := disk.bytes(name)
	for bit := range 8 * len(whole) {
		spoilt := slices.Clone(whole)
		spoilt[bit/8] ^= 1 << (bit % 8)
		one := newFakeDisk()
		one.now[name] = &inode{content: spoilt}
		after := open(t, one, nil)
		after.work()
		got := sequences(after.given(schema.SamplesID))
		if len(got) < 2 && bit/8 >= headerBytes {
			t.Fatalf("bit %d: only %v came out", bit, got)
		}
		torn := slices.Equal(got, upTo(2)) // the last record of the last segment looks like a write that was cut short
		if len(got) < 3 && !torn && len(after.losses) == 0 {
			t.Fatalf("bit %d: %v came out, and nothing was told", bit, got)
		}
	}
}

// TestSyncThatFails: what a sync could not make durable is written again, to another file.
func TestSyncThatFails(t *testing.T) {
	disk := newFakeDisk()
	f := open(t, disk, nil)
	f.put(schema.SamplesID, 1, 2, 200)
	f.work()
	disk.set(func(operation, name string) error {
		if operation == "sync" && strings.HasSuffix(name, segmentSuffix) {
			return syscall.EIO
		}
		return nil
	})
	f.put(schema.SamplesID, 3, 4, 200)
	f.work()
	if s := f.Stats(); s.MemoryBatches != 2 || !s.Failing || len(f.health) != 1 || !errors.Is(f.health[0], syscall.EIO) {
		t.Fatalf("stats %+v, told %v", s, f.health)
	}
	if got := sequences(f.given(schema.SamplesID)); !slices.Equal(got, upTo(4)) {
		t.Errorf("got %v: what is in memory is sent all the same", got)
	}
	disk.set(nil)
	f.work()
	f.put(schema.SamplesID, 5, 5, 200)
	f.work()
	if s := f.Stats(); s.MemoryBatches != 0 || s.Failing || len(f.health) != 2 || f.health[1] != nil {
		t.Fatalf("stats %+v, told %v", s, f.health)
	}
	disk.crash(rand.New(rand.NewPCG(1, 1)))
	if got := sequences(open(t, disk, nil).given(schema.SamplesID)); !slices.Equal(got, upTo(5)) {
		t.Errorf("after a crash: %v", got)
	}
}

// TestDiskThatTakesNothing: full, read-only, or gone at the start; the agent goes on from memory.
func TestDiskThatTakesNothing(t *testing.T) {
	for name, failing := range map[string]func(operation string) error{
		"full":      func(op string) error { return when(op == "write", syscall.ENOSPC) },
		"read-only": func(op string) error { return when(op == "open" || op == "rename" || op == "remove", syscall.EROFS) },
		"gone":      func(string) error { return syscall.ENODEV },
	} {
		disk := newFakeDisk()
		disk.set(func(op, _ string) error { return failing(op) })
		f := open(t, disk, nil)
		f.put(schema.SamplesID, 1, 3, 200)
		f.work()
		f.work()
		if got := sequences(f.given(schema.SamplesID)); !slices.Equal(got, upTo(3)) || len(f.health) != 1 || f.health[0] == nil {
			t.Errorf("%s: got %v, told %v", name, got, f.health)
		}
		f.Queue(schema.SamplesID).Stored(f.Epoch(), 1)
		disk.set(nil)
		f.work()
		if s := f.Stats(); s.MemoryBatches != 0 || s.WaitingBatches != 2 || s.Failing {
			t.Errorf("%s: when it works again: %+v", name, s)
		}
	}
}

func when(is bool, err error) error {
	if is {
		return err
	}
	return nil
}

// TestWrittenTwice: a write that failed may be in the file all the same, and cannot be cut off; the batch comes out once.
func TestWrittenTwice(t *testing.T) {
	disk := newFakeDisk()
	disk.keeps = true
	f := open(t, disk, nil)
	f.put(schema.SamplesID, 1, 1, 200)
	f.work()
	disk.set(func(operation, name string) error {
		return when(strings.HasSuffix(name, segmentSuffix) && (operation == "sync" || operation == "truncate"), syscall.EIO)
	})
	f.put(schema.SamplesID, 2, 2, 200)
	f.work()
	disk.set(nil)
	f.work()
	if got := len(disk.segments()); got != 2 {
		t.Fatalf("%d segments", got)
	}
	first := disk.segments()[0]
	whole := disk.bytes(first)
	for _, cut := range []int{0, 1, 50} { // whole, and torn
		disk.change(first, whole[:len(whole)-cut])
		after := open(t, disk, nil)
		after.work()
		if got := sequences(after.given(schema.SamplesID)); !slices.Equal(got, upTo(2)) || after.Stats().Recovered != 2 || len(after.losses) > 0 {
			t.Errorf("got %v, %+v, losses %v", got, after.Stats(), after.losses)
		}
	}
	// The same place in a file of which it was durable is damage.
	f.put(schema.SamplesID, 3, 30, 400)
	f.work()
	second := disk.segments()[1]
	spoilt := disk.bytes(second)
	disk.change(second, spoilt[:len(spoilt)-50])
	after := open(t, disk, nil)
	after.work()
	if len(after.losses) != 1 || after.losses[0].Kind != Damaged {
		t.Errorf("losses %v", after.losses)
	}
}

// TestAnswerComesWhileItIsWritten: a batch that was sent from memory may be settled before it is on disk.
func TestAnswerComesWhileItIsWritten(t *testing.T) {
	disk := newFakeDisk()
	f := open(t, disk, nil)
	f.put(schema.SamplesID, 1, 3, 200)
	disk.set(func(operation, name string) error {
		if operation == "sync" && strings.HasSuffix(name, segmentSuffix) {
			f.Queue(schema.SamplesID).Stored(f.Epoch(), 2)
		}
		return nil
	})
	f.work()
	if got := sequences(f.given(schema.SamplesID)); !slices.Equal(got, []uint64{1, 3}) || f.Stats().WaitingBatches != 2 || f.Stats().Stored != 1 {
		t.Errorf("got %v, %+v", got, f.Stats())
	}
}

// TestOldest is what an agent tells the collector when it opens a stream.
func TestOldest(t *testing.T) {
	f := open(t, newFakeDisk(), nil)
	q := f.Queue(schema.SamplesID)
	f.put(schema.SamplesID, 1, 6, 200)
	f.work()
	f.put(schema.SamplesID, 7, 8, 200)
	for _, tt := range []struct{ settle, oldest uint64 }{{2, 1}, {1, 3}, {3, 4}, {6, 4}, {5, 4}, {4, 7}, {7, 8}} {
		q.Stored(f.Epoch(), tt.settle)
		if got, ok := q.Oldest(f.Epoch()); !ok || got != tt.oldest {
			t.Errorf("after %d is settled the oldest is %d, %v; want %d", tt.settle, got, ok, tt.oldest)
		}
	}
	q.Rejected(f.Epoch(), 8, "rows from 1970")
	if _, ok := q.Oldest(f.Epoch()); ok || len(f.losses) != 1 || f.losses[0].Rows != 8 {
		t.Errorf("losses %v", f.losses)
	}
}

// TestShortWrite has the disk take a part of each write, and say nothing.
func TestShortWrite(t *testing.T) {
	disk := newFakeDisk()
	f := open(t, disk, nil)
	disk.short = func(name string, n int) int {
		if strings.HasSuffix(name, segmentSuffix) {
			return n - 1
		}
		return n
	}
	f.put(schema.SamplesID, 1, 3, 200)
	f.work()
	if s := f.Stats(); s.MemoryBatches != 3 || !s.Failing {
		t.Errorf("stats %+v", s)
	}
	disk.short = nil
	f.work()
	disk.crash(rand.New(rand.NewPCG(1, 1)))
	if got := sequences(open(t, disk, nil).given(schema.SamplesID)); !slices.Equal(got, upTo(3)) {
		t.Errorf("got %v", got)
	}
}

// TestReadingsGiveWayToFacts fills the disk: the oldest readings go, events stay, and all that is lost is counted.
func TestReadingsGiveWayToFacts(t *testing.T) {
	disk := newFakeDisk()
	f := open(t, disk, func(c *Config) { c.MaxBytes = 64 << 10; c.limits.segmentBytes = 4 << 10 })
	f.put(schema.EventsID, 1, 20, 300)
	f.work()
	const pushed = 300
	for s := uint64(1); s <= pushed; s++ {
		f.put(schema.SamplesID, s, s, 600)
		f.work()
	}
	got := sequences(f.given(schema.SamplesID))
	if events := sequences(f.given(schema.EventsID)); !slices.Equal(events, upTo(20)) {
		t.Errorf("events %v", events)
	}
	var lost uint64
	for _, l := range f.losses {
		if l.Kind != Dropped || l.Last.Table != schema.SamplesID {
			t.Errorf("loss %+v", l)
		}
		lost += l.Batches
	}
	if len(got) == 0 || got[len(got)-1] != pushed || got[0] != pushed-uint64(len(got))+1 || lost+uint64(len(got)) != pushed {
		t.Errorf("%d left of %d, %d lost, from %d", len(got), pushed, lost, got[0])
	}
	if s := f.Stats(); s.DiskBytes > 64<<10 || s.Dropped != lost {
		t.Errorf("stats %+v", s)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	f := open(t, newFakeDisk(), func(c *Config) { c.MaxMemoryBytes = 4 << 10 })
	f.put(schema.EventsID, 1, 5, 100)
	f.put(schema.SamplesID, 1, 50, 400)
	if s := f.Stats(); s.MemoryBytes > 4<<10 || s.Dropped == 0 || len(f.losses) != int(s.Dropped) {
		t.Errorf("stats %+v, %d losses", s, len(f.losses))
	}
	if got := len(f.Queue(schema.EventsID).memory); got != 5 {
		t.Errorf("%d events left of 5", got)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAnotherNodesFolder(t *testing.T) {
	disk := newFakeDisk()
	f := open(t, disk, nil)
	f.put(schema.SamplesID, 1, 1, 100)
	f.work()
	before := disk.segments()
	_, err := Open(Config{MaxBytes: 1 << 20, MaxMemoryBytes: 1 << 20, Node: "node-2", Logger: slog.New(slog.DiscardHandler), folder: disk})
	if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), nodeName) {
		t.Errorf("got %v", err)
	}
	delete(disk.now, lifeName) // the segments tell it, too
	_, err = Open(Config{MaxBytes: 1 << 20, MaxMemoryBytes: 1 << 20, Node: "node-2", Logger: slog.New(slog.DiscardHandler), folder: disk})
	if !errors.Is(err, ErrForeign) || !slices.Equal(before, disk.segments()) {
		t.Errorf("got %v, segments %v", err, disk.segments())
	}
}

// TestRealFolder: the lock, a folder that is made, one that cannot be.
func TestRealFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "spool")
	cfg := Config{Dir: dir, MaxBytes: 1 << 20, MaxMemoryBytes: 1 << 20, Node: nodeName, Logger: slog.New(slog.DiscardHandler)}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(cfg); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "process ") {
		t.Errorf("a second agent: %v", err)
	}
	s.Push(makeBatch(schema.SamplesID, s.Epoch(), 1, 100))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder %v, %v", info, err)
	}
	again, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got := again.Stats(); got.Recovered != 1 || got.DiskBytes == 0 {
		t.Errorf("stats %+v", got)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Dir = file
	broken, err := Open(cfg) // goes on from memory
	if err != nil {
		t.Fatal(err)
	}
	broken.Push(makeBatch(schema.SamplesID, broken.Epoch(), 1, 100))
	broken.round(time.Now())
	if s := broken.Stats(); !s.Failing || s.MemoryBatches != 1 {
		t.Errorf("stats %+v", s)
	}
}

// TestClockSetBack: a life begins after those in the folder, whatever the clock says.
func TestClockSetBack(t *testing.T) {
	disk := newFakeDisk()
	tomorrow := uint64(time.Now().Add(24 * time.Hour).UnixMilli())
	f := open(t, disk, func(c *Config) { c.Epoch = tomorrow })
	f.put(schema.SamplesID, 1, 1, 100)
	f.work()
	if got := open(t, disk, nil).Epoch(); got != tomorrow+1 {
		t.Errorf("epoch %d, want %d", got, tomorrow+1)
	}
	disk.crash(rand.New(rand.NewPCG(1, 1)))
	f = open(t, disk, nil)
	f.storeAll(schema.SamplesID) // no batch tells it any more
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	disk.crash(rand.New(rand.NewPCG(1, 1)))
	if got := open(t, disk, nil).Epoch(); got != tomorrow+3 {
		t.Errorf("epoch %d, want %d", got, tomorrow+3)
	}
}

// TestALifeThatCannotBeRead costs nothing but the check: the segments say whose the folder is, and which life was last.
func TestALifeThatCannotBeRead(t *testing.T) {
	disk := newFakeDisk()
	tomorrow := uint64(time.Now().Add(24 * time.Hour).UnixMilli())
	f := open(t, disk, func(c *Config) { c.Epoch = tomorrow })
	f.put(schema.SamplesID, 1, 1, 100)
	f.work()
	whole := disk.bytes(lifeName)
	for bit := range 8 * len(whole) {
		spoilt := slices.Clone(whole)
		spoilt[bit/8] ^= 1 << (bit % 8)
		disk.change(lifeName, spoilt)
		after := open(t, disk, nil)
		if got := after.Epoch(); got != tomorrow+1 || len(after.given(schema.SamplesID)) != 1 {
			t.Fatalf("bit %d: epoch %d, want %d", bit, got, tomorrow+1)
		}
	}
	for n := range whole {
		disk.change(lifeName, whole[:n])
		if got := open(t, disk, nil).Epoch(); got != tomorrow+1 {
			t.Fatalf("cut at %d: epoch %d, want %d", n, got, tomorrow+1)
		}
	}
}
