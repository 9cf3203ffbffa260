// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/inference"
	"github.com/gpufleet/gpufleet/agent/internal/owner"
)

// Which servers count tokens, and how they are read.
type (
	// Inference is which servers are read.
	Inference = inference.Options
	// InferenceServer is one that an operator named.
	InferenceServer = inference.Server
	// InferenceStats is what was read of them.
	InferenceStats = inference.Stats
)

// ParseInferenceServer reads a server as it is written in flags: URL[,role=…][,model=…][,deployment=…][,team=…].
func ParseInferenceServer(text string) (InferenceServer, error) { return inference.ParseServer(text) }

// watchInference has the tokens of the node's servers counted, if any are named or looked for.
func (a *Agent) watchInference() {
	o := a.cfg.Inference
	if !o.Find && len(o.Servers) == 0 {
		return
	}
	var holders func() []owner.Holder
	if a.owners != nil {
		holders = a.owners.Holders
	}
	a.inference = inference.New(inference.Config{
		Options: o, Node: a.cfg.Node.Name, Holders: holders, Rows: a.sink, RowEvery: min(a.cfg.InventoryInterval, time.Hour), Logger: a.cfg.Logger,
	})
	a.watchers = append(a.watchers, a.inference.Run)
}

// inferenceStats is what was read of servers.
func (a *Agent) inferenceStats() inference.Stats {
	if a.inference == nil {
		return inference.Stats{}
	}
	return a.inference.Stats()
}

// inferenceCounters are the metrics of what was read of servers.
func inferenceCounters() []instrument {
	return []instrument{
		{"gpufleet.agent.inference.reads", "Times that the page of an inference server was asked for.", func(s Stats) int64 { return int64(s.Inference.Reads) }},
		{"gpufleet.agent.inference.failures", "Of these: times that there was no page, or none that could be read.", func(s Stats) int64 { return int64(s.Inference.Failures) }},
		{"gpufleet.agent.inference.resets", "Counters of inference servers that began anew.", func(s Stats) int64 { return int64(s.Inference.Resets) }},
		{"gpufleet.agent.inference.doubtful", "Counts of inference servers that were left out, because no server could have made them.", func(s Stats) int64 { return int64(s.Inference.Doubtful) }},
	}
}

// inferenceGauges are the servers.
func inferenceGauges() []instrument {
	return []instrument{
		{"gpufleet.agent.inference.servers", "Inference servers that are read.", func(s Stats) int64 { return s.Inference.Servers }},
		{"gpufleet.agent.inference.silent", "Of these: servers without tokens. Their reasons are in fleet_tokens.", func(s Stats) int64 { return s.Inference.Silent }},
	}
}
