// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// part is what is measured together.
type part string

// The parts, and the targets of the Makefile that measure them.
const (
	partPipeline part = "pipeline"
	partPeers    part = "peers"
	partFleet    part = "fleet"
	partCatchup  part = "catchup"
)

var (
	parts    = []part{partPipeline, partPeers, partFleet, partCatchup}
	commands = map[part]string{
		partPipeline: "bench", partPeers: "bench-peers", partFleet: "bench-fleet", partCatchup: "bench-catchup",
	}
)

// usualOut is the file that is committed.
var usualOut = filepath.Join("bench", "results.json")

// options are what is measured, and how much of it.
type options struct {
	asked   map[part]*bool
	out     string
	docs    string
	tables  bool
	nodes   int
	seconds int
	work    work
	fleet   fleetWork
	catchup fleetWork
	peers   peerWork
}

// work is how much of the pipeline is measured.
type work struct {
	rounds, repeats int
	profile         string
	agent           time.Duration
	faults          int
}

func (o *options) register(f *flag.FlagSet) {
	f.Usage = func() {
		fmt.Fprint(f.Output(), usage)
		f.PrintDefaults()
	}
	o.asked = map[part]*bool{
		partPipeline: f.Bool("pipeline", false, "measure the pipeline; that is done if no other part is asked for"),
		partPeers:    f.Bool("peers", false, "measure other pipelines on the same readings"),
		partFleet:    f.Bool("fleet", false, "measure a fleet at its own pace"),
		partCatchup:  f.Bool("catchup", false, "measure how fast a backlog is caught up"),
	}
	f.StringVar(&o.out, "out", usualOut, "file for the figures; those of parts that are not measured stay")
	f.StringVar(&o.docs, "docs", filepath.Join("docs", "benchmarks.md"), "page whose tables are written anew from the figures, unless those go into another file than usually")
	f.BoolVar(&o.tables, "tables", false, "measure nothing: only write the tables of the page")
	f.IntVar(&o.nodes, "nodes", 64, "pipeline: simulated nodes of 8 GPUs")
	f.IntVar(&o.seconds, "seconds", 600, "pipeline: seconds of readings of each")
	f.IntVar(&o.work.rounds, "rounds", 3, "pipeline: how often to measure the collector and ClickHouse alone, in turns")
	f.IntVar(&o.work.repeats, "repeats", 8, "pipeline: how often the readings are sent in one round, each time as another life of the agents")
	f.StringVar(&o.work.profile, "profile", "", "pipeline: file for a CPU profile of the collector in the last round")
	f.DurationVar(&o.work.agent, "agent", 5*time.Minute, "pipeline: how long to watch one agent of 8 GPUs")
	f.IntVar(&o.work.faults, "faults", 1000, "pipeline: faults to time, ten a second")
	o.fleet.register(f, "fleet", fleetWork{nodes: 12_500, lasts: 10 * time.Minute})
	o.catchup.register(f, "catchup", fleetWork{nodes: 1000, backlog: 20 * time.Minute, lasts: 30 * time.Second})
	o.peers.register(f)
}

const usage = `Usage: make bench, bench-peers, bench-fleet or bench-catchup, with flags in ARGS

Measures on this machine and prints the figures with their budgets. They also go into bench/results.json and into the
tables of docs/benchmarks.md; figures of other parts stay there. A short run to see that it works, with figures elsewhere:

  make bench ARGS="--nodes 8 --seconds 60 --rounds 1 --agent 10s --faults 20 --out /tmp/bench.json"
  make bench-peers ARGS="--peer-nodes 8 --peer-seconds 240 --peer-otel 10s --out /tmp/bench.json"
  make bench-fleet ARGS="--fleet-nodes 1000 --fleet-for 1m --out /tmp/bench.json"
  make bench-catchup ARGS="--catchup-nodes 100 --catchup-backlog 5m --catchup-for 10s --out /tmp/bench.json"

Flags:
`

// command is how what was measured is measured again.
func command(name part, args []string) string {
	var flags []string
	for _, arg := range args {
		if p := part(strings.TrimLeft(arg, "-")); !strings.HasPrefix(arg, "-") || commands[p] == "" {
			flags = append(flags, arg)
		}
	}
	if len(flags) == 0 {
		return "make " + commands[name]
	}
	return fmt.Sprintf("make %s ARGS=%q", commands[name], strings.Join(flags, " "))
}

// wants tells whether a part is to be measured.
func (o *options) wants(p part) bool {
	if *o.asked[p] {
		return true
	}
	for _, asked := range o.asked {
		if *asked {
			return false
		}
	}
	return p == partPipeline
}
