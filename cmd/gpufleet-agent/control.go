// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/gpufleet/gpufleet/agent/control"
)

var _ control.Agent = (*supervisor)(nil)

func controlFlag(f *pflag.FlagSet, path *string) {
	f.StringVar(path, "control", control.DefaultPath, "socket by which status, release, resume and burst reach the agent; empty: none")
}

// Status implements control.Agent.
func (s *supervisor) Status() control.Status {
	s.mu.Lock()
	l, rejected := s.current, s.rejected
	s.mu.Unlock()
	stats := l.runs.Stats()
	status := control.Status{
		Node: l.agent.Node.Name, Version: l.agent.Node.AgentVersion, ProcessID: os.Getpid(), Started: s.started, Epoch: l.runs.Epoch(),
		Collector: l.agent.Collector, CollectorAway: stats.CollectorAway, GPUs: stats.GPUs, DriverMissing: stats.DriverMissing, Ticks: stats.Ticks, MissedTicks: stats.MissedTicks, DriverCalls: stats.DriverCalls,
		BatchesStored: stats.BatchesStored, BatchesWaiting: stats.BatchesWaiting, BytesWaiting: stats.BytesWaiting,
		OldestWaiting: int64(stats.OldestWaiting.Seconds()), BatchesRejected: stats.BatchesRejected, BatchesDropped: stats.BatchesDropped,
		SpoolBytes: stats.SpoolBytes, SpoolFailing: stats.SpoolFailing,
		Config: valueOf(l.flags, "config"), Configured: l.since, ConfigRejected: rejected,
	}
	if reason, since := l.runs.Released(); reason != "" {
		status.Released, status.ReleasedSince = reason, &since
	}
	return status
}

// Release implements control.Agent. What is released stays so when the agent is replaced.
func (s *supervisor) Release(ctx context.Context, reason string) error {
	s.turn.Lock()
	defer s.turn.Unlock()
	if reason == "" {
		reason = "asked to"
	}
	return s.present().runs.Release(ctx, cut(reason))
}

// Resume implements control.Agent.
func (s *supervisor) Resume() error {
	s.turn.Lock()
	defer s.turn.Unlock()
	if !s.present().runs.Resume() {
		return errors.New("the GPU driver was not released")
	}
	return nil
}

func newStatusCommand() *cobra.Command {
	var client control.Client
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Say how the agent of this node does",
		Args:  cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := client.Status(c.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(s)
			}
			return writeStatus(c.OutOrStdout(), s, time.Now())
		},
	}
	controlFlag(c.Flags(), &client.Path)
	c.Flags().BoolVar(&asJSON, "json", false, "print one line of JSON")
	return c
}

func newReleaseCommand() *cobra.Command {
	var client control.Client
	var reason string
	c := &cobra.Command{
		Use:   "release",
		Short: "Have the agent of this node close the GPU driver, and keep away from it",
		Long: "release ends the sampling of GPUs, so that a driver can be replaced, MIG instances be changed or a GPU be given\n" +
			"away. It returns when the driver is closed. The agent runs on, sends what it has, and reads the kernel's log and\n" +
			"network ports. A restart of the agent ends the release, a SIGHUP does not.",
		Example: "  gpufleet-agent release --reason 'driver 590' && systemctl stop nvidia-persistenced && modprobe -r nvidia_uvm nvidia",
		Args:    cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(c *cobra.Command, _ []string) error {
			if _, err := client.Release(c.Context(), reason); err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), "the GPU driver is closed; gpufleet-agent resume takes it up again")
			return nil
		},
	}
	controlFlag(c.Flags(), &client.Path)
	c.Flags().StringVar(&reason, "reason", "", "why, for the event driver_released")
	return c
}

func newResumeCommand() *cobra.Command {
	var client control.Client
	c := &cobra.Command{
		Use:   "resume",
		Short: "Have the agent of this node take up the GPU driver again after release",
		Args:  cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(c *cobra.Command, _ []string) error {
			if _, err := client.Resume(c.Context()); err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), "the GPU driver is taken up again")
			return nil
		},
	}
	controlFlag(c.Flags(), &client.Path)
	return c
}

func writeStatus(w io.Writer, s control.Status, now time.Time) error {
	ago := func(t time.Time) string { return now.Sub(t).Round(time.Second).String() + " ago" }
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, name+"\t"+format+"\n", args...) }
	row("node", "%s", s.Node)
	row("agent", "%s, process %d, started %s", s.Version, s.ProcessID, ago(s.Started))
	switch {
	case s.Released != "" && s.ReleasedSince != nil:
		row("GPUs", "released %s: %s", ago(*s.ReleasedSince), s.Released)
	case s.DriverMissing != "":
		row("GPUs", "none: the driver %s", s.DriverMissing)
	default:
		row("GPUs", "%d answer", s.GPUs)
	}
	row("ticks", "%d, %d missed; %d driver calls", s.Ticks, s.MissedTicks, s.DriverCalls)
	row("collector", "%s", s.Collector)
	if s.CollectorAway != "" {
		row("", "was tried in vain: %s", s.CollectorAway)
	}
	row("batches", "%d stored, %d waiting (%d bytes, the oldest for %s), %d rejected, %d dropped",
		s.BatchesStored, s.BatchesWaiting, s.BytesWaiting, time.Duration(s.OldestWaiting)*time.Second, s.BatchesRejected, s.BatchesDropped)
	if s.SpoolFailing {
		row("spool", "cannot be written: batches are in memory alone")
	} else {
		row("spool", "%d bytes", s.SpoolBytes)
	}
	if s.Config != "" {
		row("configuration", "%s, read %s", s.Config, ago(s.Configured))
	}
	if s.ConfigRejected != "" {
		row("", "what was read since is not in force: %s", s.ConfigRejected)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}
