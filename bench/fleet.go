// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/gpufleet/gpufleet/agent/loadgen"
	"github.com/gpufleet/gpufleet/internal/token"
)

// fleetWork is a fleet that sends at its own pace.
type fleetWork struct {
	nodes     int
	lasts     time.Duration // of live data
	backlog   time.Duration // that lies in the past when it starts
	simulated int           // nodes whose readings all others send too
}

func (w *fleetWork) register(f *flag.FlagSet, name string, usual fleetWork) {
	f.IntVar(&w.nodes, name+"-nodes", usual.nodes, name+": nodes of 8 GPUs, each with a connection of its own")
	f.DurationVar(&w.lasts, name+"-for", usual.lasts, name+": how long they send, once what they had before is stored")
	f.IntVar(&w.simulated, name+"-simulated", 64, name+": nodes that are simulated; the others send the same readings as GPUs of their own")
	if usual.backlog > 0 {
		f.DurationVar(&w.backlog, name+"-backlog", usual.backlog, name+": readings that each node has when it starts")
	}
}

const (
	// drainedWithin is how long after the last batch was due all must be stored, or the fleet was not sustained.
	drainedWithin = 15 * time.Second
	// distinctReadings bounds the memory for readings. A fleet that sends for longer repeats them.
	distinctReadings = 10 * time.Minute
	watchEvery       = time.Second
	sayEvery         = 15 // seconds
)

// measureFleet is whether a fleet at 1 Hz is kept up with, everything on this machine.
func measureFleet(ctx context.Context, dir string, w fleetWork, m *measured) error {
	m.Data = fmt.Sprintf("%d GPUs at 1 Hz for %s, batches of 80 rows from %d nodes over a connection each; readings of %d simulated nodes", 8*w.nodes, w.lasts, w.nodes, min(w.nodes, w.simulated))
	r, err := startFleet(ctx, dir, w, m)
	if err != nil {
		return err
	}
	defer r.stop()
	if err := r.run(ctx, m.Figures, "fleet_", nil); err != nil {
		return err
	}
	r.reportWaits(m.Figures, "fleet_")
	took := m.Figures["fleet_seconds"]
	kept := took <= (w.lasts+flush+drainedWithin).Seconds() && m.Figures["fleet_rows_lost"]+m.Figures["fleet_rows_doubled"]+m.Figures["fleet_batches_rejected"] == 0
	m.Figures["fleet_gpus"] = float64(r.fleet.GPUs())
	m.Figures["fleet_gpus_sustained"] = 0
	if kept {
		m.Figures["fleet_gpus_sustained"] = float64(r.fleet.GPUs())
	}
	return nil
}

// measureCatchup is how much faster than time a fleet's backlog is stored while its GPUs go on being read.
func measureCatchup(ctx context.Context, dir string, w fleetWork, m *measured) error {
	m.Data = fmt.Sprintf("%d GPUs at 1 Hz with %s of readings that wait, sent by %d nodes oldest first, while new ones come", 8*w.nodes, w.backlog, w.nodes)
	live := w.lasts
	w.lasts = w.backlog + distinctReadings // to be ended before
	r, err := startFleet(ctx, dir, w, m)
	if err != nil {
		return err
	}
	defer r.stop()
	var took time.Duration
	err = r.run(ctx, m.Figures, "catchup_", func(ctx context.Context, started time.Time) error {
		for r.fleet.Stats().CaughtUp < int64(w.nodes) {
			if err := pause(ctx, watchEvery/10); err != nil {
				return err
			}
			if time.Since(started) > distinctReadings {
				return fmt.Errorf("catch up: %d of %d nodes have within %s: %w", r.fleet.Stats().CaughtUp, w.nodes, distinctReadings, errNothing)
			}
		}
		took = time.Since(started)
		defer r.fleet.End()
		return pause(ctx, live)
	})
	if err != nil {
		return err
	}
	m.Figures["catchup_gpus"] = float64(r.fleet.GPUs())
	m.Figures["catchup_backlog_seconds"] = w.backlog.Seconds()
	m.Figures["catchup_until_live_seconds"] = took.Seconds()
	m.Figures["catchup_ratio"] = (w.backlog + took).Seconds() / took.Seconds()
	return nil
}

// fleetRun is a fleet with the collector and the ClickHouse that it sends to.
type fleetRun struct {
	fleet     *loadgen.Fleet
	collector *collector
	store     *store
	most      watched
}

func startFleet(ctx context.Context, dir string, w fleetWork, m *measured) (r *fleetRun, err error) {
	if err := enoughFiles(w.nodes); err != nil {
		return nil, err
	}
	r = &fleetRun{}
	defer func() {
		if err != nil {
			r.stop()
		}
	}()
	fmt.Fprintln(os.Stderr, "making", m.Data)
	readings, err := makeLoads(min(w.nodes, w.simulated), int(min(w.backlog+w.lasts, distinctReadings).Seconds()))
	if err != nil {
		return r, err
	}
	if r.store, err = startStore(ctx, dir); err != nil {
		return r, err
	}
	m.ClickHouse = r.store.server.Version()
	key := token.NewKey()
	if r.collector, err = startCollector(ctx, dir, r.store.server.Writer(), key); err != nil {
		return r, err
	}
	r.fleet, err = loadgen.NewFleet(loadgen.FleetConfig{
		Collector: r.collector.address, Token: key.For, Nodes: w.nodes, Flush: flush, Lasts: w.lasts, Backlog: w.backlog, Readings: readings,
	})
	if err != nil {
		return r, err
	}
	fmt.Fprintf(os.Stderr, "connecting %d nodes\n", w.nodes)
	return r, r.fleet.Open(ctx)
}

// enoughFiles tells beforehand what a fleet needs: each connection is a file of the collector and of this process.
func enoughFiles(nodes int) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("ask for the limit of open files: %w", err)
	}
	if need := uint64(nodes + 1000); limit.Max < need {
		return fmt.Errorf("%d nodes need %d open files and the limit is %d: raise it (ulimit -Hn) or make the fleet smaller", nodes, need, limit.Max)
	}
	return nil
}

// run sends and watches until all is stored, then counts. beside, if any, runs with it.
func (r *fleetRun) run(ctx context.Context, figures map[string]float64, prefix string, beside func(context.Context, time.Time) error) error {
	started, before := time.Now(), r.cpu()
	running, stop := context.WithCancel(ctx)
	defer stop()
	group, running := errgroup.WithContext(running)
	group.Go(func() error { return r.watch(running) })
	if beside != nil {
		group.Go(func() error { return beside(running, started) })
	}
	sent := make(chan time.Duration, 1)
	group.Go(func() error {
		defer stop()
		err := r.fleet.Run(running)
		sent <- time.Since(started)
		return err
	})
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	took, after := <-sent, r.cpu()
	r.report(took.Seconds(), before, after, figures, prefix)
	return r.count(ctx, figures, prefix)
}

func (r *fleetRun) cpu() spent {
	return spent{collector: cpuSeconds(r.collector.pid()), clickhouse: cpuSeconds(r.store.server.PID()), generator: cpuSeconds(os.Getpid())}
}

// stop ends what was started. Its data goes with the directory.
func (r *fleetRun) stop() {
	if r.collector != nil {
		if err := r.collector.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
	}
	if r.store != nil {
		r.store.close()
	}
}
