// SPDX-License-Identifier: Apache-2.0

package loadgen

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// FleetConfig is a fleet whose nodes send at the pace of their clocks.
type FleetConfig struct {
	Collector string
	Token     func(node string) string
	Nodes     int
	Flush     time.Duration // each node sends a batch so often, not all at once
	Lasts     time.Duration // readings of so long are sent by each node
	// Backlog is how much of it lies in the past when the fleet starts: it is sent as fast as the collector gives credit,
	// oldest first, as agents do after an outage.
	Backlog time.Duration
	// Readings are what the nodes send in turns: made by Make with the same Flush, from an instant on that is a multiple
	// of it. A node that sends for longer than they last begins again with the first.
	Readings []Load
}

// Fleet is many nodes in one process, which share what can be shared: readings and their encoding are made before it
// runs (see template). Each has a connection and streams of its own, as agents have.
type Fleet struct {
	cfg    FleetConfig
	epoch  uint64
	series [][][]*template // by node in turn and flush
	nodes  []*fleetNode
	counts counts
	ending chan struct{}
	once   sync.Once // closes ending
}

// counts are what all nodes have done so far.
type counts struct {
	batches, rows, bytes, stored, rejected, retried atomic.Int64
	caught                                          atomic.Int64
	late                                            Waits // from when a batch was due until it was sent
	waits                                           Waits // from when it was due until it was stored
	freshness                                       Waits // from when a GPU was read until its row was stored
}

// FleetStats are what a fleet has done so far. Batches and bytes are of all tables, rows of gpu_samples.
type FleetStats struct {
	Batches, Rows, Bytes      int64
	Stored, Rejected, Retried int64 // batches
	CaughtUp                  int64 // nodes that have no backlog any more
	Late, Waits, Freshness    *Waits
}

// NewFleet prepares what the nodes will send.
func NewFleet(cfg FleetConfig) (*Fleet, error) {
	switch {
	case cfg.Nodes < 1 || len(cfg.Readings) == 0:
		return nil, fmt.Errorf("make fleet: %d nodes, readings of %d: want one at least", cfg.Nodes, len(cfg.Readings))
	case cfg.Flush < time.Second || cfg.Flush%time.Second != 0 || cfg.Lasts < cfg.Flush:
		return nil, fmt.Errorf("make fleet: %s in batches of %s: want whole seconds, and one batch at least", cfg.Lasts, cfg.Flush)
	}
	f := &Fleet{cfg: cfg, ending: make(chan struct{})}
	for _, l := range cfg.Readings[:min(len(cfg.Readings), cfg.Nodes)] {
		series, err := newSeries(l, cfg.Flush)
		if err != nil {
			return nil, fmt.Errorf("make fleet: readings of %s: %w", l.Node, err)
		}
		f.series = append(f.series, series)
	}
	for i := range cfg.Nodes {
		f.nodes = append(f.nodes, f.newNode(i))
	}
	return f, nil
}

// newSeries makes templates of a node's batches, by flush.
func newSeries(l Load, flush time.Duration) ([][]*template, error) {
	begin := time.UnixMilli(int64(l.Epoch))
	var series [][]*template
	for _, b := range l.Batches {
		if b.Identity.Table != schema.SamplesID && b.Identity.Table != schema.HealthID {
			continue
		}
		t, err := newTemplate(b, begin, flush)
		if err != nil {
			return nil, err
		}
		at := int(t.start.Sub(begin) / flush)
		for len(series) <= at {
			series = append(series, nil)
		}
		series[at] = append(series[at], t)
	}
	if len(series) == 0 {
		return nil, errors.New("no batches of gpu_samples or gpu_health")
	}
	return series, nil
}

func (f *Fleet) newNode(i int) *fleetNode {
	n := &fleetNode{
		fleet: f, name: "fleet-" + strconv.Itoa(i), series: f.series[i%len(f.series)],
		phase: f.cfg.Flush * time.Duration(i) / time.Duration(f.cfg.Nodes),
	}
	n.id = wire.NodeID(n.name)
	gpus := 0
	for _, flush := range n.series {
		for _, t := range flush {
			gpus = max(gpus, t.gpus)
		}
	}
	for g := range gpus {
		n.gpus = append(n.gpus, wire.GPUID(n.name+"-gpu-"+strconv.Itoa(g)))
	}
	return n
}

// GPUs is how many the fleet has.
func (f *Fleet) GPUs() int {
	sum := 0
	for _, n := range f.nodes {
		sum += len(n.gpus)
	}
	return sum
}

// Stats tells what was done so far.
func (f *Fleet) Stats() FleetStats {
	c := &f.counts
	return FleetStats{
		Batches: c.batches.Load(), Rows: c.rows.Load(), Bytes: c.bytes.Load(),
		Stored: c.stored.Load(), Rejected: c.rejected.Load(), Retried: c.retried.Load(), CaughtUp: c.caught.Load(),
		Late: &c.late, Waits: &c.waits, Freshness: &c.freshness,
	}
}

// openAtOnce is how many nodes connect at the same time: agents of a fleet come one after the other.
const openAtOnce = 64

// Open connects all nodes. Run, which closes them, must follow unless it failed.
func (f *Fleet) Open(ctx context.Context) error {
	f.epoch = uint64(time.Now().UnixMilli())
	group, opening := errgroup.WithContext(ctx)
	group.SetLimit(openAtOnce)
	for _, n := range f.nodes {
		group.Go(func() error { return n.open(opening, ctx) })
	}
	if err := group.Wait(); err != nil {
		f.close()
		return err
	}
	return nil
}

// Run sends what there is to be sent, and returns when all of it is answered. A stream that breaks ends it: what is
// measured is a fleet without disturbances.
func (f *Fleet) Run(ctx context.Context) error {
	defer f.close()
	start := time.Now().Add(-f.cfg.Backlog)
	group, ctx := errgroup.WithContext(ctx)
	for _, n := range f.nodes {
		for _, s := range n.streams {
			group.Go(func() error { return s.receive(ctx) })
		}
		group.Go(func() error { return n.run(ctx, start) })
	}
	return group.Wait()
}

// End has the nodes send nothing more: Run returns once what was sent is answered.
func (f *Fleet) End() { f.once.Do(func() { close(f.ending) }) }

func (f *Fleet) close() {
	for _, n := range f.nodes {
		n.close()
	}
}
