// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/gpufleet/gpufleet/internal/replay"
	"github.com/gpufleet/gpufleet/internal/token"
)

func newQuarantineReplay() *cobra.Command {
	var kept keptFlags
	var collector collectorFlags
	var keyFile string
	cfg := replay.Config{AnswerWait: replay.DefaultAnswerWait}
	c := &cobra.Command{
		Use:   "replay [FILE|DIRECTORY...]",
		Short: "Send quarantined batches to a collector again, once the reason is gone",
		Long: "replay sends batches to a collector again, each as the agent that it came from, so that it is stored once\n" +
			"however often it is sent. It ends with 3 if some could not be stored.",
		Example: "  gpufleet quarantine replay --collector 127.0.0.1:4490 --fleet-key fleet.key --delete " + quarantineDir,
		RunE: func(c *cobra.Command, args []string) error {
			if collector.address == "" {
				return errors.New("--collector is missing: where shall the batches go? gpufleet quarantine list only lists them")
			}
			files, err := kept.files(args)
			if err != nil {
				return err
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
	kept.add(c)
	f := c.Flags()
	f.BoolVar(&cfg.Delete, "delete", false, "remove the files of batches that were stored")
	f.StringVar(&cfg.Node, "node-name", "", "name of the node of batches that list shows with an id of 16 digits instead of a name")
	f.StringVar(&keyFile, "fleet-key", "", "file of the fleet key, if the collector asks for tokens")
	collector.add(c)
	return c
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
