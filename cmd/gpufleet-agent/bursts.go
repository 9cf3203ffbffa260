// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/agent/control"
)

// burstOptions is what the flags say of bursts, besides the agent's own.
type burstOptions struct{ mode string } // auto or off

func burstFlags(c *cobra.Command, o *burstOptions, to *agent.Bursts) {
	f := c.Flags()
	f.StringVar(&o.mode, "bursts", "auto", "auto: read a GPU at 10 Hz for a while after a fault, when its clocks begin to be held down, and when asked to; off: never")
	f.DurationVar(&to.For, "burst-for", to.For, "how long a burst lasts")
	f.IntVar(&to.PerHour, "bursts-per-hour", to.PerHour, "bursts of one GPU, at most; half of them when its clocks are held down")
	f.DurationVar(&to.Before, "trace-before", to.Before, "how much of the driver's own samples before a fault is sent; without --subsecond it is kept in memory, 3 MiB for eight GPUs and 2m")
	f.DurationVar(&to.After, "trace-after", to.After, "and how much after it; both 0: none")
}

// apply completes what the agent is told of bursts. proc is the host's /proc; "" if it is not to be looked at.
func (o burstOptions) apply(to *agent.Bursts, proc string) error {
	switch o.mode {
	case "auto":
		to.On = true
	case "off":
		to.On = false
	default:
		return fmt.Errorf("--bursts %q: want auto or off", o.mode)
	}
	if proc != "" {
		to.Proc = os.DirFS(proc)
	}
	return nil
}

// Burst implements control.Agent.
func (s *supervisor) Burst(ctx context.Context, r control.BurstRequest) (control.Burst, error) {
	reason := "asked to on the node"
	if r.Reason != "" {
		reason += ": " + cut(r.Reason)
	}
	gpus, lasts, err := s.present().runs.Burst(ctx, r.GPU, time.Duration(r.Seconds*float64(time.Second)), reason)
	return control.Burst{GPUs: gpus, Seconds: lasts.Seconds()}, err
}

func newBurstCommand() *cobra.Command {
	var client control.Client
	var request control.BurstRequest
	var lasts time.Duration
	c := &cobra.Command{
		Use:   "burst",
		Short: "Have the agent of this node read GPUs at 10 Hz for a while",
		Long: "burst has the agent read power, temperatures, clocks, utilisation and what holds the clocks at 10 Hz, into\n" +
			"gpu_subsecond. A GPU that a profiler measures is left alone, and one that has had enough bursts within the hour.",
		Example: "  gpufleet-agent burst --gpu GPU-5fd4b6f1-8a7b-4c5a-9f0e-2b1f3c9a7d21 --for 30s --reason 'slow steps'",
		Args:    cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(c *cobra.Command, _ []string) error {
			request.Seconds = lasts.Seconds()
			b, err := client.Burst(c.Context(), request)
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(c.OutOrStdout(), "read at 10 Hz for %s: %s\n", time.Duration(b.Seconds*float64(time.Second)), strings.Join(b.GPUs, ", ")); err != nil {
				return fmt.Errorf("write the answer: %w", err)
			}
			return nil
		},
	}
	controlFlag(c.Flags(), &client.Path)
	c.Flags().StringVar(&request.GPU, "gpu", "", "UUID of the GPU; empty: all of the node")
	c.Flags().DurationVar(&lasts, "for", 0, "how long, at most 1m; 0: as the agent is configured")
	c.Flags().StringVar(&request.Reason, "reason", "", "why, for the event burst_started")
	return c
}
