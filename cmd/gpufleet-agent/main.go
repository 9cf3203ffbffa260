// SPDX-License-Identifier: Apache-2.0

// Command gpufleet-agent samples the GPUs of the node it runs on and brings the rows to a collector.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/internal/ops"
)

// tokenEnv keeps the token out of the process list.
const tokenEnv = "GPUFLEET_TOKEN" //nolint:gosec // the name of a variable, not a secret

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "gpufleet-agent:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "gpufleet-agent",
		Short: "Sample the GPUs of this node and bring the rows to a gpufleet collector",
		Long: "gpufleet-agent reads the GPUs of this node through NVML once a second and brings the rows to a\n" +
			"collector. Its token is read from --token-file or " + tokenEnv + ". On SIGHUP it reads --config and all\n" +
			"files anew, and goes on with what they say if nothing is wrong with it.",
		Example: "  gpufleet-agent --collector collector.example:4490 --tls-ca ca.pem --token-file /etc/gpufleet/token\n" +
			"  gpufleet-agent --config /etc/gpufleet/agent.yaml\n" +
			"  gpufleet-agent status\n" +
			"  gpufleet-agent release --reason 'driver 590'",
		Version: ops.Version(), Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(c *cobra.Command, _ []string) error { return run(c.Context(), c.Flags()) },
	}
	agentFlags(c)
	c.AddCommand(newPlaceCommand(), newStatusCommand(), newReleaseCommand(), newResumeCommand(), newBurstCommand())
	return c
}

// run runs the agent as the flags, and the file that they may name, say.
func run(ctx context.Context, line *pflag.FlagSet) error {
	load := func() (settings, error) { return load(line) }
	first, err := load()
	if err != nil {
		return err
	}
	if first.record.path == "" {
		hangup := make(chan os.Signal, 1)
		signal.Notify(hangup, syscall.SIGHUP)
		defer signal.Stop(hangup)
		return (&supervisor{load: load, hangup: hangup}).run(ctx, first)
	}
	return record(ctx, first.record, first.agent, func(ctx context.Context, cfg agent.Config) error {
		first.agent = cfg
		return (&supervisor{load: load}).run(ctx, first)
	})
}
