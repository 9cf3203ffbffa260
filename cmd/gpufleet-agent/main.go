// SPDX-License-Identifier: Apache-2.0

// Command gpufleet-agent samples the GPUs of the node it runs on and brings the rows to a collector.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/nvml"
	"github.com/gpufleet/gpufleet/internal/ops"
)

// tokenEnv keeps the token out of the process list.
const tokenEnv = "GPUFLEET_TOKEN" //nolint:gosec // the name of a variable, not a secret

type options struct {
	agent     agent.Config
	tls       ops.ClientTLSFiles
	useTLS    bool
	tokenFile string
	library   string
	network   networkOptions
	overrides string // file of an operator's judgements of XIDs
	place     placeOptions
	record    recordOptions
	ops       opsOptions
	level     string
	format    string
}

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
	o := options{agent: agent.DefaultConfig()}
	o.agent.Collector = "127.0.0.1:4490"
	o.agent.Node = agent.ThisNode()
	o.agent.Node.AgentVersion = ops.Version()
	c := &cobra.Command{
		Use:   "gpufleet-agent",
		Short: "Sample the GPUs of this node and bring the rows to a gpufleet collector",
		Long: "gpufleet-agent reads the GPUs of this node through NVML once a second and brings the rows to a\n" +
			"collector. Its token is read from --token-file or " + tokenEnv + ".",
		Example: "  gpufleet-agent --collector collector.example:4490 --tls-ca ca.pem --token-file /etc/gpufleet/token\n" +
			"  gpufleet-agent place",
		Version: ops.Version(), Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(c *cobra.Command, _ []string) error { return run(c.Context(), o) },
	}
	f := c.Flags()
	f.StringVar(&o.agent.Collector, "collector", o.agent.Collector, "address of the collector; beyond loopback it needs TLS; empty: none, with --record")
	f.BoolVar(&o.useTLS, "tls", false, "speak TLS with the collector, trusting the system's authorities")
	f.StringVar(&o.tls.CA, "tls-ca", "", "PEM file of the authorities that the collector's certificate must come from; implies --tls")
	f.StringVar(&o.tls.Cert, "tls-cert", "", "PEM file of this node's certificate, if the collector asks for one")
	f.StringVar(&o.tls.Key, "tls-key", "", "PEM file of its private key")
	f.StringVar(&o.tokenFile, "token-file", "", "file that holds this node's token (gpufleet token NODE)")
	f.StringVar(&o.library, "nvml", "", "path of libnvidia-ml.so.1; empty: search for it")
	placeFlags(c, &o.agent.Node, &o.place)
	f.DurationVar(&o.agent.Interval, "interval", o.agent.Interval, "between ticks; below 1s it can slow the workload")
	f.DurationVar(&o.agent.Flush, "flush", o.agent.Flush, "rows wait at most this long for their batch; events do not wait")
	f.DurationVar(&o.agent.HealthInterval, "health-interval", o.agent.HealthInterval, "between rows of gpu_health")
	f.BoolVar(&o.agent.Subsecond, "subsecond", o.agent.Subsecond, "keep the driver's own samples in gpu_subsecond")
	f.StringVar(&o.agent.SpoolDir, "spool-dir", "/var/lib/gpufleet/spool", "folder that keeps batches until they are stored, over restarts; it is made if it is not there; empty: memory alone")
	f.Int64Var(&o.agent.SpoolBytes, "spool-bytes", o.agent.SpoolBytes, "most that the spool takes on disk; then the oldest readings are dropped, facts last, and said so")
	f.Int64Var(&o.agent.MaxQueueBytes, "queue-bytes", o.agent.MaxQueueBytes, "memory for batches that are neither stored nor in the spool; then the oldest are dropped, and said so")
	f.DurationVar(&o.agent.DrainWait, "drain", o.agent.DrainWait, "how long a stop waits for the collector to store what is left")
	networkFlags(c, &o.network, &o.agent.Network)
	faultFlags(c, &o.agent.KernelLog, &o.overrides)
	recordFlags(c, &o.record)
	opsFlags(c, &o.ops, &o.agent.Exposition)
	f.StringVar(&o.level, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.format, "log-format", "text", "text or json")
	c.AddCommand(newPlaceCommand())
	return c
}

func run(ctx context.Context, o options) error {
	logger, err := ops.NewLogger(os.Stderr, o.level, o.format)
	if err != nil {
		return err
	}
	cfg := o.agent
	if o.ops.addr == "" {
		cfg.Exposition = agent.Exposition{} // nobody can ask for it
	}
	cfg.Logger = logger
	cfg.Open = func() (gpu.Driver, error) { return nvml.Open(nvml.Config{LibraryPath: o.library, Logger: logger}) }
	if err := o.network.apply(&cfg.Network, logger); err != nil {
		return err
	}
	if cfg.Token, err = readToken(o.tokenFile); err != nil {
		return err
	}
	if cfg.XIDOverrides, err = readOverrides(o.overrides); err != nil {
		return err
	}
	if cfg.FindPlace, cfg.Place, err = o.place.config(); err != nil {
		return err
	}
	if o.useTLS || o.tls.CA != "" || o.tls.Cert != "" {
		if cfg.TLS, err = o.tls.Client(); err != nil {
			return err
		}
	}
	if o.record.path == "" {
		if o.record.after != 0 || len(o.record.notes) > 0 {
			return errors.New("--record-for and --record-note say how to record: --record FILE says where to")
		}
		return runAgent(ctx, o, cfg)
	}
	return record(ctx, o.record, cfg, func(ctx context.Context, cfg agent.Config) error { return runAgent(ctx, o, cfg) })
}

func runAgent(ctx context.Context, o options, cfg agent.Config) error {
	a, err := agent.New(cfg)
	if err != nil {
		return err
	}
	telemetry, err := ops.NewTelemetry("gpufleet-agent")
	if err != nil {
		return err
	}
	metrics, err := metricsOf(a, telemetry, cfg.Exposition)
	if err != nil {
		return err
	}
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	var group errgroup.Group
	group.Go(func() error {
		defer stopServing()
		return a.Run(ctx)
	})
	if o.ops.addr != "" {
		group.Go(func() error {
			return ops.Serve(serving, ops.ServerConfig{Addr: o.ops.addr, TLS: o.ops.tls, Metrics: metrics, Log: cfg.Logger})
		})
	}
	return errors.Join(group.Wait(), telemetry.Close(context.WithoutCancel(ctx)))
}

func readToken(path string) (string, error) {
	if path == "" {
		return os.Getenv(tokenEnv), nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}
