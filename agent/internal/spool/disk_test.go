// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
)

// fakeDisk is a folder that loses what was not synced when the power fails, and fails as a test tells it.
type fakeDisk struct {
	mu    sync.Mutex // guards the fields below
	now   map[string]*inode
	names map[string]*inode // durable
	// fail, if not nil, is asked before each operation: write, sync, open, rename, remove, list, read, truncate.
	fail func(operation, name string) error
	// short, if not nil, is how many of so many bytes a write takes.
	short func(name string, bytes int) int
	// keeps has what a failed sync was about stay in the file, durable or not.
	keeps bool
	// durableBytes are those of the files that a crash has left.
	durableBytes map[string]int
}

type inode struct {
	content []byte
	durable []byte
	synced  int // bytes that a sync has made durable, rather than a power cut
}

func newFakeDisk() *fakeDisk { return &fakeDisk{now: map[string]*inode{}, names: map[string]*inode{}} }

func (d *fakeDisk) failsLocked(operation, name string) error {
	if d.fail == nil {
		return nil
	}
	return d.fail(operation, name)
}

// crash is a power cut: of what was not synced a part may be there all the same, at the end of a file.
func (d *fakeDisk) crash(random *rand.Rand) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail, d.short = nil, nil
	d.now, d.durableBytes = map[string]*inode{}, map[string]int{}
	for name, n := range d.names {
		d.durableBytes[name] = n.synced
		content := slices.Clone(n.durable)
		if len(n.content) > len(content) && slices.Equal(n.content[:len(content)], content) {
			content = append(content, n.content[len(content):][:random.IntN(len(n.content)-len(content)+1)]...)
		}
		if torn := len(content) - len(n.durable); torn > 0 && random.IntN(2) == 0 {
			content[len(n.durable)+random.IntN(torn)] ^= 0x40 // a block that never came
		}
		fresh := &inode{content: content, durable: slices.Clone(content), synced: n.synced}
		d.now[name] = fresh
	}
	d.names = maps.Clone(d.now)
}

func (d *fakeDisk) list() ([]fileInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.failsLocked("list", "."); err != nil {
		return nil, err
	}
	var files []fileInfo
	for name, n := range d.now {
		files = append(files, fileInfo{name, int64(len(n.content))})
	}
	return files, nil
}

func (d *fakeDisk) open(name string, flag int) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.failsLocked("open", name); err != nil {
		return nil, err
	}
	if name == "." {
		return &fakeFile{disk: d, name: name, node: &inode{}}, nil
	}
	n, ok := d.now[name]
	switch {
	case !ok && flag&os.O_CREATE == 0:
		return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
	case ok && flag&os.O_EXCL != 0:
		return nil, fmt.Errorf("open %s: %w", name, fs.ErrExist)
	case !ok:
		n = &inode{}
		d.now[name] = n
	case flag&os.O_TRUNC != 0:
		n.content = nil
	}
	return &fakeFile{disk: d, name: name, node: n}, nil
}

func (d *fakeDisk) rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, ok := d.now[from]
	if err := d.failsLocked("rename", from); err != nil || !ok {
		return fmt.Errorf("rename %s: %w", from, fs.ErrNotExist)
	}
	delete(d.now, from)
	d.now[to] = n
	return nil
}

func (d *fakeDisk) remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.failsLocked("remove", name); err != nil {
		return err
	}
	if _, ok := d.now[name]; !ok {
		return fs.ErrNotExist
	}
	delete(d.now, name)
	return nil
}

// bytes is a file as it is; change changes it behind the spool's back.
func (d *fakeDisk) bytes(name string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.now[name].content)
}

func (d *fakeDisk) change(name string, content []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now[name].content = slices.Clone(content)
}

func (d *fakeDisk) set(fail func(operation, name string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = fail
}

// segments names the segments, oldest first.
func (d *fakeDisk) segments() (found []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name := range d.now {
		if _, _, ok := parseName(name); ok {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}

// aside names the files that were set aside.
func (d *fakeDisk) aside() (found []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name := range d.now {
		if strings.HasSuffix(name, damagedSuffix) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}

type fakeFile struct {
	disk *fakeDisk
	name string
	node *inode
}

// ReadAt implements io.ReaderAt.
func (f *fakeFile) ReadAt(b []byte, offset int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.failsLocked("read", f.name); err != nil {
		return 0, err
	}
	if offset >= int64(len(f.node.content)) {
		return 0, io.EOF
	}
	n := copy(b, f.node.content[offset:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// Write implements io.Writer.
func (f *fakeFile) Write(b []byte) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	err := f.disk.failsLocked("write", f.name)
	n := len(b)
	if f.disk.short != nil {
		n = min(n, f.disk.short(f.name, n))
	}
	if err != nil {
		n = len(b) / 3
	}
	f.node.content = append(f.node.content, b[:n]...)
	return n, err
}

// Sync makes the content durable; of the folder, the names. A sync that fails throws away what was written.
func (f *fakeFile) Sync() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.failsLocked("sync", f.name); err != nil {
		if f.name != "." && !f.disk.keeps {
			f.node.content = slices.Clone(f.node.durable)
		}
		return err
	}
	if f.name == "." {
		f.disk.names = maps.Clone(f.disk.now)
		return nil
	}
	f.node.durable, f.node.synced = slices.Clone(f.node.content), len(f.node.content)
	return nil
}

// Truncate implements file.
func (f *fakeFile) Truncate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.failsLocked("truncate", f.name); err != nil {
		return err
	}
	f.node.content = f.node.content[:min(int(size), len(f.node.content))]
	return nil
}

// Close implements io.Closer.
func (f *fakeFile) Close() error { return nil }
