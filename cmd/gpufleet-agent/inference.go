// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/gpufleet/gpufleet/agent"
)

// inferenceOptions is what the flags say of servers that count tokens.
type inferenceOptions struct {
	servers []string
	ports   []string
}

func inferenceFlags(c *cobra.Command, o *inferenceOptions, to *agent.Inference) {
	f := c.Flags()
	ports := make([]string, len(to.Ports))
	for i, port := range to.Ports {
		ports[i] = strconv.Itoa(int(port))
	}
	f.BoolVar(&to.Find, "inference-find", true, "look for servers that count tokens: pages that the pods with GPUs name (prometheus.io/*), and --inference-port of processes on GPUs")
	f.StringArrayVar(&o.servers, "inference", nil, "page of a server or a training job that counts tokens, as URL[,role=prefill|decode|both|gateway][,model=…][,deployment=…][,team=…]; may be repeated")
	f.StringArrayVar(&o.ports, "inference-port", ports, "port on which processes on GPUs are asked for their metrics, if they listen there; no other is asked; may be repeated")
	f.DurationVar(&to.Interval, "inference-interval", to.Interval, "between readings of the counters of tokens")
	f.DurationVar(&to.Timeout, "inference-timeout", to.Timeout, "for such a reading")
}

// apply completes what the agent is told of servers.
func (o inferenceOptions) apply(to *agent.Inference, owners agent.Owners) error {
	to.Ports = nil
	for _, text := range o.ports {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil || port == 0 {
			return fmt.Errorf("--inference-port %q: want a number from 1 to 65535", text)
		}
		to.Ports = append(to.Ports, uint16(port))
	}
	for _, text := range o.servers {
		s, err := agent.ParseInferenceServer(text)
		if err != nil {
			return fmt.Errorf("--inference: %w", err)
		}
		to.Servers = append(to.Servers, s)
	}
	to.Find = to.Find && owners.Find
	to.Proc = owners.Proc
	return nil
}
