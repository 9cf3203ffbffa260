// SPDX-License-Identifier: Apache-2.0

package batchlog

import (
	"bytes"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpufleet/gpufleet/collector/internal/batchtest"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// written is a segment of three batches, of which the first two are a unit and the last is settled.
func written(t testing.TB, all []*wire.Batch) []byte {
	t.Helper()
	m := &memory{map[string][]byte{}}
	n, err := openLane(configOf(""), batchtest.Table(t, schema.EventsID), m)
	if err != nil {
		t.Fatal(err)
	}
	var group []*entry
	for _, b := range all {
		group = append(group, &entry{batch: b})
	}
	n.writeGroup(append(group, &entry{unit: &Unit{"unit", keysOf(all[:2]...)}}, &entry{settled: keysOf(all[2])}))
	return m.files[segmentName(1)]
}

// reopen opens a lane over one file.
func reopen(t testing.TB, content []byte) (n *lane, m *memory) {
	t.Helper()
	m = &memory{map[string][]byte{segmentName(1): content}}
	n, err := openLane(configOf(""), batchtest.Table(t, schema.EventsID), m)
	if err != nil {
		t.Fatal(err)
	}
	return n, m
}

// aside is what lies in the file that was set aside; nil if none was.
func (m *memory) aside() []byte { return m.files[segmentName(1)+damagedSuffix] }

// check reads what is pending: it must be whole, and what was appended.
func check(t *testing.T, n *lane, all []*wire.Batch) (pending int) {
	t.Helper()
	for _, u := range n.pending() {
		for _, k := range u.Keys {
			pending++
			b, err := n.read(k)
			if err != nil {
				t.Fatal(err)
			}
			if want := all[k.Sequence-1]; !bytes.Equal(b.Body, want.Body) || !bytes.Equal(b.Metadata, want.Metadata) {
				t.Fatalf("batch %v has other bytes", k)
			}
		}
	}
	return pending
}

// TestTornWrite cuts a segment at every byte.
func TestTornWrite(t *testing.T) {
	all := events(t, 3)
	content := written(t, all)
	for n := range content {
		l, m := reopen(t, bytes.Clone(content[:n]))
		if pending := check(t, l, all); n > len(content)-8 && pending < 2 {
			t.Errorf("cut at %d of %d: %d batches", n, len(content), pending)
		}
		l.writeGroup([]*entry{{settled: keysOf(all...)}})
		if m.aside() != nil {
			t.Errorf("cut at %d: taken for damage", n)
		}
	}
}

// TestFlippedBit flips one bit in every byte of a segment.
func TestFlippedBit(t *testing.T) {
	all := events(t, 3)
	content := written(t, all)
	for at := range content {
		spoilt := bytes.Clone(content)
		spoilt[at] ^= 1 << (at % 8)
		n, _ := reopen(t, spoilt)
		if pending := check(t, n, all); pending == 0 {
			t.Errorf("byte %d: nothing is left", at)
		}
	}
}

// TestDamageIsKept for a person to look at, and makes room when that is needed.
func TestDamageIsKept(t *testing.T) {
	all := events(t, 3)
	content := written(t, all)
	content[len(content)/3] ^= 1 // in a batch
	n, m := reopen(t, bytes.Clone(content))
	if pending := check(t, n, all); pending != 1 {
		t.Errorf("%d batches pending", pending)
	}
	n.writeGroup([]*entry{{settled: keysOf(all...)}})
	if !bytes.Equal(m.aside(), content) {
		t.Error("the damaged file was not kept as it was")
	}
	n.cfg.MaxBytes = n.bytes()
	n.writeGroup([]*entry{{batch: all[0]}})
	if len(n.aside) > 0 || len(n.batches) != 1 {
		t.Errorf("a batch was refused for a file that nobody needs: %d batches", len(n.batches))
	}
}

// TestOtherVersion sets a file aside whose columns are not the table's.
func TestOtherVersion(t *testing.T) {
	all := events(t, 3)
	other := batchtest.Table(t, schema.EventsID)
	other.Columns = other.Columns[:len(other.Columns)-1]
	content := written(t, all)
	m := &memory{map[string][]byte{segmentName(1): content}}
	n, err := openLane(configOf(""), other, m)
	if err != nil || len(n.pending()) > 0 || !bytes.Equal(m.aside(), content) {
		t.Errorf("%d units of other columns, aside %d bytes: %v", len(n.pending()), len(m.aside()), err)
	}
}

// failing is a folder whose operations fail as they are told.
type failing struct {
	folder
	fail map[string]error
	done map[string]int
}

func (f *failing) fails(operation string) error {
	f.done[operation]++
	return f.fail[operation]
}

func (f *failing) create(name string) (file, error) {
	if err := f.fails("create"); err != nil {
		return nil, err
	}
	opened, err := f.folder.create(name)
	return &failingFile{opened, f}, err
}

func (f *failing) open(name string) (file, error) {
	if err := f.fails("open"); err != nil {
		return nil, err
	}
	opened, err := f.folder.open(name)
	return &failingFile{opened, f}, err
}

func (f *failing) sync() error { return errors.Join(f.fails("sync of folder"), f.folder.sync()) }

type failingFile struct {
	file
	of *failing
}

func (f *failingFile) Write(b []byte) (int, error) {
	if err := f.of.fails("write"); err != nil {
		n, _ := f.file.Write(b[:len(b)/2])
		return n, err
	}
	return f.file.Write(b)
}

func (f *failingFile) ReadAt(b []byte, at int64) (int, error) {
	if err := f.of.fails("read"); err != nil {
		return 0, err
	}
	return f.file.ReadAt(b, at)
}

func (f *failingFile) Sync() error { return errors.Join(f.of.fails("sync"), f.file.Sync()) }

func (f *failingFile) Truncate(size int64) error {
	return errors.Join(f.of.fails("truncate"), f.file.Truncate(size))
}

// TestDiskFails at each step: who appends is told, what was durable before stays, and the next append works once the
// disk does.
func TestDiskFails(t *testing.T) {
	all := events(t, 4)
	for _, operations := range []string{"create", "write", "sync", "sync of folder", "write,truncate", "write,create"} {
		for _, segmentBytes := range []int64{1, 1 << 20} { // at the begin of a segment, and amid one
			dir := t.TempDir()
			broken := &failing{fail: map[string]error{}, done: map[string]int{}}
			cfg := configOf(dir)
			cfg.limits = limits{segmentBytes: segmentBytes, groupBytes: 1 << 20, folder: func(dir string) folder {
				broken.folder = disk{dir}
				return broken
			}}
			n, err := openLane(cfg, batchtest.Table(t, schema.EventsID), cfg.limits.folder(filepath.Join(dir, "gpu_events")))
			if err != nil {
				t.Fatal(err)
			}
			var refused, kept []wire.Key
			write := func(b *wire.Batch) {
				n.writeGroup([]*entry{{batch: b, done: func(err error) {
					if err != nil {
						refused = append(refused, keysOf(b)...)
					} else {
						kept = append(kept, keysOf(b)...)
					}
				}}})
				for _, a := range n.answers {
					a.done(a.err)
				}
				n.answers = nil
			}
			write(all[0])
			for operation := range strings.SplitSeq(operations, ",") {
				broken.fail[operation] = syscall.ENOSPC
			}
			write(all[1])
			failed := len(refused) > 0
			clear(broken.fail)
			write(all[2])
			used := false
			for operation := range strings.SplitSeq(operations, ",") {
				used = used || broken.done[operation] > 0
			}
			mustFail := segmentBytes == 1 || strings.HasPrefix(operations, "write") || operations == "sync"
			if failed != mustFail || !used || len(kept)+len(refused) != 3 {
				t.Errorf("%s fails, segments of %d bytes: kept %v, refused %v", operations, segmentBytes, kept, refused)
			}
			again, err := openLane(configOf(dir), n.table, disk{filepath.Join(dir, "gpu_events")})
			if err != nil {
				t.Fatal(err)
			}
			check(t, again, all)
			for _, k := range kept {
				if again.batches[k] == nil {
					t.Errorf("%s fails: batch %v was kept, and is not there", operations, k)
				}
			}
		}
	}
}

// TestDiskStaysFull: that is said at once, and then once a minute however often agents try.
func TestDiskStaysFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := events(t, 1)
		var said bytes.Buffer
		cfg := configOf("")
		cfg.Logger = slog.New(slog.NewTextHandler(&said, nil))
		broken := &failing{folder: &memory{map[string][]byte{}}, fail: map[string]error{"write": syscall.ENOSPC}, done: map[string]int{}}
		n, err := openLane(cfg, batchtest.Table(t, schema.EventsID), broken)
		if err != nil {
			t.Fatal(err)
		}
		for range 600 { // two and a half minutes
			n.writeGroup([]*entry{{batch: all[0]}})
			time.Sleep(250 * time.Millisecond)
		}
		if lines := strings.Count(said.String(), "\n"); lines != 3 || !strings.Contains(said.String(), "times=240") {
			t.Errorf("%d lines:\n%s", lines, said.String())
		}
	})
}

