// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/sim"
)

// TestRetiredAgentKeepsWhatIsNotStored: it stops sampling at once, and gives up nothing while its context lasts,
// however short the wait of a stop is.
func TestRetiredAgentKeepsWhatIsNotStored(t *testing.T) {
	node, err := sim.NewNode(sim.NodeConfig{Model: sim.H100, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	cfg := agent.DefaultConfig()
	cfg.Node = agent.Node{Name: "node-1", ReadingSource: "simulator"}
	cfg.Open = func() (gpu.Driver, error) { return node.Driver(), nil }
	cfg.Collector = "127.0.0.1:1" // nobody
	cfg.Interval, cfg.Flush, cfg.DrainWait = 100*time.Millisecond, 100*time.Millisecond, 10*time.Millisecond
	a, err := agent.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	if err := a.Tell("config_reloaded", "for a test"); err != nil {
		t.Fatal(err)
	}
	a.Retire()
	a.Retire() // it has
	ticks := a.Stats().Ticks
	select {
	case err := <-done:
		t.Fatalf("the agent has ended, with %v", err)
	case <-time.After(300 * time.Millisecond): // much longer than the wait of a stop, and three ticks
	}
	if now := a.Stats().Ticks; now != ticks {
		t.Errorf("%d ticks since it retired", now-ticks)
	}
	stop()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "were not stored by collector") {
		t.Errorf("ended with %v", err)
	}
}
