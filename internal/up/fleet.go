// SPDX-License-Identifier: Apache-2.0

package up

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/sim"
	"github.com/gpufleet/gpufleet/internal/ops"
)

// fleet is what sends.
type fleet interface {
	// describe says what it is, in a few words.
	describe() string
	// readers says whose readings are shown, if they are not this machine's.
	readers() string
	// run sends until the context ends, and then what is left.
	run(ctx context.Context) error
	// stats adds up what was sent. ok is false if the senders cannot be asked.
	stats() (sum agent.Stats, ok bool)
}

// newFleet chooses: a recording, this machine's GPUs, or a simulation.
func (p *pipeline) newFleet() (fleet, error) {
	switch {
	case p.cfg.Replay != "":
		return p.newReplay()
	case p.cfg.Nodes == 0 && hasGPUs():
		return p.newLocal()
	default:
		return p.newSimulation()
	}
}

// hasGPUs tells whether the NVIDIA driver is loaded.
func hasGPUs() bool {
	_, err := os.Stat("/proc/driver/nvidia/version")
	return err == nil
}

// simulation is a fleet of agents in this process, each with a simulated driver or a recording.
type simulation struct {
	agents []*agent.Agent
	what   string
	label  string
}

func (p *pipeline) newSimulation() (*simulation, error) {
	nodes := p.cfg.Nodes
	if nodes == 0 {
		nodes = DefaultNodes
	}
	model, err := sim.NewFleet(sim.FleetConfig{Nodes: nodes, Seed: p.cfg.Seed, FaultsPerGPUHour: p.cfg.FaultsPerHour})
	if err != nil {
		return nil, err
	}
	s := &simulation{label: "simulated"}
	gpus, clouds := 0, make(map[string]bool)
	for i, n := range model.Nodes() {
		a, err := agent.New(p.simulated(n, i, nodes))
		if err != nil {
			return nil, err
		}
		s.agents = append(s.agents, a)
		gpus += n.GPUs()
		clouds[n.Place().Provider] = true
	}
	s.what = fmt.Sprintf("simulating %s with %s in %s", counted(uint64(nodes), "node"), counted(uint64(gpus), "GPU"), counted(uint64(len(clouds)), "cloud"))
	return s, nil
}

// tokensEvery is between readings of tokens: whoever looks for the first time does not wait long.
const tokensEvery = 5 * time.Second

// tracedNodes are the simulated nodes that keep samples for a fault, and make bursts: all have 3 MiB for it.
const tracedNodes = 32

// simulated is the configuration of the i-th simulated node. Ticks are spread over the second: on real
// nodes they fall together, but here all nodes share one machine.
func (p *pipeline) simulated(n *sim.Node, i, nodes int) agent.Config {
	place := n.Place()
	cfg := agent.DefaultConfig()
	cfg.Node = agent.Node{
		Name: n.Name(), ReadingSource: "simulator", Provider: place.Provider, Region: place.Region, ZoneID: place.ZoneID,
		InstanceType: place.InstanceType, LifeCycle: place.LifeCycle, Rack: place.Rack, AgentVersion: ops.Version(),
	}
	cfg.Open = func() (gpu.Driver, error) { return n.Driver(), nil }
	cfg.Collector, cfg.Token, cfg.Flush = p.address, p.key.For(n.Name()), p.cfg.Flush
	cfg.Phase = cfg.Interval * time.Duration(i) / time.Duration(nodes)
	cfg.Subsecond = i < p.cfg.SubsecondNodes
	cfg.Bursts.Proc = n.Proc()
	if i >= tracedNodes { // the others would fill the machine's memory with what nodes keep for a fault
		cfg.Bursts = agent.Bursts{}
	}
	simulatedOwners(n, &cfg.Owners)
	cfg.Inference.Find, cfg.Inference.Transport, cfg.Inference.Interval = true, servers{n}, tokensEvery
	cfg.DrainWait = drainWait
	cfg.Logger = p.logger
	return cfg
}

func (s *simulation) describe() string { return s.what }

func (s *simulation) readers() string { return s.label }

func (s *simulation) run(ctx context.Context) error {
	var group errgroup.Group
	for _, a := range s.agents {
		group.Go(func() error { return a.Run(ctx) })
		select {
		case <-ctx.Done():
		case <-time.After(startSpread / time.Duration(len(s.agents))):
		}
	}
	return group.Wait()
}

func (s *simulation) stats() (sum agent.Stats, ok bool) {
	for _, a := range s.agents {
		sum.Add(a.Stats())
	}
	return sum, true
}

// local is the shipped agent on this machine, as a process of its own: it alone links the driver's
// library.
type local struct {
	agent *child
}

func (p *pipeline) newLocal() (*local, error) {
	path, err := program("gpufleet-agent")
	if err != nil {
		return nil, err
	}
	node := agent.ThisNode().Name
	if node == "" {
		return nil, errors.New("this machine has no host name to call the node by")
	}
	return &local{agent: &child{
		logger: p.logger, path: path, logPath: filepath.Join(p.cfg.DataDir, "agent.log"),
		args: []string{
			"--collector", p.address, "--node", node, "--flush", p.cfg.Flush.String(), "--ops-listen", "",
			"--spool-dir", filepath.Join(p.cfg.DataDir, "spool"), "--state-dir", p.cfg.DataDir,
		},
		env: []string{"GPUFLEET_TOKEN=" + p.key.For(node)},
	}}, nil
}

func (l *local) describe() string { return "sampling the GPUs of this machine" }

func (l *local) readers() string { return "" }

func (l *local) run(ctx context.Context) error {
	l.agent.start()
	<-ctx.Done()
	return l.agent.stop()
}

func (l *local) stats() (agent.Stats, bool) { return agent.Stats{}, false }

// startSpread is the time over which the agents in this process start: each probes its GPUs and opens
// its streams first.
const startSpread = 5 * time.Second

// drainWait is how long agents in this process may take to have their last batches stored.
const drainWait = time.Minute
