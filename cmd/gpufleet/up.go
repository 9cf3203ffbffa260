// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/gpufleet/gpufleet/internal/clickhouseclient"
	"github.com/gpufleet/gpufleet/internal/up"
)

func newUp() *cobra.Command {
	cfg := up.DefaultConfig()
	var address string
	c := &cobra.Command{
		Use:   "up",
		Short: "Run the whole pipeline on this machine until Ctrl-C",
		Long: "up starts an embedded ClickHouse and a collector, and samples: the GPUs of this machine if it has\n" +
			"any, else a simulated fleet over four clouds. What it stores stays in --data. Ctrl-C stops sampling,\n" +
			"sends what is left, and tells what was stored.",
		Example: "  gpufleet up                                  # until Ctrl-C\n" +
			"  gpufleet up --nodes 1000 --for 60s --json    # 8,000 simulated GPUs, one line of figures at the end\n" +
			"  gpufleet up --replay h100                    # the readings of a real H100",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if address != "" {
				var err error
				if cfg.ClickHouse, err = clickhouseclient.ParseURL(address, os.Getenv(passwordEnv)); err != nil {
					return err
				}
			}
			cfg.Out, cfg.TerminalSize = c.OutOrStdout(), terminalSize()
			return runUp(c.Context(), cfg)
		},
	}
	f := c.Flags()
	f.StringVar(&cfg.DataDir, "data", cfg.DataDir, "directory of everything that is kept")
	f.IntVar(&cfg.Nodes, "nodes", 0, "simulate this many nodes of 8 GPUs; 0: this machine's GPUs, or 24 nodes if it has none")
	f.DurationVar(&cfg.For, "for", 0, "stop by itself after this time")
	f.BoolVar(&cfg.JSON, "json", false, "print nothing but one line of figures at the end")
	f.StringVar(&cfg.Replay, "replay", "", "play a recording: a file, or h100 for the one that is built in")
	f.DurationVar(&cfg.Flush, "flush", cfg.Flush, "agents send this often")
	f.Uint64Var(&cfg.Seed, "seed", cfg.Seed, "of the simulation")
	f.Float64Var(&cfg.FaultsPerHour, "faults", cfg.FaultsPerHour, "faults that each simulated GPU has by chance in an hour")
	f.IntVar(&cfg.SubsecondNodes, "subsecond-nodes", cfg.SubsecondNodes, "simulated nodes that keep the driver's own sub-second samples")
	f.StringVar(&address, "clickhouse", "", "store in this ClickHouse instead: http://user@host:8123/database, password from "+passwordEnv)
	f.StringVar(&cfg.Library, "libchdb", "", "path of libchdb.so; empty: a clickhouse on the PATH, or the library that make deps installs")
	f.IntVar(&cfg.HTTPPort, "clickhouse-http-port", 0, "of the embedded ClickHouse; 0: the one used last time, or a free one")
	f.IntVar(&cfg.TCPPort, "clickhouse-tcp-port", 0, "the same, of its native protocol")
	f.StringToIntVar(&cfg.RetentionDays, "retention-days", nil, "drop rows that are older, by table, such as gpu_samples=14,gpu_samples_1m=400; a table that is not named is left as it is")
	f.StringVar(&cfg.OTLPListen, "otlp-listen", "", "also take metrics by OTLP over gRPC there, such as 127.0.0.1:4317; docs/neighbours.md has what senders need")
	f.StringVar(&cfg.OTLPHTTPListen, "otlp-http-listen", "", "the same by OTLP over HTTP, and by Prometheus remote write, such as 127.0.0.1:4318")
	f.StringVar(&cfg.OTLPOut, "otlp-out", "", "tell this OTLP backend how the fleet is, such as grpc://127.0.0.1:5317")
	f.IntVar(&cfg.Shards, "shards", 0, "run this many ClickHouses as the shards of one cluster; 0: as many as --data has, else one")
	f.IntVar(&cfg.Collectors, "collectors", 1, "run this many collectors, which share the agents")
	f.DurationVar(&cfg.KillCollectorAt, "kill-collector-at", 0, "kill the collector, of several the first, with SIGKILL after this time, to see that nothing is lost")
	f.DurationVar(&cfg.KillClickHouseAt, "kill-clickhouse-at", 0, "kill ClickHouse, of several shards the last, with SIGKILL after this time, to see that nothing is lost")
	return c
}

// sameSignal is the time in which a second signal is the first one's echo: timeout(1) sends one to the program and one
// to its group.
const sameSignal = time.Second

// runUp ends on the first signal in order; another one ends it at once.
func runUp(ctx context.Context, cfg up.Config) error {
	ctx, stop := untilHangup(ctx)
	defer stop()
	finished := make(chan struct{})
	defer close(finished)
	go endAtOnce(ctx, finished)
	result, err := up.Run(ctx, cfg)
	if err != nil {
		return err
	}
	if err := result.Print(cfg.Out, cfg.JSON); err != nil {
		return err
	}
	if !result.OK() {
		return errFound
	}
	return nil
}

// endAtOnce ends the program on a signal after the one that ended the context, unless it has finished before.
func endAtOnce(ctx context.Context, finished <-chan struct{}) {
	select {
	case <-finished:
		return
	case <-ctx.Done():
	}
	again := make(chan os.Signal, 1)
	signal.Notify(again, os.Interrupt, syscall.SIGTERM)
	select {
	case <-finished:
		return
	case <-time.After(sameSignal):
	}
	select {
	case <-again: // the echo
	default:
	}
	select {
	case <-finished:
	case <-again:
		fmt.Fprintln(os.Stderr, "gpufleet: stopped at once: what was not sent is not stored")
		os.Exit(exitFailed)
	}
}

// untilHangup also ends when the terminal is gone, unless whoever started the program said that it shall not (nohup).
func untilHangup(ctx context.Context) (context.Context, context.CancelFunc) {
	if signal.Ignored(syscall.SIGHUP) {
		return context.WithCancel(ctx)
	}
	return signal.NotifyContext(ctx, syscall.SIGHUP)
}
