// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/sim"
	"github.com/gpufleet/gpufleet/internal/token"
)

// agentOrder is what the parent writes to the standard input of the process that runs an agent, as JSON.
type agentOrder struct {
	Collector string `json:"collector"`
	Token     string `json:"token"`
	Burst     bool   `json:"burst"` // it reads its GPUs at 10 Hz all the time
}

const (
	agentVariable = "GPUFLEET_BENCH_AGENT" // set: this process is the agent
	agentNode     = "bench-agent"
	agentWarmup   = 5 * time.Second
)

// isAgent tells whether this process is to be the agent of measureAgent.
func isAgent() bool { return os.Getenv(agentVariable) != "" }

// runAgent is the shipped agent on eight simulated H100s, until it is told to stop. Then it prints its counts.
func runAgent() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var order agentOrder
	if err := json.NewDecoder(os.Stdin).Decode(&order); err != nil {
		return fmt.Errorf("read order: %w", err)
	}
	node, err := sim.NewNode(sim.NodeConfig{Model: sim.H100, Seed: 1, Workload: sim.Training})
	if err != nil {
		return fmt.Errorf("simulate node: %w", err)
	}
	cfg := agent.DefaultConfig()
	cfg.Node = agent.ThisNode()
	cfg.Node.Name, cfg.Node.ReadingSource = agentNode, "simulator"
	cfg.Open = func() (gpu.Driver, error) { return node.Driver(), nil }
	cfg.Owners.Find, cfg.Owners.Proc, cfg.Owners.View = true, node.Proc(), agent.ProcessView{All: true, Resolves: true}
	cfg.Collector, cfg.Token = order.Collector, order.Token
	cfg.Bursts.For, cfg.Bursts.PerHour = time.Minute, 60
	a, err := agent.New(cfg)
	if err != nil {
		return err
	}
	var bursting sync.WaitGroup
	if order.Burst {
		bursting.Go(func() { keepBursting(ctx, a) })
	}
	err = a.Run(ctx)
	bursting.Wait()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(a.Stats())
}

// keepBursting has all GPUs read at 10 Hz until the context ends.
func keepBursting(ctx context.Context, a *agent.Agent) {
	for wait := 100 * time.Millisecond; pause(ctx, wait) == nil; {
		gpus, lasts, err := a.Burst(ctx, "", 0, "benchmark")
		switch {
		case err != nil: // no GPU was read yet
		case len(gpus) == 8:
			wait = lasts / 4 // a burst of which less than half is left goes on
		}
	}
}

// measureAgents is what one agent costs its node: 8 GPUs at 1 Hz, sent to a collector; then the same in a burst. The
// simulator runs in the same process, and its cost is in the figures; what the driver itself would take is not.
func measureAgents(ctx context.Context, c *collector, key token.Key, lasts time.Duration, figures map[string]float64) error {
	for _, burst := range []bool{false, true} {
		prefix := "agent_"
		if burst {
			prefix, lasts = "agent_burst_", max(lasts/5, time.Second)
		}
		measured := make(map[string]float64)
		if err := measureAgent(ctx, agentOrder{Collector: c.address, Token: key.For(agentNode), Burst: burst}, lasts, measured); err != nil {
			return err
		}
		for name, value := range measured {
			figures[prefix+name] = value
		}
	}
	return nil
}

func measureAgent(ctx context.Context, order agentOrder, lasts time.Duration, figures map[string]float64) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.CommandContext(ctx, program)                                               //nolint:gosec // this program itself
	cmd.Env = append(os.Environ(), agentVariable+"=1", "GOMAXPROCS=2", "GOMEMLIMIT=96MiB") // as gpufleet-agent sets it: 64 MiB, and the queue
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	if err := errors.Join(json.NewEncoder(in).Encode(order), in.Close()); err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	if err := watchAgent(ctx, cmd.Process.Pid, lasts, figures); err != nil {
		return err
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop agent: %w", err)
	}
	return endAgent(cmd, out, order.Burst, figures)
}

// watchAgent measures CPU and memory once the agent has found its pace.
func watchAgent(ctx context.Context, pid int, lasts time.Duration, figures map[string]float64) error {
	if err := pause(ctx, agentWarmup); err != nil {
		return err
	}
	before, started, most := cpuSeconds(pid), time.Now(), 0.0
	for time.Since(started) < lasts {
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
		most = max(most, rssMegabytes(pid))
	}
	figures["cpu_percent"] = 100 * (cpuSeconds(pid) - before) / time.Since(started).Seconds()
	figures["rss_mb"] = most
	return nil
}

func endAgent(cmd *exec.Cmd, out io.Reader, burst bool, figures map[string]float64) error {
	var stats agent.Stats
	decoded := json.NewDecoder(out).Decode(&stats)
	if err := errors.Join(decoded, cmd.Wait()); err != nil {
		return fmt.Errorf("stop agent: %w", err)
	}
	if stats.Rows == 0 || stats.BatchesStored == 0 {
		return errNothing
	}
	if burst {
		figures["reads_per_gpu_second"] = float64(stats.BurstReads) / float64(stats.Rows)
		if stats.BurstReads < stats.Rows { // there were none most of the time
			return fmt.Errorf("agent in a burst: %d reads at 10 Hz in %d GPU seconds: %w", stats.BurstReads, stats.Rows, errNothing)
		}
	}
	figures["rows"] = float64(stats.Rows)
	figures["missed_ticks"] = float64(stats.MissedTicks)
	figures["nvml_calls_per_gpu_second"] = float64(stats.DriverCalls) / float64(stats.Rows)
	figures["read_microseconds_per_gpu_second"] = stats.ReadTime.Seconds() * 1e6 / float64(stats.Rows)
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
