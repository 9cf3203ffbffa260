// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gpufleet/gpufleet/internal/replay"
	"github.com/gpufleet/gpufleet/internal/up"
)

func newQuarantine() *cobra.Command {
	c := &cobra.Command{
		Use:   "quarantine",
		Short: "Look at batches that could not be stored, send them again, or delete them",
		Long: "A collector puts a batch that can never be stored into its quarantine, with the reason, and tells the agent.\n" +
			"These commands work on its files, on the machine where they lie: the folder quarantine in the collector's\n" +
			"--data, or single files. Without one they take those of the `gpufleet up` of --data.",
		Example: "  gpufleet quarantine list " + quarantineDir + "\n  gpufleet quarantine show --reason 'too old'",
		Args:    cobra.NoArgs,
	}
	c.AddCommand(newQuarantineList(), newQuarantineShow(), newQuarantinePurge(), newQuarantineReplay())
	return c
}

// keptFlags are the flags by which a command is told which quarantined batches are meant.
type keptFlags struct {
	dataDir string
	filter  replay.Filter
}

func (k *keptFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&k.dataDir, "data", up.DefaultConfig().DataDir, "directory of gpufleet up, if no file or folder is named")
	f.StringVar(&k.filter.Reason, "reason", "", "those whose reason has this in it, whatever its case")
	f.StringVar(&k.filter.Node, "node", "", "those of this node, by name or by the id of 16 digits")
	f.StringVar(&k.filter.Table, "table", "", "those for this table")
	f.DurationVar(&k.filter.Older, "older-than", 0, "those that came this long ago or longer")
}

// files are those that are meant.
func (k *keptFlags) files(paths []string) ([]replay.File, error) {
	if len(paths) == 0 {
		found, err := filepath.Glob(filepath.Join(k.dataDir, "collector*", "quarantine"))
		if err != nil {
			return nil, fmt.Errorf("look for quarantines in %s: %w", k.dataDir, err)
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("no quarantine in %s: name the folder quarantine in a collector's --data, or its files", k.dataDir)
		}
		paths = found
	}
	files, err := replay.List(paths)
	return k.filter.Of(files, time.Now()), err
}

const quarantineDir = "/var/lib/gpufleet/collector/quarantine"

func newQuarantineList() *cobra.Command {
	var kept keptFlags
	var asJSON bool
	c := &cobra.Command{
		Use:     "list [FILE|DIRECTORY...]",
		Short:   "List quarantined batches, the oldest first",
		Example: "  gpufleet quarantine list\n  gpufleet quarantine list --reason 'too old' " + quarantineDir,
		RunE: func(c *cobra.Command, args []string) error {
			files, err := kept.files(args)
			if err != nil {
				return err
			}
			if asJSON {
				return writeFilesJSON(c.OutOrStdout(), files)
			}
			return listFiles(c.OutOrStdout(), files)
		},
	}
	kept.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print a line of JSON for each")
	return c
}

func listFiles(w io.Writer, files []replay.File) error {
	var bytes int64
	for _, f := range files {
		bytes += f.Bytes
		if f.Err != nil {
			fmt.Fprintf(w, "%s  %v\n  %s\n", f.Entry.ReceivedAt.UTC().Format(time.RFC3339), f.Err, f.Path)
			continue
		}
		fmt.Fprintf(w, "%s  %-14s  %-20s  %d rows: %s\n  %s\n", f.Entry.ReceivedAt.UTC().Format(time.RFC3339), f.Entry.Table, f.Node(), f.Entry.Rows, f.Entry.Reason, f.Path)
	}
	return writeSum(w, "in quarantine", len(files), bytes)
}

// writeSum is the last line of what was done with batches.
func writeSum(w io.Writer, what string, batches int, bytes int64) error {
	noun := "batches"
	if batches == 1 {
		noun = "batch"
	}
	_, err := fmt.Fprintf(w, "%d %s %s, %d bytes\n", batches, noun, what, bytes)
	return err
}

func writeFilesJSON(w io.Writer, files []replay.File) error {
	encoder := json.NewEncoder(w)
	for _, f := range files {
		line := map[string]any{"file": f.Path, "bytes": f.Bytes, "reason": f.Reason(), "received_at": f.Entry.ReceivedAt}
		if f.Err == nil {
			line["table"], line["node"], line["epoch"], line["seq"], line["rows"], line["collector"] = f.Entry.Table, f.Node(), f.Entry.Epoch, f.Entry.Sequence, f.Entry.Rows, f.Entry.Collector
		}
		if err := encoder.Encode(line); err != nil {
			return fmt.Errorf("list quarantine: %w", err)
		}
	}
	return nil
}

