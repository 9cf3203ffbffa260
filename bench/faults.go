// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/sim"
	"github.com/gpufleet/gpufleet/internal/token"
)

const (
	faultNode  = "bench-faults"
	faultEvery = 100 * time.Millisecond
	faultLook  = 10 * time.Millisecond // between two questions to ClickHouse: so much may be added to a latency
	firstPID   = 100_000
	faultLimit = 30 * time.Second // a fault that takes longer is lost
)

// faultCodes are XIDs of all classes. There are so many that no GPU says the same often enough to be a storm.
var faultCodes = []int{13, 31, 32, 43, 46, 62, 63, 69, 79, 94, 109, 119, 120}

// measureFaults is the time from a line in the kernel's log to an SQL answer that has the fault.
func measureFaults(ctx context.Context, dir string, db driver.Conn, c *collector, key token.Key, faults int, figures map[string]float64) error {
	log := filepath.Join(dir, "kmsg")
	if err := unix.Mkfifo(log, 0o600); err != nil { // one write is one record, as in /dev/kmsg, if it is read before the next
		return fmt.Errorf("make a kernel log: %w", err)
	}
	file, err := os.OpenFile(log, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("make a kernel log: %w", err)
	}
	defer file.Close() //nolint:errcheck // a pipe
	node, err := sim.NewNode(sim.NodeConfig{Model: sim.H100, Seed: 2})
	if err != nil {
		return fmt.Errorf("simulate node: %w", err)
	}
	cfg := agent.DefaultConfig()
	cfg.Node = agent.Node{Name: faultNode, ReadingSource: "simulator"}
	cfg.Open = func() (gpu.Driver, error) { return node.Driver(), nil }
	cfg.Collector, cfg.Token, cfg.KernelLog.Device = c.address, key.For(faultNode), log
	running, stop := context.WithCancel(ctx)
	defer stop()
	var group errgroup.Group
	group.Go(func() error { return agent.Run(running, cfg) })
	group.Go(func() error {
		defer stop()
		buses, err := awaitBuses(running, db)
		if err != nil {
			return err
		}
		latencies, err := timeFaults(running, file, db, buses, faults)
		if err != nil {
			return err
		}
		slices.Sort(latencies)
		figures["faults"] = float64(len(latencies))
		figures["fault_to_sql_p50_ms"] = float64(latencies[len(latencies)/2].Milliseconds())
		figures["fault_to_sql_p99_ms"] = float64(latencies[len(latencies)*99/100].Milliseconds())
		return nil
	})
	return group.Wait()
}

// awaitBuses waits until the node's GPUs are known, and returns their PCI addresses.
func awaitBuses(ctx context.Context, db driver.Conn) (buses []string, err error) {
	for len(buses) < 8 {
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
		rows, err := db.Query(ctx, "SELECT assumeNotNull(pci_bus_id) FROM fleet_gpus WHERE node_name = '"+faultNode+"'")
		if err != nil {
			return nil, fmt.Errorf("ask for GPUs: %w", err)
		}
		buses = buses[:0]
		for rows.Next() {
			var bus string
			if err := rows.Scan(&bus); err != nil {
				return nil, errors.Join(fmt.Errorf("ask for GPUs: %w", err), rows.Close())
			}
			buses = append(buses, bus)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return nil, fmt.Errorf("ask for GPUs: %w", err)
		}
	}
	return buses, nil
}

// timeFaults writes faults at a steady pace, each of a process of its own, and asks for them all the time.
func timeFaults(ctx context.Context, log *os.File, db driver.Conn, buses []string, faults int) ([]time.Duration, error) {
	written := make([]time.Time, faults)
	seen := make([]time.Time, faults)
	next, left, begun := 0, faults, time.Now()
	for left > 0 {
		if next < faults && time.Since(begun) >= time.Duration(next)*faultEvery {
			written[next] = time.Now()
			if err := writeFault(log, next, buses); err != nil {
				return nil, err
			}
			next++
		}
		found, err := askFaults(ctx, db)
		if err != nil {
			return nil, err
		}
		now := time.Now()
		for _, pid := range found {
			if i := int(pid) - firstPID; i >= 0 && i < next && seen[i].IsZero() {
				seen[i] = now
				left--
			}
		}
		if next == faults && time.Since(written[faults-1]) > faultLimit {
			return nil, fmt.Errorf("%d of %d faults did not come", left, faults)
		}
		if err := pause(ctx, faultLook); err != nil {
			return nil, err
		}
	}
	latencies := make([]time.Duration, faults)
	for i := range latencies {
		latencies[i] = seen[i].Sub(written[i])
	}
	return latencies, nil
}

func writeFault(log *os.File, n int, buses []string) error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("read the kernel's clock: %w", err)
	}
	_, err := fmt.Fprintf(log, "4,%d,%d,-;NVRM: Xid (PCI:%s): %d, pid=%d, name=python3, a line of the benchmark\n",
		n, now.Nano()/1000, buses[n%len(buses)], faultCodes[n%len(faultCodes)], firstPID+n)
	if err != nil {
		return fmt.Errorf("write to the kernel log: %w", err)
	}
	return nil
}

// askFaults asks as an alert does: which faults of the last minute are there?
func askFaults(ctx context.Context, db driver.Conn) (pids []uint32, err error) {
	rows, err := db.Query(ctx, "SELECT assumeNotNull(process_id) FROM gpu_events WHERE fault_id IS NOT NULL AND process_id IS NOT NULL AND ts > now() - INTERVAL 1 MINUTE")
	if err != nil {
		return nil, fmt.Errorf("ask for faults: %w", err)
	}
	for rows.Next() {
		var pid uint32
		if err := rows.Scan(&pid); err != nil {
			return nil, errors.Join(fmt.Errorf("ask for faults: %w", err), rows.Close())
		}
		pids = append(pids, pid)
	}
	return pids, errors.Join(rows.Err(), rows.Close())
}
