// SPDX-License-Identifier: Apache-2.0

// Package loadgen makes the batches of simulated nodes faster than time, and sends them: the load of
// the benchmarks. Rows, batches and streams are made by the shipped agent's own code.
package loadgen

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/agent/internal/sampler"
	"github.com/gpufleet/gpufleet/agent/internal/sender"
	"github.com/gpufleet/gpufleet/agent/internal/spool"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Clock is a clock that is set. A fleet is made with its Now.
type Clock struct{ now time.Time }

// NewClock starts a clock.
func NewClock(start time.Time) *Clock { return &Clock{now: start} }

// Now is what the clock shows.
func (c *Clock) Now() time.Time { return c.now }

// Load is a node's batches.
type Load struct {
	Node    string
	Epoch   uint64
	Batches []*wire.Batch
	Rows    int64 // of gpu_samples
}

// kept is a queue that keeps what it is given.
type kept struct{ batches []*wire.Batch }

// Push keeps the batch.
func (k *kept) Push(b *wire.Batch) { k.batches = append(k.batches, b) }

// node is one node that is being read.
type node struct {
	name    string
	readers []*sampler.Reader
	builder *batch.Builder
	queue   *kept
	rows    int64
}

// Make reads every GPU of the nodes at each tick, one second apart, from the clock's time on. Batches
// are closed every flush, and gpu_health is read once a minute if withHealth is set.
func Make(nodes map[string]gpu.Driver, clock *Clock, ticks int, flush time.Duration, withHealth bool) ([]Load, error) {
	epoch := uint64(clock.Now().UnixMilli())
	var open []*node
	for name, driver := range nodes {
		n, err := newNode(name, driver, clock, epoch, flush)
		if err != nil {
			return nil, err
		}
		open = append(open, n)
	}
	for tick := range ticks {
		for _, n := range open {
			if err := n.tick(clock.Now(), withHealth && tick%60 == 0); err != nil {
				return nil, err
			}
		}
		clock.now = clock.now.Add(time.Second)
	}
	var loads []Load
	for _, n := range open {
		if err := n.builder.FlushAll(); err != nil {
			return nil, err
		}
		loads = append(loads, Load{Node: n.name, Epoch: epoch, Batches: n.queue.batches, Rows: n.rows})
	}
	return loads, nil
}

func newNode(name string, driver gpu.Driver, clock *Clock, epoch uint64, flush time.Duration) (*node, error) {
	system, _ := driver.System()
	devices, ret := driver.Devices()
	if !ret.OK() {
		return nil, fmt.Errorf("list GPUs of %s: %w", name, ret)
	}
	n := &node{name: name, queue: &kept{}}
	for _, d := range devices {
		reader, ret := sampler.NewReader(d, system, clock.Now)
		if !ret.OK() {
			return nil, fmt.Errorf("probe GPU %s: %w", d.UUID(), ret)
		}
		n.readers = append(n.readers, reader)
	}
	builder, err := batch.New(batch.Config{Node: wire.NodeID(name), Epoch: epoch, Flush: flush, MaxRows: 1 << 16}, n.queue)
	if err != nil {
		return nil, err
	}
	n.builder = builder
	return n, nil
}

func (n *node) tick(now time.Time, health bool) error {
	if err := n.builder.FlushDue(now); err != nil {
		return err
	}
	for _, r := range n.readers {
		samples, healths, ret := r.Read(health)
		if !ret.OK() {
			continue // a GPU that is lost has no row
		}
		if err := n.builder.Append(schema.SamplesID, samples); err != nil {
			return err
		}
		n.rows++
		if healths == nil {
			continue
		}
		if err := n.builder.Append(schema.HealthID, healths); err != nil {
			return err
		}
	}
	return nil
}

// Again is the same load as another life of the agent sends it: the same rows and bytes under new identities,
// so that a collector stores them once more.
func (l Load) Again(epoch uint64) Load {
	again := Load{Node: l.Node, Epoch: epoch, Rows: l.Rows, Batches: make([]*wire.Batch, len(l.Batches))}
	for i, b := range l.Batches {
		renamed := &wire.Batch{Identity: b.Identity, Header: b.Header, Body: b.Body}
		renamed.Identity.Epoch = epoch
		renamed.Metadata = renamed.Identity.AppendTo(nil, b.Header, b.Body)
		again.Batches[i] = renamed
	}
	return again
}

// Send sends a node's batches as fast as the collector gives credit, and returns when all are
// answered.
func (l Load) Send(ctx context.Context, collector, token string) error {
	logger := slog.New(slog.DiscardHandler)
	batches, err := spool.Open(spool.Config{MaxMemoryBytes: 1 << 40, Node: l.Node, Epoch: l.Epoch, Logger: logger})
	if err != nil {
		return fmt.Errorf("send load of %s: %w", l.Node, err)
	}
	s := sender.New(sender.Config{
		Collector: collector, Token: token, Node: l.Node, RetryWait: 100 * time.Millisecond, MaxRetryWait: time.Second, WelcomeWait: sender.DefaultWelcomeWait, Logger: logger,
	}, batches)
	for _, b := range l.Batches {
		batches.Push(b)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	drained := batches.Drained(ctx)
	cancel()
	if err := <-done; err != nil {
		return err
	}
	if stats := batches.Stats(); !drained || stats.Rejected > 0 {
		return fmt.Errorf("send load of %s: %d batches rejected, %d not answered", l.Node, stats.Rejected, stats.WaitingBatches)
	}
	return batches.Close()
}