func newQuarantineShow() *cobra.Command {
	var kept keptFlags
	c := &cobra.Command{
		Use:   "show [FILE|DIRECTORY...]",
		Short: "Say all that is known of quarantined batches: the reason, the agent, and what is bad in them",
		Long: "show also reads each batch as a collector of this version would, and names the column or the row that it\n" +
			"would not take. Rows are counted from 0. What ClickHouse refused is known by its own words alone.",
		Example: "  gpufleet quarantine show --node gpu-17\n  gpufleet quarantine show " + quarantineDir + "/gpu_samples-00000000000000ff-1790000000000-7.gfq",
		RunE: func(c *cobra.Command, args []string) error {
			files, err := kept.files(args)
			if err != nil {
				return err
			}
			return writeProse(c, func(w io.Writer) error {
				for i, f := range files {
					if i > 0 {
						fmt.Fprintln(w)
					}
					showFile(w, f)
				}
				if len(files) == 0 {
					_, err := fmt.Fprintln(w, "no batch in quarantine is meant")
					return err
				}
				return nil
			})
		},
	}
	kept.add(c)
	return c
}

func showFile(w io.Writer, f replay.File) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-10s  %s\n", name, fmt.Sprintf(format, args...))
	}
	line("file", "%s, %d bytes", f.Path, f.Bytes)
	line("reason", "%s", f.Reason())
	line("came", "%s", f.Entry.ReceivedAt.UTC().Format(time.RFC3339))
	if f.Err != nil {
		return
	}
	e := f.Entry
	line("collector", "%s", e.Collector)
	line("node", "%s (%016x)", f.Node(), e.Node)
	line("batch", "%d of %s, of the agent's life from %s (%d)", e.Sequence, e.Table, time.UnixMilli(int64(e.Epoch)).UTC().Format(time.RFC3339), e.Epoch)
	contents := replay.Examine(f)
	line("holds", "%d rows, %d bytes", e.Rows, contents.Bytes)
	if contents.Rows > 0 {
		line("columns", "%d have values", contents.Columns)
		line("times", "%s in row %d to %s in row %d", contents.Oldest.UTC().Format(time.RFC3339Nano), contents.OldestRow, contents.Newest.UTC().Format(time.RFC3339Nano), contents.NewestRow)
	}
	if contents.Bad != nil {
		line("bad", "%s", strings.ReplaceAll(contents.Bad.Error(), "\n", "; "))
	} else {
		line("bad", "nothing that this version sees: what stood in the way may be gone, try gpufleet quarantine replay")
	}
}

func newQuarantinePurge() *cobra.Command {
	var kept keptFlags
	var all, dryRun bool
	c := &cobra.Command{
		Use:   "purge [FILE|DIRECTORY...]",
		Short: "Delete quarantined batches for ever, by reason, age, node or table",
		Long: "purge deletes the files of the batches that its flags mean, and lists them. Their readings are lost then; the\n" +
			"ledger goes on to say that they were quarantined, and why. It wants at least one of --reason, --older-than,\n" +
			"--node and --table, or --all.",
		Example: "  gpufleet quarantine purge --older-than 720h --dry-run\n  gpufleet quarantine purge --reason 'too old' " + quarantineDir,
		RunE: func(c *cobra.Command, args []string) error {
			if kept.filter == (replay.Filter{}) != all {
				return errors.New("say what is deleted: --reason, --older-than, --node or --table, or --all and none of these")
			}
			files, err := kept.files(args)
			if err != nil {
				return err
			}
			return purge(c.OutOrStdout(), files, dryRun)
		},
	}
	kept.add(c)
	c.Flags().BoolVar(&all, "all", false, "delete all of them")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be deleted, and delete nothing")
	return c
}

func purge(w io.Writer, files []replay.File, dryRun bool) error {
	what, deleted, err := "would be deleted", files, error(nil)
	if !dryRun {
		what = "deleted"
		deleted, err = replay.Purge(files)
	}
	var bytes int64
	for _, f := range deleted {
		bytes += f.Bytes
		fmt.Fprintf(w, "%s  %s: %s\n", what, f.Path, f.Reason())
	}
	return errors.Join(err, writeSum(w, what, len(deleted), bytes))
}
