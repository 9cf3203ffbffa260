// SPDX-License-Identifier: Apache-2.0

// Command bench measures the pipeline on this machine: what a batch costs to make and to read, what a
// row takes on the wire and on disk, and how fast a collector brings rows into ClickHouse, beside
// what ClickHouse takes of the same rows without one. It writes bench/results.json and prints a table.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"time"

	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/internal/ops"
)

// results are the figures by the names that the budgets use.
type results struct {
	Machine    string             `json:"machine"`
	Version    string             `json:"version"`
	ClickHouse string             `json:"clickhouse"`
	Measured   time.Time          `json:"measured_at"`
	Data       string             `json:"data"`
	Command    string             `json:"command"`
	Figures    map[string]float64 `json:"figures"`
}

// budgets are the bounds that a figure should keep; smaller is better unless least is set.
var budgets = map[string]struct {
	bound float64
	least bool
}{
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
	nodes := flag.Int("nodes", 64, "simulated nodes of 8 GPUs")
	seconds := flag.Int("seconds", 600, "seconds of readings of each")
	var w work
	flag.IntVar(&w.rounds, "rounds", 3, "how often to measure the collector and ClickHouse alone, in turns")
	flag.IntVar(&w.repeats, "repeats", 8, "how often the readings are sent in one round, each time as another life of the agents")
	flag.StringVar(&w.profile, "profile", "", "file for a CPU profile of the collector in the last round")
	flag.DurationVar(&w.agent, "agent", 5*time.Minute, "how long to watch one agent of 8 GPUs")
	flag.IntVar(&w.faults, "faults", 1000, "faults to time, ten a second")
	out := flag.String("out", filepath.Join("bench", "results.json"), "file for the figures")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *nodes, *seconds, w, *out)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// work is how much is measured.
type work struct {
	rounds, repeats int
	profile         string
	agent           time.Duration
	faults          int
}

func run(ctx context.Context, nodes, seconds int, w work, out string) error {
	r := results{
		Machine: fmt.Sprintf("%s/%s, %d CPUs, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), cpuModel()),
		Version: ops.Version(), Measured: time.Now().UTC().Truncate(time.Second), Command: "make bench",
		Data:    fmt.Sprintf("%d simulated nodes of 8 GPUs, %d s at 1 Hz, batches of 80 rows; %d rounds of %d times that", nodes, seconds, w.rounds, w.repeats),
		Figures: make(map[string]float64),
	}
	fmt.Fprintln(os.Stderr, "making", r.Data)
	loads, err := makeLoads(nodes, seconds)
	if err != nil {
		return err
	}
	if err := measureBatches(loads, r.Figures); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "gpufleet-bench-")
	if err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
	if r.ClickHouse, err = measurePipeline(ctx, dir, loads, w, r.Figures); err != nil {
		return err
	}
	return errors.Join(printTable(os.Stdout, r.Figures), write(out, r))
}

func write(path string, r results) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil { //nolint:gosec // figures for everybody
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}

// errNothing is a measurement that measured nothing: a figure of it would be a lie.
var errNothing = errors.New("nothing was measured")
