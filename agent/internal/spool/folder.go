// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/gpufleet/gpufleet/internal/frames"
)

// folder is where the files of a spool lie. Names are those of files in it; "." is the folder itself, which is
// synced to make the coming and going of files durable.
type folder interface {
	// list names every file with its size.
	list() ([]fileInfo, error)
	// open opens a file as os.OpenFile does.
	open(name string, flag int) (file, error)
	rename(from, to string) error
	remove(name string) error
}

type fileInfo struct {
	name string
	size int64
}

// file is an open file. Nothing that was written is durable before Sync has returned nil; once it has returned
// an error, nothing that was written since the Sync before can be made durable any more.
type file interface {
	io.ReaderAt
	io.Writer
	io.Closer
	Sync() error
	Truncate(size int64) error
}

// disk is a folder of the operating system.
type disk struct {
	dir  string
	lock *os.File
}

var _ folder = (*disk)(nil)

// ErrLocked means that another agent is alive in the folder.
var ErrLocked = frames.ErrLocked

// openDisk makes the folder if it is missing, and takes its lock.
func openDisk(dir string) (*disk, error) {
	lock, err := frames.Lock(dir)
	switch {
	case errors.Is(err, ErrLocked):
		return nil, fmt.Errorf("spool %w: stop that one, or give --spool-dir another folder", err)
	case err != nil:
		return nil, fmt.Errorf("open spool: %w", err)
	}
	return &disk{dir: dir, lock: lock}, nil
}

// Close gives the lock back.
func (d *disk) Close() error { return d.lock.Close() }

func (d *disk) list() ([]fileInfo, error) {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, fmt.Errorf("list spool: %w", err)
	}
	var files []fileInfo
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue // it is gone, or none of ours
		}
		files = append(files, fileInfo{e.Name(), info.Size()})
	}
	return files, nil
}

func (d *disk) open(name string, flag int) (file, error) {
	f, err := os.OpenFile(filepath.Join(d.dir, name), flag, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open spool file: %w", err)
	}
	return f, nil
}

func (d *disk) rename(from, to string) error {
	return os.Rename(filepath.Join(d.dir, from), filepath.Join(d.dir, to))
}

func (d *disk) remove(name string) error { return os.Remove(filepath.Join(d.dir, name)) }

// syncFolder makes the names in the folder durable.
func syncFolder(f folder) error {
	d, err := f.open(".", os.O_RDONLY)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
