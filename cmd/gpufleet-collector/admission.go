// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/gpufleet/gpufleet/collector"
	"github.com/gpufleet/gpufleet/collector/trust"
)

// addAdmission adds the flags that say whose rows are stored, and what each agent may do.
func addAdmission(c *cobra.Command, cfg *collector.Config) {
	f, a := c.Flags(), &cfg.Agents
	f.StringSliceVar(&cfg.Admits.Residencies, "residency", nil, "store rows of these residency zones alone, as agents prove them (gpufleet token --residency); empty: of all, and of none")
	f.StringSliceVar(&cfg.Admits.Tenants, "tenant", nil, "store rows of these tenants alone, as agents prove them; empty: of all, and of none")
	f.Float64Var(&a.BatchesPerSecond, "agent-batches", a.BatchesPerSecond, "batches a second of one agent, at most; 0: no limit, as for all that follow")
	f.Float64Var(&a.BytesPerSecond, "agent-bytes", a.BytesPerSecond, "bytes a second of one agent, at most")
	f.IntVar(&a.Streams, "agent-streams", a.Streams, "streams of one agent at the same time, at most")
	f.IntVar(&a.BatchRows, "agent-rows", a.BatchRows, "rows in one batch, at most")
	f.IntVar(&a.GPUs, "agent-gpus", a.GPUs, "distinct GPUs and MIG instances of one agent in a day, at most")
	f.IntVar(&a.EpochsPerHour, "agent-epochs", a.EpochsPerHour, "lives of one agent that send within an hour, at most")
}

// admission reads by what agents prove who they are.
func (o options) admission(cfg *collector.Config) (err error) {
	if cfg.TLS, err = o.tls.Server(); err != nil {
		return err
	}
	o.trust.ClientCA = o.tls.ClientCA
	cfg.Trust, err = trust.Open(o.trust, cfg.Logger)
	return err
}

// watch has what agents are known by read anew when it changes, or at a SIGHUP, until the context ends.
func watch(ctx context.Context, known *trust.Trust) error {
	told, stop := hangup(ctx)
	defer stop()
	known.Run(ctx, told)
	return nil
}

// hangup tells of each SIGHUP, until it is stopped.
func hangup(ctx context.Context) (told <-chan struct{}, stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	passed := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-signals:
				select {
				case passed <- struct{}{}:
				default: // it is told already
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return passed, func() {
		signal.Stop(signals)
		cancel()
		<-ended
	}
}
