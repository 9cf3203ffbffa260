// SPDX-License-Identifier: Apache-2.0

// Package agent samples the GPUs of one node and brings the rows to a collector. It promises that a
// batch is sent until the collector says that it is stored; that what is lost all the same, because
// the queue was full, is counted and reported; and that one GPU that hangs or vanishes does not stop
// the others.
//
//	gpu.Driver → sampler ─┬─▶ batch ─┬─▶ spool ─▶ sender ══ Arrow Flight ══▶ collector
//	 recording → player ──┤          └─▶ Tee, which may write a recording
//	     sysfs → network ─┤
//	   kubelet → owner ───┤
//	   pages → inference ─┘
package agent

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/agent/internal/exposition"
	"github.com/gpufleet/gpufleet/agent/internal/fault"
	"github.com/gpufleet/gpufleet/agent/internal/flight"
	"github.com/gpufleet/gpufleet/agent/internal/inference"
	"github.com/gpufleet/gpufleet/agent/internal/network"
	"github.com/gpufleet/gpufleet/agent/internal/owner"
	"github.com/gpufleet/gpufleet/agent/internal/place"
	"github.com/gpufleet/gpufleet/agent/internal/player"
	"github.com/gpufleet/gpufleet/agent/internal/profiler"
	"github.com/gpufleet/gpufleet/agent/internal/sampler"
	"github.com/gpufleet/gpufleet/agent/internal/sender"
	"github.com/gpufleet/gpufleet/agent/internal/spool"
	"github.com/gpufleet/gpufleet/internal/batchtrace"
	"github.com/gpufleet/gpufleet/schema/wire"
	"github.com/gpufleet/gpufleet/schema/xid"
)

// Node is what is known of the node besides its GPUs. An empty text is "not known".
type Node = sampler.Node

// Network is which RDMA ports are watched, and how they are judged.
type Network = network.Options

// NetworkRate is how fast the ports of some devices should run.
type NetworkRate = network.Expectation

// Exposition is which readings the agent shows to Prometheus; see Agent.Collector.
type Exposition = exposition.Options

// Config is all that an agent is told. Start from DefaultConfig.
type Config struct {
	Node Node
	Open func() (gpu.Driver, error) // opens the GPU driver; called again after it was reloaded

	// Place is whom to ask where the node is, if FindPlace is set: the cloud's metadata service and the cluster.
	// What Node and Place.Known say wins over what they answer. The first question delays the first tick, by
	// Place.Cap at most.
	Place         PlaceConfig
	FindPlace     bool
	PlaceInterval time.Duration // between questions

	Collector string      // host:port, several with commas between, or dns:name:port; "" sends nowhere, which only makes sense with a Tee
	TLS       *tls.Config // nil: plain text, which only a loopback address may use
	Token     string      // bearer token of this node; "" sends none
	Scope     wire.Scope  // what the node takes itself for; a collector refuses one that proves another. What counts is the proof

	Interval          time.Duration  // between ticks
	Phase             time.Duration  // ticks happen at multiples of Interval plus this
	Flush             time.Duration  // rows wait at most this long for their batch; events do not wait
	HealthInterval    time.Duration  // between rows of gpu_health
	InventoryInterval time.Duration  // between observations that say that nothing changed
	RescanInterval    time.Duration  // between searches for a lost GPU
	StuckAfter        time.Duration  // a GPU that has not answered for this long is reported as stuck
	Subsecond         bool           // keep the driver's own samples in gpu_subsecond
	Bursts            Bursts         // when GPUs are read at 10 Hz, and what is sent around a fault
	Released          string         // not empty: the GPU driver is not opened before Resume, for this reason
	Network           Network        // ports of the node's network; none if no sysfs is given
	Owners            Owners         // who uses the GPUs
	Inference         Inference      // whose tokens are counted
	KernelLog         KernelLog      // XIDs that NVML does not report, and what befell the processes
	XIDOverrides      *xid.Overrides // an operator's own judgement of codes; nil: none
	Exposition        Exposition     // the latest readings, for Prometheus; nothing by default
	SpoolDir          string         // folder that keeps batches until they are stored, over restarts; "": memory alone
	SpoolBytes        int64          // of its files; then the oldest batches are dropped, readings before facts
	MaxQueueBytes     int64          // in memory, of batches that are not stored yet and not in the spool
	DrainWait         time.Duration  // how long a stop waits for the collector to store what is left

	// Tee, if not nil, is given each batch before it is sent: one at a time, those of a table in the order of their
	// numbers, and none after Run has returned. Whoever closes a batch calls it, which may be a timer, and no row can be
	// written meanwhile: it must not block, nor call the agent. It may keep the batch, and must not change it.
	Tee func(*wire.Batch)

	Trace  *batchtrace.Tracer // nil: no batch is traced
	Logger *slog.Logger
}

