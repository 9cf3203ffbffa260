// SPDX-License-Identifier: Apache-2.0

package batchlog

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gpufleet/gpufleet/internal/frames"
)

// folder is where the segments of one table lie.
type folder interface {
	// list makes the folder if it is missing, and names its files with their sizes.
	list() (map[string]int64, error)
	// create makes a file that must not be there. Its name is durable with sync.
	create(name string) (file, error)
	open(name string) (file, error)
	sync() error
	rename(from, to string) error
	remove(name string) error
}

// file is an open file. Nothing that was written is durable before Sync has returned nil.
type file interface {
	io.ReaderAt
	io.Writer
	io.Closer
	Sync() error
	Truncate(size int64) error
}

// disk is a folder of the operating system.
type disk struct{ dir string }

var _ folder = disk{}

func (d disk) list() (map[string]int64, error) {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, err
	}
	files := make(map[string]int64)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			files[e.Name()] = info.Size()
		}
	}
	return files, frames.SyncFolder(filepath.Dir(d.dir))
}

func (d disk) create(name string) (file, error) {
	return os.OpenFile(filepath.Join(d.dir, name), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
}

func (d disk) open(name string) (file, error) {
	return os.OpenFile(filepath.Join(d.dir, name), os.O_RDWR, 0)
}

func (d disk) sync() error { return frames.SyncFolder(d.dir) }

func (d disk) rename(from, to string) error {
	return os.Rename(filepath.Join(d.dir, from), filepath.Join(d.dir, to))
}

func (d disk) remove(name string) error {
	if err := os.Remove(filepath.Join(d.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