// TestUnreadable: a file that cannot be read now stays as it is, and a later start finds what is in it.
func TestUnreadable(t *testing.T) {
	all := events(t, 3)
	content := written(t, all)
	for operation, err := range map[string]error{"open": syscall.EMFILE, "read": syscall.EIO} {
		m := &memory{map[string][]byte{segmentName(1): bytes.Clone(content)}}
		broken := &failing{folder: m, fail: map[string]error{operation: err}, done: map[string]int{}}
		n, err := openLane(configOf(""), batchtest.Table(t, schema.EventsID), broken)
		if err != nil {
			t.Fatal(err)
		}
		clear(broken.fail)
		n.writeGroup([]*entry{{batch: all[0]}}) // life goes on in another file
		n.writeGroup([]*entry{{settled: keysOf(all...)}})
		left := m.files[segmentName(1)]
		if !bytes.Equal(left, content) {
			t.Errorf("%s fails: %d bytes are left of the file", operation, len(left))
		}
		again, _ := reopen(t, left)
		if pending := check(t, again, all); pending != 2 {
			t.Errorf("%s fails: a later start finds %d batches", operation, pending)
		}
	}
}

// TestDamaged: a batch of which the bytes turn out to be lost is settled, and its file kept.
func TestDamaged(t *testing.T) {
	dir, all := t.TempDir(), events(t, 2)
	r := start(t, configOf(dir))
	r.mustAppend(all...)
	r.Damaged(all[0].Identity.Key())
	r.settle(all[1])
	r.stop()
	if left := files(t, dir); len(left) != 1 || !strings.HasSuffix(left[0], damagedSuffix) {
		t.Errorf("%v is left", left)
	}
}

// FuzzSegment: whatever lies in a file, what is pending can be read and is a whole batch of the table.
func FuzzSegment(f *testing.F) {
	all := events(f, 3)
	content := written(f, all)
	f.Add(content)
	f.Add(content[:len(content)-9])
	f.Add(append([]byte{1, 2, 3, 4, 5, 6, 7, 8}, content...))
	f.Fuzz(func(t *testing.T, content []byte) {
		n, _ := reopen(t, bytes.Clone(content))
		seen := map[wire.Key]bool{}
		for _, u := range n.pending() {
			for _, k := range u.Keys {
				if seen[k] {
					t.Fatalf("batch %v is pending twice", k)
				}
				seen[k] = true
				if b, err := n.read(k); err != nil || b.Identity.Key() != k {
					t.Fatalf("batch %v: %v", k, err)
				}
			}
		}
	})
}
