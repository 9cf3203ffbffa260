// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gpufleet/gpufleet/collector/quarantine"
)

// File is one quarantined batch.
type File struct {
	Path  string
	Bytes int64 // of the file
	Entry quarantine.Entry
	Err   error // why it cannot be read; Entry then has only when the file was written
}

// Reason is why the batch is where it is; of a file that cannot be read, why that is.
func (f File) Reason() string {
	if f.Err != nil {
		return f.Err.Error()
	}
	return f.Entry.Reason
}

// Node is the name of the node that sent the batch, or its id, if only that is known.
func (f File) Node() string {
	return cmp.Or(f.Entry.NodeName, fmt.Sprintf("%016x", f.Entry.Node))
}

// List reads what the files, and those in the directories, hold: the oldest first.
func List(paths []string) ([]File, error) {
	var files []File
	seen := make(map[string]bool)
	for _, path := range paths {
		found, err := quarantine.List(filepath.Clean(path))
		if err != nil {
			return nil, err
		}
		for _, one := range found {
			if seen[one] {
				continue
			}
			seen[one] = true
			f, err := readFile(one)
			if errors.Is(err, os.ErrNotExist) {
				continue // somebody has just deleted it
			}
			if err != nil {
				return nil, err
			}
			files = append(files, f)
		}
	}
	slices.SortStableFunc(files, func(a, b File) int { return a.Entry.ReceivedAt.Compare(b.Entry.ReceivedAt) })
	return files, nil
}

func readFile(path string) (File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return File{}, fmt.Errorf("list quarantine: %w", err)
	}
	f := File{Path: path, Bytes: info.Size()}
	if f.Entry, _, f.Err = quarantine.Read(path); f.Err != nil {
		f.Entry.ReceivedAt = info.ModTime()
	}
	return f, nil
}

// Filter says which files are meant. The zero value means all.
type Filter struct {
	Reason string        // is part of it, whatever its case
	Node   string        // name, or id of 16 digits
	Table  string        //
	Older  time.Duration // than this ago they were received
}

// Of are the files that are meant.
func (f Filter) Of(files []File, now time.Time) []File {
	reason := strings.ToLower(f.Reason)
	return slices.DeleteFunc(slices.Clone(files), func(file File) bool {
		return !strings.Contains(strings.ToLower(file.Reason()), reason) ||
			f.Node != "" && f.Node != file.Node() && f.Node != fmt.Sprintf("%016x", file.Entry.Node) ||
			f.Table != "" && f.Table != file.Entry.Table ||
			f.Older > 0 && now.Sub(file.Entry.ReceivedAt) < f.Older
	})
}

// Purge deletes files for ever. It goes on after one that cannot be deleted, and tells which were. What has not the name of a
// quarantined batch stays: a path may be mistyped.
func Purge(files []File) (deleted []File, err error) {
	for _, f := range files {
		if filepath.Ext(f.Path) != quarantine.Extension {
			err = errors.Join(err, fmt.Errorf("%s is not deleted: quarantined batches end with %s", f.Path, quarantine.Extension))
			continue
		}
		switch problem := os.Remove(f.Path); {
		case problem == nil:
			deleted = append(deleted, f)
		case !errors.Is(problem, os.ErrNotExist):
			err = errors.Join(err, fmt.Errorf("delete quarantined batch: %w", problem))
		}
	}
	return deleted, err
}
