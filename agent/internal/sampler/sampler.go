// SPDX-License-Identifier: Apache-2.0

// Package sampler reads the GPUs of one node at each tick and turns what they answer into rows. Each
// GPU is read by a goroutine of its own, so that one that hangs or is lost does not stop the others;
// one goroutine, that of Run, owns the clock and writes all rows.
package sampler

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/agent/internal/event"
)

// Sink takes rows.
type Sink interface {
	// Append adds a row: the wire columns of a table in order. The cells are only valid in the call.
	Append(table uint8, cells []batch.Cell) error
	// FlushDue sends the batches whose time has come.
	FlushDue(now time.Time) error
}

// Journal writes events.
type Journal interface {
	Write(e event.Event) error
}

// Config is what is read, how often.
type Config struct {
	Node              Node
	Open              func() (gpu.Driver, error) // opens the driver; called again after it was reloaded
	Interval          time.Duration              // between ticks
	Phase             time.Duration              // ticks happen at multiples of Interval plus this
	HealthInterval    time.Duration              // between rows of gpu_health
	InventoryInterval time.Duration              // between observations that say that nothing changed
	IdentityInterval  time.Duration              // between looks at what seldom changes; 0: 15 minutes
	RescanInterval    time.Duration              // between searches for a GPU that is lost
	StuckAfter        time.Duration              // a GPU that has not answered for this long is reported as stuck
	StopWait          time.Duration              // how long a stop waits for calls into the driver
	SlowCall          time.Duration              // a call of the driver that takes longer is slow, and less is read if many are; 0: 50 ms
	Subsecond         bool                       // keep the driver's own samples in gpu_subsecond
	Flush             time.Duration              // rows are sent at multiples of Flush plus FlushPhase: they wait for their rings until the tick before; 0: not at all
	FlushPhase        time.Duration
	Usage             func(Usage)   // is told who uses a GPU, by Run's goroutine; nil: nobody asks
	UsageInterval     time.Duration // between looks at who uses a GPU
	Bursts            Bursts
	Profiler          func() string     // names a profiler that runs on the node, "" if none does; it may take a while; nil: nobody looks
	Slowdown          func(uuid string) // is told when a GPU begins to be held down by heat or by the hardware, by Run's goroutine; nil: nobody asks
	Released          string            // not empty: the driver is not opened before Resume, for this reason
	LostFile          string            // keeps over restarts which GPUs are lost; "": nothing does
	Sink              Sink
	Journal           Journal
	Logger            *slog.Logger

	clocks func(start time.Time) func() instant // nil: those of the machine
}

// Stats counts since the start. They may be read while Run runs.
type Stats struct {
	Ticks       atomic.Uint64 // that were started
	LastTick    atomic.Int64  // when the latest was started, milliseconds since 1970; 0: none was
	MissedTicks atomic.Uint64 // that were not, because the one before had not ended or the process was held up
	LateTicks   atomic.Uint64 // that started more than a tenth of the interval late
	Rows        atomic.Uint64 // of gpu_samples
	SkippedRows atomic.Uint64 // that a GPU did not give, because it was still busy with the tick before, or just done with it
	GPUs        atomic.Int64  // that answer
	DriverCalls atomic.Uint64
	ReadNanos   atomic.Uint64          // time spent in reading GPUs, all together
	Reduced     Reduced                // GPUs of which less is read
	Missing     atomic.Pointer[string] // why the driver does not answer; nil if it does, or was not asked yet
	observer    atomic.Pointer[CallObserver]

	Bursts            atomic.Uint64 // orders for a GPU that were obeyed
	BurstsRefused     atomic.Uint64
	BurstReads        atomic.Uint64
	BurstReadsSkipped atomic.Uint64 // of a GPU that was busy, or might have been at the next tick
}

// Sampler samples one node.
type Sampler struct {
	cfg   Config
	stats Stats
	node  atomic.Pointer[Node] // as it is known by now
	leash leash

	demands chan demand // for bursts

	known         map[string]*history // by UUID; it outlives sessions
	keeper        *keeper             // of what is lost; nil: nobody keeps it
	driverVersion string              // of the latest session that knew it
	unnamed       bool                // a GPU was unbound of which the driver did not tell which, and GPUs were not listed since
	outage        bool                // driver_missing was written
	nodeWritten   batch.Cell          // hash of the latest row of node_inventory
	lastNode      time.Time           // when it was written
}

