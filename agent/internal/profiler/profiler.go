// SPDX-License-Identifier: Apache-2.0

// Package profiler looks for programs that measure GPUs closely: NVIDIA's profilers hold a GPU's counters, and what
// others ask of the driver meanwhile shows in what they measure. It knows them by the names of their processes, which
// every user may read. One that is part of the program that it measures is not seen.
package profiler

import (
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// names are those of profilers as the kernel keeps them, in 15 bytes at most.
var names = []string{"nsys", "nsys-launcher", "ncu", "nv-nsight-cu-cl", "nvprof"}

// maxName is what is read of a name.
const maxName = 64

// freshFor is how long an answer is good for: a node may have thousands of processes, and orders for bursts come close
// together.
const freshFor = 900 * time.Millisecond

// Finder looks for profilers, once in about a second at most. It may be used by several goroutines.
type Finder struct {
	proc fs.FS

	mu   sync.Mutex // guards the fields below; who asks while another one looks waits for that answer
	at   time.Time  // of the look
	name string     // that it found
}

// NewFinder makes a finder that looks into a node's /proc; into none if it is nil.
func NewFinder(proc fs.FS) *Finder { return &Finder{proc: proc} }

// Find is the function Find, or what it answered just now.
func (f *Finder) Find() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at.IsZero() || time.Since(f.at) >= freshFor {
		f.name, f.at = Find(f.proc), time.Now()
	}
	return f.name
}

// Find names a profiler that runs; "" if none is found, or if the file system that should be /proc cannot be read.
// What cannot be listed any more, because the process has ended, is none.
func Find(proc fs.FS) string {
	if proc == nil {
		return ""
	}
	entries, err := fs.ReadDir(proc, ".")
	if err != nil {
		return ""
	}
	for _, e := range entries {
		if _, err := strconv.ParseUint(e.Name(), 10, 32); err != nil {
			continue
		}
		if name := nameOf(proc, e.Name()); slices.Contains(names, name) {
			return name
		}
	}
	return ""
}

func nameOf(proc fs.FS, pid string) string {
	file, err := proc.Open(path.Join(pid, "comm"))
	if err != nil {
		return ""
	}
	defer file.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(io.LimitReader(file, maxName))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(text), "\n")
}
