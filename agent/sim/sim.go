// SPDX-License-Identifier: Apache-2.0

// Package sim simulates nodes with GPUs behind the driver interface of package gpu, thousands of them in one
// process and without a goroutine of its own.
//
// A GPU is computed when it is asked: its state moves on a grid of 50 ms from where it was last left, by the
// seed, the time and the faults that were injected, and by nothing else. The same seed and the same clock give
// the same readings, however often and in whatever order they are taken; only a GPU that was left alone for
// more than a minute moves in larger steps.
//
// The readings hang together as those of a real GPU do. Jobs move all GPUs of a group through their phases.
// Power follows the work, temperatures follow power, clocks give way to the power limit and to heat, and the
// counters are the sums of all of it. What a model on a driver release does not answer is not answered here
// either. Figures come from captures of real machines, named in model.go.
//
// FaultsPerGPUHour and Node.Inject break things in the ways in which real nodes break: cascades of XIDs, lost
// GPUs, calls that never return, missing symbols, drivers that are reloaded.
package sim

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// FleetConfig describes a fleet.
type FleetConfig struct {
	Nodes            int              // at least 1
	Seed             uint64           // the same seed and clock give the same readings
	Clock            func() time.Time // nil: time.Now
	FaultsPerGPUHour float64          // faults that come by chance; 0: none, at most 3600
	Models           []Model          // nil: A100, H100, H200 and B200, so that each node has 8 GPUs. GB200 has 4 and is only there if named
}

// Fleet is a set of nodes over four clouds.
type Fleet struct{ nodes []*Node }

// blockNodes is how many nodes stand together: one instance type in one zone, working on one job.
const blockNodes = 4

// NewFleet makes a fleet. Nodes go round the clouds, so that four nodes are in four of them.
func NewFleet(cfg FleetConfig) (*Fleet, error) {
	if cfg.Nodes < 1 {
		return nil, fmt.Errorf("fleet of %d nodes: it needs at least 1", cfg.Nodes)
	}
	if err := checkRate(cfg.FaultsPerGPUHour); err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	if cfg.Models == nil {
		cfg.Models = []Model{A100, H100, H200, B200}
	}
	var clouds [][]offer
	for _, provider := range providers {
		if some := offersOf(provider, cfg.Models); len(some) > 0 {
			clouds = append(clouds, some)
		}
	}
	if len(clouds) == 0 {
		return nil, errors.New("fleet: no cloud offers any of its models")
	}
	b := builder{cfg: cfg, clouds: clouds, tables: make(map[*software]answers)}
	for i := range cfg.Nodes {
		b.add(i)
	}
	return &Fleet{nodes: b.nodes}, nil
}

// Nodes are the nodes of the fleet, in the same order each time.
func (f *Fleet) Nodes() []*Node { return slices.Clone(f.nodes) }

// GPUs is how many GPUs the fleet has when none is lost.
func (f *Fleet) GPUs() int {
	sum := 0
	for _, n := range f.nodes {
		sum += n.GPUs()
	}
	return sum
}

// builder collects the nodes of a fleet.
type builder struct {
	cfg    FleetConfig
	nodes  []*Node
	clouds [][]offer
	tables map[*software]answers // shared by nodes of the same kind
}

// add makes node number i.
func (b *builder) add(i int) {
	cloud, number := i%len(b.clouds), int64(i/len(b.clouds)) // number in the cloud
	block := number / blockNodes
	seed := hash(hash(b.cfg.Seed, uint64(cloud)), uint64(block))
	chosen := pick(b.clouds[cloud], unit(hash(seed, 1)))
	s := &specs[chosen.model]
	where := chosen.regions[hash(seed, 2)%uint64(len(chosen.regions))]
	sw := &s.software[hash(seed, 3)%uint64(len(s.software))]
	kind := workload(unit(hash(seed, 4)), block)
	nodeSeed := hash(seed, 100+uint64(number%blockNodes))
	planSeed, gpus, rank := hash(seed, 5), int64(s.gpus)*blockNodes, number%blockNodes*int64(s.gpus)
	if kind != Training { // requests and idle nodes do not move together
		planSeed, gpus, rank = hash(nodeSeed, 5), int64(s.gpus), 0
	}
	place := Place{
		Provider: chosen.provider, Region: where.name, ZoneID: where.zone, InstanceType: chosen.instanceType,
		LifeCycle: lifeCycle(unit(hash(seed, 6))), Rack: fmt.Sprintf("r%04d", block+1),
	}
	n := &Node{
		name: nodeName(place, chosen.model, i+1), place: place, model: chosen.model, spec: s, software: sw,
		answers: b.answersFor(s, sw), seed: nodeSeed,
		rackSeed: hash(seed, 7), tray: number % blockNodes, plan: newPlan(planSeed, kind, gpus, where.utcOffset),
	}
	n.start(b.cfg.Clock, b.cfg.FaultsPerGPUHour, rank)
	b.nodes = append(b.nodes, n)
}

// answersFor is the table of answers of a model on a driver release, made once.
func (b *builder) answersFor(s *spec, sw *software) answers {
	if b.tables[sw] == nil {
		b.tables[sw] = newAnswers(s, sw)
	}
	return b.tables[sw]
}

// workload chooses what a block of nodes is used for. The first blocks always work, so that a small fleet shows
// something.
func workload(chance float64, block int64) Workload {
	switch {
	case chance < 0.66 || block == 0 && chance >= 0.92:
		return Training
	case chance < 0.92:
		return Inference
	default:
		return Idle
	}
}
