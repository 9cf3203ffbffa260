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
			<-time.After(250 * time.Millisecond)
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
