// SPDX-License-Identifier: Apache-2.0

// Package inference finds the servers of one node that answer prompts, and the jobs that train, and writes down what their
// counters of tokens gain. It promises that an increment is what a counter has gained, or is NULL: never negative, never
// more than any server could do, never counted under two names; that it reads a bounded part of a page in bounded time;
// that it asks only addresses that were named, or that belong to who has a GPU of the node; and that a server without
// counters is a row with the reason.
//
//	configuration ─┐
//	 owners: pods ─┼─▶ finder ─▶ targets ─▶ page: known names ─▶ counters: increments ─▶ rows of token_samples
//	       /proc ──┘             HTTP GET
//
// A Watcher has one goroutine, that of Run. It reads several pages at a time, each in a goroutine that ends within the
// timeout, and waits for all of them.
package inference

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/agent/internal/owner"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Rows takes rows. It may be used by several goroutines.
type Rows interface {
	// Append adds a row: the wire columns of a table in order. The cells are only valid in the call.
	Append(table uint8, cells []batch.Cell) error
}

// Options is which servers are read, and how.
type Options struct {
	Servers  []Server      // that were named
	Find     bool          // look for others: pages that the pods with GPUs name, and Ports of processes on GPUs
	Ports    []uint16      // that are asked; what listens on any other may not take an HTTP request well
	Proc     fs.FS         // the /proc of the host; nil: no ports are looked for
	Interval time.Duration // between readings
	Timeout  time.Duration // of a reading

	// Transport carries the requests; nil: one of the watcher's own, without a proxy.
	Transport http.RoundTripper
}

// Server is one that an operator named. What is empty is found out, or not known.
type Server struct {
	URL        string
	Role       string // as in the schema
	Model      string
	Deployment string
	Team       string
}

// DefaultOptions looks for nothing: a simulated node has no real servers.
func DefaultOptions() Options {
	return Options{Ports: DefaultPorts(), Interval: 15 * time.Second, Timeout: 5 * time.Second}
}

// DefaultPorts are those on which the engines listen unless they are told otherwise.
func DefaultPorts() []uint16 {
	return []uint16{8000, 8001, 8002, 8080, 8081, 8082, 8100, 8200, 9090, 23333, 30000, 30001}
}

// Validate tells what cannot be honoured.
func (o Options) Validate() error {
	var problems []error
	if o.Interval < time.Second || o.Interval > time.Hour {
		problems = append(problems, fmt.Errorf("interval of %s between readings of tokens: 1s to 1h", o.Interval))
	}
	if o.Timeout < 100*time.Millisecond || o.Timeout > time.Minute {
		problems = append(problems, fmt.Errorf("timeout of %s for pages of inference servers: 100ms to 1m", o.Timeout))
	}
	for _, s := range o.Servers {
		problems = append(problems, s.problem())
	}
	if len(o.Servers) > mostTargets {
		problems = append(problems, fmt.Errorf("%d inference servers: at most %d on a node", len(o.Servers), mostTargets))
	}
	return errors.Join(problems...)
}

// Config is what a Watcher is told.
type Config struct {
	Options
	Node     string
	Holders  func() []owner.Holder // who has the GPUs; nil: not known
	Rows     Rows
	RowEvery time.Duration // between rows of a server that counts nothing
	Logger   *slog.Logger
}

// Bounds of what a node may have.
const (
	mostTargets  = 128
	mostAtOnce   = 8
	forgetTarget = 10 * time.Minute // after this long without being found
)

// Stats is what a Watcher has done so far.
type Stats struct {
	Servers  int64 // that were found or named, and are read now
	Silent   int64 // of these: count no tokens
	Reads    uint64
	Failures uint64 // reads without a page
	Resets   uint64 // counters that began anew
	Doubtful uint64 // increments that were left out, because no server could have made them
}

// Add adds another watcher's counts.
func (s *Stats) Add(o Stats) {
	s.Servers += o.Servers
	s.Silent += o.Silent
	s.Reads += o.Reads
	s.Failures += o.Failures
	s.Resets += o.Resets
	s.Doubtful += o.Doubtful
}

// Watcher reads the servers of one node. It runs once.
type Watcher struct {
	cfg     Config
	client  *http.Client
	engines []engine
	names   names
	finder  finder
	targets map[string]*target // by URL

	servers, silent atomic.Int64
	reads, failures atomic.Uint64
	resets, doubt   atomic.Uint64
}

// New makes a watcher.
func New(cfg Config) *Watcher {
	all := engines()
	return &Watcher{
		cfg: cfg, client: newClient(cfg.Transport, cfg.Timeout), targets: make(map[string]*target), engines: all, names: newNames(all),
		finder: finder{options: cfg.Options, engines: all, holders: cfg.Holders, ports: newPortFinder(cfg.Proc, cfg.Ports)},
	}
}

// Stats may be called while Run runs.
func (w *Watcher) Stats() Stats {
	return Stats{
		Servers: w.servers.Load(), Silent: w.silent.Load(), Reads: w.reads.Load(), Failures: w.failures.Load(), Resets: w.resets.Load(), Doubtful: w.doubt.Load(),
	}
}

// Run reads until the context ends. Its error is that of a row that could not be written. Each node has its own place in
// the interval, so that a fleet does not ask one gateway at once.
func (w *Watcher) Run(ctx context.Context) error {
	defer w.client.CloseIdleConnections()
	every := w.cfg.Interval
	phase := time.Duration(wire.NodeID(w.cfg.Node) % uint64(every))
	for {
		now := time.Now()
		timer := time.NewTimer(now.Add(-phase).Truncate(every).Add(every + phase).Sub(now))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		if err := w.once(ctx); err != nil {
			return fmt.Errorf("read tokens: %w", err)
		}
	}
}

// once finds servers, reads all of them and writes their rows.
func (w *Watcher) once(ctx context.Context) error {
	due := w.due(time.Now())
	var group errgroup.Group
	group.SetLimit(mostAtOnce)
	for _, t := range due {
		group.Go(func() error {
			t.read(ctx, w.client, w.names, w.engines, w.cfg.Interval)
			return nil
		})
	}
	if err := group.Wait(); err != nil || ctx.Err() != nil {
		return err // a read that was cut short says nothing
	}
	for _, t := range due {
		if err := w.write(t); err != nil {
			return err
		}
	}
	w.census()
	return nil
}

// census counts the servers.
func (w *Watcher) census() {
	servers, silent := int64(0), int64(0)
	for _, t := range w.targets {
		if t.isServer() {
			servers++
			if t.reason != "" {
				silent++
			}
		}
	}
	w.servers.Store(servers)
	w.silent.Store(silent)
}

// due brings the targets up to date with what is found, and picks those to be read now.
func (w *Watcher) due(now time.Time) []*target {
	for _, found := range w.finder.find() {
		t := w.targets[found.url]
		switch {
		case t == nil && len(w.targets) < mostTargets:
			t = &target{found: found}
			w.targets[found.url] = t
			w.cfg.Logger.Debug("a page to read tokens from", "url", found.url, "found_by", found.by, "pod", found.pod, "deployment", found.deployment)
		case t == nil:
			continue
		}
		t.found, t.seen = found, now
	}
	var due []*target
	for url, t := range w.targets {
		if now.Sub(t.seen) > forgetTarget {
			delete(w.targets, url)
			continue
		}
		if !now.Before(t.next) {
			due = append(due, t)
		}
	}
	slices.SortFunc(due, func(a, b *target) int { return cmp.Compare(a.found.url, b.found.url) })
	return due
}
