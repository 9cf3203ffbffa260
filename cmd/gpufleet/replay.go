// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/gpufleet/gpufleet/internal/replay"
	"github.com/gpufleet/gpufleet/internal/token"
)

func newReplay() *cobra.Command {
	var collector collectorFlags
	var keyFile string
	var list bool
	cfg := replay.Config{AnswerWait: replay.DefaultAnswerWait}
	c := &cobra.Command{
		Use:   "replay FILE|DIRECTORY...",
		Short: "List quarantined batches, or send them again once the reason is gone",
		Long: "replay sends batches from a collector's quarantine to a collector again, each as the agent that it came\n" +
			"from, so that it is stored once however often it is sent. It ends with 3 if some could not be stored.",
		Example: "  gpufleet replay --list /var/lib/gpufleet/collector/quarantine\n" +
			"  gpufleet replay --collector 127.0.0.1:4490 --fleet-key fleet.key --delete /var/lib/gpufleet/collector/quarantine",
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			files, err := replay.List(args)
			if err != nil {
				return err
			}
			if list {
				return listFiles(c.OutOrStdout(), files)
			}
			if collector.address == "" {
				return errors.New("--collector is missing: where shall the batches go? --list only lists them")
			}
			cfg.Collector = collector.address
			if cfg.TLS, err = collector.config(); err != nil {
				return err
			}
			if keyFile != "" {
				keys, err := token.ReadKeys(keyFile)
				if err != nil {
					return err
				}
				cfg.Key = &keys[0]
			}
			return runReplay(c.Context(), c.OutOrStdout(), cfg, files)
		},
	}
	f := c.Flags()
	f.BoolVar(&list, "list", false, "list what is in quarantine, and send nothing")
	f.BoolVar(&cfg.Delete, "delete", false, "remove the files of batches that were stored")
	f.StringVar(&cfg.Node, "node", "", "name of the node of batches that --list shows with an id of 16 digits instead of a name")
	f.StringVar(&keyFile, "fleet-key", "", "file of the fleet key, if the collector asks for tokens")
	collector.add(c)
	return c
}

func listFiles(w io.Writer, files []replay.File) error {
	for _, f := range files {
		if f.Err != nil {
			fmt.Fprintf(w, "%s: %v\n", f.Path, f.Err)
			continue
		}
		e := f.Entry
		fmt.Fprintf(w, "%s  %-14s  %-20s  batch %d of the life from %s, %d rows: %s\n  %s\n", e.ReceivedAt.UTC().Format(time.RFC3339),
			e.Table, cmp.Or(e.NodeName, fmt.Sprintf("%016x", e.Node)), e.Sequence, time.UnixMilli(int64(e.Epoch)).UTC().Format(time.RFC3339), e.Rows, e.Reason, f.Path)
	}
	_, err := fmt.Fprintf(w, "%d batches in quarantine\n", len(files))
	return err
}

func runReplay(ctx context.Context, w io.Writer, cfg replay.Config, files []replay.File) error {
	results, err := replay.Run(ctx, cfg, files)
	if err != nil {
		return err
	}
	count := make(map[replay.State]int)
	for _, r := range results {
		count[r.State]++
		switch {
		case r.Reason != "":
			fmt.Fprintf(w, "%s  %s: %s\n", r.State, r.Path, r.Reason)
		case r.Deleted:
			fmt.Fprintf(w, "%s  %s, deleted\n", r.State, r.Path)
		default:
			fmt.Fprintf(w, "%s  %s\n", r.State, r.Path)
		}
	}
	if _, err := fmt.Fprintf(w, "%d stored, %d rejected, %d unanswered\n", count[replay.Stored], count[replay.Rejected], count[replay.Unanswered]); err != nil {
		return err
	}
	switch {
	case count[replay.Unanswered] > 0:
		return fmt.Errorf("%d batches were not answered: send them again", count[replay.Unanswered])
	case count[replay.Rejected] > 0:
		return errFound
	default:
		return nil
	}
}
