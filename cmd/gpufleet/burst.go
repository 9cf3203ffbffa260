// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/gpufleet/gpufleet/collector/control"
	"github.com/gpufleet/gpufleet/internal/ownersocket"
)

func newBurst() *cobra.Command {
	var b control.Burst
	var path, data string
	var lasts, wait time.Duration
	c := &cobra.Command{
		Use:   "burst",
		Short: "Have a node's agent read GPUs at 10 Hz for a while, by way of the collector",
		Long: "burst asks the agent of a node, by way of the collector of this machine that it sends to, to read power,\n" +
			"temperatures, clocks, utilisation and what holds the clocks at 10 Hz, into gpu_subsecond. The collector's owner\n" +
			"and root may. The agent judges by its own limits: the events burst_started and burst_refused say what it did.",
		Example: "  gpufleet burst --node node-17 --gpu GPU-5fd4b6f1-8a7b-4c5a-9f0e-2b1f3c9a7d21 --for 30s --reason 'slow steps'\n" +
			"  gpufleet query \"SELECT ts, kind, message FROM fleet_events WHERE kind LIKE 'burst_%' ORDER BY ts DESC LIMIT 5\"",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case b.Node == "":
				return errors.New("give a node: --node")
			case wait < 0 || wait > control.LongestWait:
				return fmt.Errorf("--wait %s: 0s to %s", wait, control.LongestWait)
			}
			b.Seconds, b.WaitSeconds = lasts.Seconds(), wait.Seconds()
			if err := burst(c.Context(), b, controlSockets(path, data, c.Flags().Changed("control"))); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "sent to the agent of %s; its events burst_started or burst_refused say what it does\n", b.Node)
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&b.Node, "node", "", "name of the node")
	f.StringVar(&b.GPU, "gpu", "", "UUID of the GPU; empty: all of the node")
	f.DurationVar(&lasts, "for", 0, "how long, at most 1m; 0: as the agent is configured")
	f.StringVar(&b.Reason, "reason", "", "why, for the event")
	f.DurationVar(&wait, "wait", 30*time.Second, "how long to wait for the agent to be connected")
	f.StringVar(&path, "control", control.DefaultPath, "the collector's socket (its --control)")
	f.StringVar(&data, "data", ".data", "data of `gpufleet up`, whose collector is asked while it runs, unless --control is given")
	return c
}

// controlSockets are where to ask: first the collector of `up`, if there is a socket of it and no other is named. An `up`
// that was killed leaves its own behind.
func controlSockets(path, data string, named bool) []string {
	ours := filepath.Join(data, "collector.sock")
	if _, err := os.Stat(ours); err == nil && !named {
		return []string{ours, path}
	}
	return []string{path}
}

// burst asks the first collector that is there.
func burst(ctx context.Context, b control.Burst, paths []string) (err error) {
	for _, path := range paths {
		err = control.Client{Path: path}.Burst(ctx, b)
		if !errors.Is(err, ownersocket.ErrNotThere) {
			break
		}
	}
	return err
}