// DefaultConfig reads at 1 Hz and sends every 5 s.
func DefaultConfig() Config {
	return Config{
		Interval: time.Second, Flush: 5 * time.Second, HealthInterval: time.Minute, InventoryInterval: time.Hour,
		RescanInterval: 30 * time.Second, StuckAfter: 5 * time.Second, Subsecond: true, Bursts: defaultBursts(), Network: network.DefaultOptions(), Owners: defaultOwners(), Inference: inference.DefaultOptions(), PlaceInterval: time.Hour,
		SpoolBytes: 4 << 30, MaxQueueBytes: 32 << 20, DrainWait: 20 * time.Second, Logger: slog.New(slog.DiscardHandler),
	}
}

// Validate tells what is missing or cannot be honoured.
func (c Config) Validate() error {
	problems := c.sendingProblems()
	if c.Open == nil {
		problems = append(problems, errors.New("no GPU driver is given"))
	}
	for _, err := range []error{c.Network.Validate(), c.Owners.problem(), c.Bursts.problem(), c.Inference.Validate()} {
		if err != nil {
			problems = append(problems, err)
		}
	}
	for name, d := range map[string]time.Duration{
		"interval": c.Interval, "health interval": c.HealthInterval,
		"inventory interval": c.InventoryInterval, "rescan interval": c.RescanInterval, "stuck after": c.StuckAfter,
	} {
		if d < 100*time.Millisecond {
			problems = append(problems, fmt.Errorf("%s of %s: at least 100ms", name, d))
		}
	}
	if c.FindPlace && c.PlaceInterval < time.Second {
		problems = append(problems, fmt.Errorf("place interval of %s: at least 1s", c.PlaceInterval))
	}
	if err := known(c.Node).Or(c.Place.Known).CheckLifeCycle(); err != nil {
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// sendingProblems is what is wrong with the part that does not depend on where the rows come from.
func (c Config) sendingProblems() (problems []error) {
	if err := wire.CheckNodeName(c.Node.Name); err != nil {
		problems = append(problems, err)
	}
	if err := c.Scope.Check(); err != nil {
		problems = append(problems, err)
	}
	switch {
	case c.Collector == "" && c.Tee == nil:
		problems = append(problems, errors.New("no collector is given, and nothing else wants the batches"))
	case c.Collector != "":
		problems = append(problems, c.collectorProblems()...)
	}
	if c.Flush < 100*time.Millisecond {
		problems = append(problems, fmt.Errorf("flush of %s: at least 100ms", c.Flush))
	}
	if c.SpoolDir != "" && c.SpoolBytes < 16<<20 {
		problems = append(problems, fmt.Errorf("spool of %d bytes: at least 16 MiB", c.SpoolBytes))
	}
	if c.MaxQueueBytes < 1<<20 {
		problems = append(problems, fmt.Errorf("send queue of %d bytes: at least 1 MiB", c.MaxQueueBytes))
	}
	return problems
}

// stopWait is how long a stop waits for calls into the driver: longer than one wait for an event.
const stopWait = 3 * time.Second

// Agent is one node's agent. It runs once.
type Agent struct {
	losses   losses
	cfg      Config
	epoch    uint64
	source   source
	spool    *spool.Spool
	sender   *sender.Sender
	builder  *batch.Builder
	page     *exposition.Page // nil if nothing is shown
	sink     exposition.Sink  // the builder, by way of the page
	journal  *event.Journal
	devices  *fault.Devices
	faults   *fault.Journal    // writes into journal
	rows     *fault.Watch      // writes into recorder
	recorder *flight.Recorder  // writes into sink
	bursts   burster           // nil if there is no driver
	orders   chan waitingOrder // for it
	// lastOrder is when the collector asked for one; nil: never.
	lastOrder atomic.Pointer[time.Time]
	// watchers run beside the source, and write rows and events of their own.
	watchers  []func(context.Context) error
	moved     func(Node)         // told where the node is
	driver    holder             // nil if there is none
	owners    *owner.Watcher     // nil if nobody is looked for
	inference *inference.Watcher // nil if no server is read

	retirement *retirement
}

// source makes the rows: of GPUs, or of a recording.
type source interface {
	Run(ctx context.Context) error
	Stats() *sampler.Stats
}

var (
	_ source = (*sampler.Sampler)(nil)
	_ source = (*player.Player)(nil)
)

// New puts an agent together. Nothing runs yet.
func New(cfg Config) (*Agent, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("agent configuration: %w", err)
	}
	a, err := newAgent(cfg)
	if err != nil {
		return nil, err
	}
	configured, reasons := place.Configured(known(cfg.Node).Or(cfg.Place.Known))
	if len(reasons) > 0 {
		return nil, fmt.Errorf("agent configuration: where the node is: %s", reasons[0].Text)
	}
	usage, err := a.watchOwners()
	if err != nil {
		return nil, errors.Join(err, a.spool.Close())
	}
	a.watchRows()
	s := sampler.New(sampler.Config{
		Node: located(cfg.Node, configured), Open: cfg.Open, Interval: cfg.Interval, Phase: cfg.Phase, HealthInterval: cfg.HealthInterval,
		InventoryInterval: cfg.InventoryInterval, RescanInterval: cfg.RescanInterval, StuckAfter: cfg.StuckAfter,
		StopWait: stopWait, Subsecond: cfg.Subsecond || cfg.Bursts.traces(), Flush: cfg.Flush, FlushPhase: flushPhase(cfg), Released: cfg.Released,
		Usage: usage, UsageInterval: cfg.Owners.Interval,
		Bursts: sampler.Bursts{On: cfg.Bursts.On, For: cfg.Bursts.For, PerHour: cfg.Bursts.PerHour}, Slowdown: a.slowed, Profiler: profiler.NewFinder(cfg.Bursts.Proc).Find,
		LostFile: a.stateFile("gpus-lost.json"), Sink: a.rows, Journal: a.faults, Logger: cfg.Logger,
	})
	a.source, a.moved, a.driver = s, s.SetNode, s
	a.watchBursts(s)
	a.watchNetwork()
	a.watchInference()
	if err := a.watchKernelLog(); err != nil {
		return nil, errors.Join(err, a.spool.Close())
	}
	return a, nil
}

// watchNetwork has the node's ports watched, if it is said where they are.
func (a *Agent) watchNetwork() {
	if a.cfg.Network.Sysfs == nil {
		return
	}
	m := network.New(network.Config{
		Options: a.cfg.Network, Node: a.cfg.Node.Name, Interval: time.Second, RowEvery: a.cfg.HealthInterval,
		StuckAfter: a.cfg.StuckAfter, StopWait: stopWait, Rows: a.sink, Events: a.journal, Logger: a.cfg.Logger,
	})
	a.watchers = append(a.watchers, m.Run)
}

// newAgent puts together what every agent has. Its source is still to be set.
func newAgent(cfg Config) (*Agent, error) {
	a := &Agent{cfg: cfg, retirement: newRetirement(), orders: make(chan waitingOrder, maxOrders)}
	if err := a.openSpool(); err != nil {
		return nil, err
	}
	a.sender = sender.New(sender.Config{
		Collector: cfg.Collector, TLS: cfg.TLS, Token: cfg.Token, Node: cfg.Node.Name, Scope: cfg.Scope,
		RetryWait: 250 * time.Millisecond, MaxRetryWait: 5 * time.Second, WelcomeWait: sender.DefaultWelcomeWait, Logger: cfg.Logger, OnOrder: a.ordered, Trace: cfg.Trace,
	}, a.spool)
	builder, err := batch.New(batch.Config{
		Node: wire.NodeID(cfg.Node.Name), Epoch: a.epoch, Flush: cfg.Flush, Phase: flushPhase(cfg), MaxRows: 8192, Trace: cfg.Trace,
	}, outlet{tee: cfg.Tee, spool: a.spool, sends: cfg.Collector != ""})
	if err != nil {
		return nil, errors.Join(err, a.spool.Close())
	}
	a.builder, a.sink = builder, builder
	a.show()
	a.journal = event.NewJournal(a.sink)
	a.losses.tell = a.journal.Write
	a.newFaults()
	return a, nil
}

// flushPhase gives each node its own place in the flush interval, so that a fleet does not send at once.
func flushPhase(cfg Config) time.Duration {
	return time.Duration(wire.NodeID(cfg.Node.Name) % uint64(cfg.Flush))
}

// outlet gives each batch to whoever wants it.
type outlet struct {
	tee   func(*wire.Batch) // nil: nobody
	spool *spool.Spool
	sends bool
}

// Push implements batch.Queue.
func (o outlet) Push(b *wire.Batch) {
	if o.tee != nil {
		o.tee(b)
	}
	if o.sends {
		o.spool.Push(b)
	}
}

// Run samples and sends until the context ends; then it stops sampling, sends what is left, at most
// for DrainWait, and returns nil. What was not stored by then is told in the error.
func Run(ctx context.Context, cfg Config) error {
	a, err := New(cfg)
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// Run is the package's Run for an agent that was put together before.
func (a *Agent) Run(ctx context.Context) error {
	spooling, stopSpooling := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSpooling()
	var group errgroup.Group
	group.Go(func() error { return a.spool.Run(spooling) })
	group.Go(func() error {
		defer stopSpooling() // nothing is pushed or settled any more
		err := a.readAndSend(ctx)
		a.losses.stop()
		return errors.Join(err, a.journal.Close())
	})
	return group.Wait()
}

func (a *Agent) readAndSend(ctx context.Context) error {
	sending, stopSending := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSending()
	var group errgroup.Group
	if a.cfg.Collector != "" {
		group.Go(func() error { return a.sender.Run(sending) })
	}
	group.Go(func() error {
		defer stopSending() // once nothing is left, or the wait is over
		if err := a.sample(ctx); err != nil {
			return err
		}
		if a.retirement.isAsked() && (a.isSafe() || a.cfg.SpoolDir == "" && a.spool.Drained(ctx)) {
			return nil
		}
		return a.drain(sending)
	})
	return group.Wait()
}

// sample makes rows until the context ends or the agent is to retire, and has all of them on their way then.
func (a *Agent) sample(ctx context.Context) error {
	defer close(a.retirement.stopped)
	ctx, stop := a.retirement.context(ctx)
	defer stop()
	stopFollowing := a.followPlace(ctx)
	err := a.read(ctx)
	stopFollowing() // it writes events, too
	flushed := errors.Join(a.faults.Flush(), a.recorder.Flush(), a.journal.Flush(), a.builder.FlushAll())
	return cmp.Or(err, flushed) // what cannot be written has mostly been told by err
}

// read runs the source, and what watches beside it, until the context ends or one of them does.
func (a *Agent) read(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.source.Run(ctx) })
	for _, watch := range a.watchers {
		group.Go(func() error { return watch(ctx) })
	}
	return group.Wait()
}

func (a *Agent) drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.DrainWait)
	defer cancel()
	if a.spool.Drained(ctx) {
		return nil
	}
	left := a.spool.Stats()
	if a.isSafe() {
		a.cfg.Logger.Info("batches stay in the spool, for the next start", "batches", left.WaitingBatches, "bytes", left.WaitingBytes, "dir", a.cfg.SpoolDir)
		return nil
	}
	return fmt.Errorf("stop node %s: %d batches (%d bytes) were not stored by collector %s within %s",
		a.cfg.Node.Name, left.WaitingBatches, left.WaitingBytes, a.cfg.Collector, a.cfg.DrainWait)
}

// isSafe tells whether what is not stored yet is kept on disk, for the next life.
func (a *Agent) isSafe() bool { return a.cfg.SpoolDir != "" && !a.spool.Stats().Failing }