// history is what is remembered of a GPU when its worker, or the whole session, has ended.
type history struct {
	epoch    int64         // latest counter_epoch; 0 before the first row
	found    bool          // gpu_found was written, and not gpu_removed
	lost     bool          // gpu_lost was written, and it has not answered since
	lostAt   time.Time     // when
	listedAt time.Time     // when it was listed the last time, while it was looked for
	unbound  bool          // the kernel takes it from the driver
	retry    time.Time     // a lost GPU that is listed is not tried before
	backoff  time.Duration // before the next try
	strain   strain        // what reading it takes
	bursts   []time.Time   // that were begun within the last hour
	refused  bool          // a refusal was told since

	identity *gpu.Identity // that was written the last time; nil: none, or that it is removed
}

// slowCall is many times what calls take on a GPU that is well, and what a workload may notice.
const slowCall = 50 * time.Millisecond

// New makes a sampler.
func New(cfg Config) *Sampler {
	if cfg.IdentityInterval == 0 {
		cfg.IdentityInterval = 15 * time.Minute
	}
	if cfg.clocks == nil {
		cfg.clocks = clocksSince
	}
	if cfg.SlowCall == 0 {
		cfg.SlowCall = slowCall
	}
	s := &Sampler{cfg: cfg, known: make(map[string]*history), demands: make(chan demand)}
	s.node.Store(&cfg.Node)
	if cfg.Released != "" {
		s.leash.release(cfg.Released, time.Now())
	}
	return s
}

// SetNode tells what has become known of the node while Run runs: the next tick writes it. The name stays.
func (s *Sampler) SetNode(n Node) {
	n.Name = s.cfg.Node.Name
	s.node.Store(&n)
}

// Stats are the counters.
func (s *Sampler) Stats() *Stats { return &s.stats }

// errDriverGone ends a session whose driver must be opened again.
var errDriverGone = errors.New("driver is gone")

// Run samples until the context ends. A driver that cannot be opened, or goes away, is tried again.
func (s *Sampler) Run(ctx context.Context) error {
	s.loadLost(time.Now())
	defer s.keepLost()()
	if err := s.write(event.Event{Kind: "agent_started", Message: "gpufleet-agent " + s.cfg.Node.AgentVersion}); err != nil {
		return err
	}
	wait := s.cfg.Interval
	for {
		if err := s.whileReleased(ctx); err != nil { // also at a stop: a release is told
			return err
		}
		if ctx.Err() != nil {
			break
		}
		using, stop := s.leash.use(ctx)
		var err error
		if using.Err() == nil {
			err = s.once(using, &wait)
		}
		stop()
		if err != nil {
			return err
		}
	}
	return s.write(event.Event{Kind: "agent_stopped", Message: "asked to stop"})
}

// once opens the driver and samples until the context ends or the driver is gone. Then it waits before the next
// time, longer each time.
func (s *Sampler) once(ctx context.Context, wait *time.Duration) error {
	driver, err := s.cfg.Open()
	if err != nil {
		s.cfg.Logger.Error("open GPU driver", "error", err, "retry_in", *wait)
		if err := s.driverMissing("cannot be opened: " + err.Error()); err != nil {
			return err
		}
	} else {
		started := time.Now()
		err = s.session(ctx, driver)
		switch {
		case errors.Is(err, errUnbinding):
			return s.standAside(ctx)
		case errors.Is(err, errBound):
			return nil
		case err != nil && !errors.Is(err, errDriverGone):
			return err
		}
		if time.Since(started) > time.Minute {
			*wait = s.cfg.Interval
		}
	}
	if err := s.pause(ctx, *wait); err != nil {
		return err
	}
	*wait = min(*wait*2, s.cfg.RescanInterval)
	return nil
}

func (s *Sampler) write(e event.Event) error { return s.cfg.Journal.Write(e) }
