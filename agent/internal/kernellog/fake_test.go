// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	bootA = "7d517a1a-7fa8-45f6-8c4f-459eca952dea"
	bootB = "00000000-0000-4000-8000-000000000002"
)

// kernel is a log with the behaviour of the real one: a ring that forgets, and readers with a position each.
type kernel struct {
	bound int // records that the ring holds; 0: all

	mu      sync.Mutex
	first   uint64 // sequence of ring[0]
	ring    [][]byte
	written chan struct{} // closed by the next write
	opened  int
	denied  error // of open
	failing error // of reads
	began   time.Time
}

func newKernel() *kernel { return &kernel{written: make(chan struct{}), began: time.Now()} }

// print writes a line as the kernel does, now.
func (k *kernel) print(format string, args ...any) {
	k.put(4, fmt.Sprintf(format, args...))
}

func (k *kernel) put(priority int, text string) {
	k.mu.Lock()
	sequence := k.first + uint64(len(k.ring))
	k.mu.Unlock()
	k.raw(fmt.Appendf(nil, "%d,%d,%d,-;%s\n SUBSYSTEM=pci\n", priority, sequence, time.Since(k.began).Microseconds(), text))
}

// raw writes a record whatever it is.
func (k *kernel) raw(b []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ring = append(k.ring, b)
	if k.bound > 0 && len(k.ring) > k.bound {
		k.first += uint64(len(k.ring) - k.bound)
		k.ring = k.ring[len(k.ring)-k.bound:]
	}
	close(k.written)
	k.written = make(chan struct{})
}

// forget drops the oldest records.
func (k *kernel) forget(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.first, k.ring = k.first+uint64(n), k.ring[n:]
}

func (k *kernel) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failing = err
	close(k.written)
	k.written = make(chan struct{})
}

func (k *kernel) deny(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.denied = err
}

func (k *kernel) opens() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.opened
}

func (k *kernel) open(path string) (device, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.opened++
	if k.denied != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: k.denied}
	}
	return &handle{kernel: k, position: k.first, closed: make(chan struct{})}, nil
}

// handle is an open file of the log.
type handle struct {
	kernel   *kernel
	position uint64
	once     sync.Once
	closed   chan struct{}
}

func (h *handle) Read(p []byte) (int, error) {
	select {
	case <-h.closed:
		return 0, os.ErrClosed
	default:
	}
	k := h.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.failing != nil:
		return 0, k.failing
	case h.position < k.first:
		h.position = k.first
		return 0, unix.EPIPE
	case h.position == k.first+uint64(len(k.ring)):
		return 0, unix.EAGAIN
	}
	record := k.ring[h.position-k.first]
	h.position++
	if len(record) > len(p) {
		return 0, unix.EINVAL
	}
	return copy(p, record), nil
}

func (h *handle) Wait(until time.Time) error {
	k := h.kernel
	k.mu.Lock()
	ready, written := k.failing != nil || h.position != k.first+uint64(len(k.ring)), k.written
	k.mu.Unlock()
	if ready {
		return nil
	}
	var timeout <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-written:
		return nil
	case <-timeout:
		return os.ErrDeadlineExceeded
	case <-h.closed:
		return os.ErrClosed
	}
}

func (h *handle) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// watcher is a reader that runs, and what it told.
type watcher struct {
	t      *testing.T
	reader *Reader
	cancel context.CancelFunc
	done   chan error

	mu     sync.Mutex
	found  []Finding
	health []Health
}

// watch runs a reader of the kernel on a node whose files are in dir.
func watch(t *testing.T, k *kernel, dir string, change ...func(*Config)) *watcher {
	t.Helper()
	w := &watcher{t: t, done: make(chan error, 1)}
	cfg := Config{
		Device: DefaultDevice, BootIDFile: filepath.Join(dir, "boot_id"), StateFile: filepath.Join(dir, "state"), RetryWait: time.Minute,
		OnFinding: func(f Finding) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.found = append(w.found, f)
		},
		OnHealth: func(h Health) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.health = append(w.health, h)
		},
		Logger: slog.New(slog.DiscardHandler),
	}
	for _, c := range change {
		c(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	w.reader = New(cfg)
	w.reader.open = k.open
	w.reader.clock = newStamper(func() (time.Time, time.Duration) { return time.Now(), time.Since(k.began) })
	var ctx context.Context
	ctx, w.cancel = context.WithCancel(context.Background())
	go func() { w.done <- w.reader.Run(ctx) }()
	return w
}

// stop ends the reader and returns all that it found.
func (w *watcher) stop() []Finding {
	w.t.Helper()
	w.cancel()
	if err := <-w.done; err != nil {
		w.t.Error(err)
	}
	return w.findings()
}

func (w *watcher) findings() []Finding {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Finding(nil), w.found...)
}

func (w *watcher) told() []Health {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Health(nil), w.health...)
}

// node makes the folder of a node that was booted as bootA.
func node(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	reboot(t, dir, bootA)
	return dir
}

func reboot(t *testing.T, dir, boot string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "boot_id"), []byte(boot+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// brief is what most tests look at: kind, sequence and whether it is old.
func brief(findings []Finding) []string {
	lines := []string{}
	for _, f := range findings {
		line := fmt.Sprintf("%s %d", f.Kind, f.Sequence)
		if f.XID != nil {
			line += fmt.Sprintf(" xid %d", *f.XID)
		}
		if f.Count != nil {
			line += fmt.Sprintf(" count %d", *f.Count)
		}
		if f.Kind == LogGap {
			line += " " + f.Subcode
		}
		if f.Backlog {
			line += " backlog"
		}
		lines = append(lines, line)
	}
	return lines
}
