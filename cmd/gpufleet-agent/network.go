// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gpufleet/gpufleet/agent"
)

// networkOptions is what the flags say of the node's network.
type networkOptions struct {
	sysfs string
	rates []string // PATTERN=GIGABITS
}

func networkFlags(c *cobra.Command, o *networkOptions, n *agent.Network) {
	f := c.Flags()
	f.StringVar(&o.sysfs, "sysfs", "/sys", "folder where sysfs is mounted, to watch InfiniBand, RoCE and EFA ports; empty: do not")
	f.StringArrayVar(&o.rates, "port-rate", nil, "rate that ports should run at, as DEVICES=GIGABITS, such as mlx5_*=400; without it the best that was seen; may be repeated, the first match counts")
	f.IntVar(&n.Flapping.Losses, "port-flap-losses", n.Flapping.Losses, "link losses within --port-flap-within that make a port flapping")
	f.DurationVar(&n.Flapping.Within, "port-flap-within", n.Flapping.Within, "see --port-flap-losses")
	f.DurationVar(&n.Flapping.Quiet, "port-flap-quiet", n.Flapping.Quiet, "a flapping port is steady again after this long without a loss")
}

// apply completes what the agent is told of the network.
func (o networkOptions) apply(n *agent.Network, logger *slog.Logger) error {
	for _, text := range o.rates {
		rate, err := parseRate(text)
		if err != nil {
			return err
		}
		n.Expect = append(n.Expect, rate)
	}
	if o.sysfs == "" {
		return nil
	}
	if _, err := os.Stat(o.sysfs); err != nil {
		logger.Warn("network ports are not watched: give the folder where sysfs is mounted, or --sysfs ''", "error", err)
		return nil
	}
	n.Sysfs = os.DirFS(o.sysfs)
	return nil
}

func parseRate(text string) (agent.NetworkRate, error) {
	devices, number, found := strings.Cut(text, "=")
	gigabits, err := strconv.ParseFloat(number, 64)
	if err == nil && !found {
		err = errors.New("no =")
	}
	if err != nil {
		return agent.NetworkRate{}, fmt.Errorf("--port-rate %q: %w: want DEVICES=GIGABITS, such as mlx5_*=400", text, err)
	}
	return agent.NetworkRate{Devices: devices, Gigabits: gigabits}, nil
}
