// SPDX-License-Identifier: Apache-2.0

// Command bench measures the pipeline on this machine: what a batch costs to make and to read, what a
// row takes on the wire and on disk, and how fast a collector brings rows into ClickHouse, beside
// what ClickHouse takes of the same rows without one. It writes bench/results.json and prints a table.
//
// Flags choose other parts: other pipelines on the same readings, a whole fleet at its own pace and a backlog. Each part
// replaces its own figures in the file and in the tables of docs/benchmarks.md, and leaves the others'.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/internal/ops"
)

// budget is the bound that a figure should keep; smaller is better unless least is set.
type budget struct {
	bound float64
	least bool
}

func (b budget) kept(value float64) bool {
	if b.least {
		return value >= b.bound
	}
	return value <= b.bound
}

func (b budget) sign() string {
	if b.least {
		return "≥"
	}
	return "≤"
}

var budgets = map[string]budget{
	"agent_cpu_percent":                  {bound: 0.5},
	"agent_rss_mb":                       {bound: 64},
	"agent_burst_cpu_percent":            {bound: 3},
	"agent_burst_rss_mb":                 {bound: 64},
	"agent_nvml_calls_per_gpu_second":    {bound: 4}, // two, and the two of a GPM pair: docs/adr/006-driver-calls.md says why it is missed
	"fault_to_sql_p99_ms":                {bound: 1000},
	"wire_bytes_per_row":                 {bound: 57},
	"disk_bytes_per_row":                 {bound: 26},
	"disk_bytes_per_value":               {bound: 0.55},
	"collector_rows_per_second_per_core": {bound: 600_000, least: true},
	"collector_ratio_to_clickhouse":      {bound: 0.9, least: true},
	"fleet_gpus_sustained":               {bound: 100_000, least: true},
	"peer_cpu_ratio":                     {bound: 1},
	"peer_disk_ratio":                    {bound: 1},
	"peer_wire_ratio":                    {bound: 1},
	"peer_query_a_ratio":                 {bound: 1},
	"peer_query_b_ratio":                 {bound: 1},
	"catchup_ratio":                      {bound: 10, least: true},
}

func main() {
	embedded.RunIfChild()
	if isAgent() {
		if err := runAgent(); err != nil {
			fmt.Fprintln(os.Stderr, "bench: agent:", err)
			os.Exit(1)
		}
		return
	}
	var o options
	o.register(flag.CommandLine)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures the parts that were asked for, and writes down each as soon as it is there: a part that fails does not
// take the others with it.
func run(ctx context.Context, o options) error {
	if o.tables {
		return writeTables(o)
	}
	dir, err := os.MkdirTemp("", "gpufleet-bench-")
	if err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
	var problems []error
	for _, name := range parts {
		if !o.wants(name) {
			continue
		}
		if err := measurePart(ctx, filepath.Join(dir, string(name)), name, o); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", name, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(problems...)
}

// writeTables makes the tables of the page out of the file, which has to be there: without it they would all be emptied.
func writeTables(o options) error {
	if _, err := os.Stat(o.out); err != nil {
		return fmt.Errorf("read results: %w", err)
	}
	r, err := readResults(o.out)
	if err != nil {
		return err
	}
	return writeDocs(o.docs, r)
}

func measurePart(ctx context.Context, dir string, name part, o options) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
	m := measured{
		Version: ops.Version(), At: time.Now().UTC().Truncate(time.Second), Command: command(name, os.Args[1:]), Figures: make(map[string]float64),
	}
	var err error
	switch name {
	case partPipeline:
		err = measurePipelinePart(ctx, dir, o, &m)
	case partPeers:
		err = measurePeers(ctx, dir, o.peers, &m)
	case partFleet:
		err = measureFleet(ctx, dir, o.fleet, &m)
	case partCatchup:
		err = measureCatchup(ctx, dir, o.catchup, &m)
	}
	if err != nil {
		return err
	}
	r, err := record(o.out, name, m)
	if err == nil && o.out == usualOut {
		err = writeDocs(o.docs, r)
	}
	return errors.Join(printTable(os.Stdout, m.Figures), err)
}

func measurePipelinePart(ctx context.Context, dir string, o options, m *measured) error {
	m.Data = fmt.Sprintf("%d simulated nodes of 8 GPUs, %d s at 1 Hz, batches of 80 rows; %d rounds of %d times that", o.nodes, o.seconds, o.work.rounds, o.work.repeats)
	fmt.Fprintln(os.Stderr, "making", m.Data)
	loads, err := makeLoads(o.nodes, o.seconds)
	if err != nil {
		return err
	}
	if err := measureBatches(loads, m.Figures); err != nil {
		return err
	}
	m.ClickHouse, err = measurePipeline(ctx, dir, loads, o.work, m.Figures)
	return err
}

// errNothing is a measurement that measured nothing: a figure of it would be a lie.
var errNothing = errors.New("nothing was measured")
