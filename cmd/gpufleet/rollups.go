// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/spf13/cobra"

	"github.com/gpufleet/gpufleet/internal/clickhouseclient"
	"github.com/gpufleet/gpufleet/internal/query"
	"github.com/gpufleet/gpufleet/internal/rollups"
	"github.com/gpufleet/gpufleet/schema"
)

func newRollups() *cobra.Command {
	c := &cobra.Command{
		Use:   "rollups",
		Short: "Compare the rollups by minute and hour with the samples, or make them anew",
		Long: "rollups is about gpu_samples_1m and gpu_samples_1h, which a collector makes of gpu_samples. Which hours are\n" +
			"complete is in the view rollup_status. Of a cluster each shard has its own, and is asked in its turn.",
		Example: "  gpufleet rollups check\n  gpufleet rollups rebuild --since 2026-11-01T00:00:00Z --until 2026-11-02T00:00:00Z",
	}
	c.AddCommand(newRollupsCheck(), newRollupsRebuild())
	return c
}

// rangeFlags are the flags by which a command is told the time that it is about.
type rangeFlags struct {
	place        placeFlags
	since, until moment
}

func (r *rangeFlags) add(c *cobra.Command, since, until string) {
	f := c.Flags()
	f.Var(&r.since, "since", "beginning of the time: 2026-11-01T00:00:00Z, 2026-11-01 (UTC), or 6h for so long ago"+since)
	f.Var(&r.until, "until", "end of it, in the same words"+until)
	r.place.add(c)
	r.place.addShards(c)
}

// read is what the flags mean; progress is told of each hour that is done.
func (r *rangeFlags) read(progress func(done, all int)) rollups.Range {
	now := time.Now()
	return rollups.Range{From: r.since.time(now), To: r.until.time(now), Limits: rollups.DefaultLimits(), Progress: progress}
}

// progressEvery is how often long work tells how far it is.
const progressEvery = 5 * time.Second

// tellProgress writes a line now and then.
func tellProgress(w io.Writer) func(done, all int) {
	next := time.Now().Add(progressEvery)
	return func(done, all int) {
		if now := time.Now(); now.After(next) && done < all {
			next = now.Add(progressEvery)
			fmt.Fprintf(w, "%d of %d hours\n", done, all)
		}
	}
}

func newRollupsCheck() *cobra.Command {
	var r rangeFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "check",
		Short: "Make every row of a time anew out of the samples, and compare it to the last digit",
		Long: "check makes the rows of gpu_samples_1m and gpu_samples_1h anew out of gpu_samples, and compares every column:\n" +
			"sums, counts, bits and extremes exactly, sketches by the quantiles that they give. It writes nothing, and ends\n" +
			"with 3 if a row differs or the rollups have stopped before the end of the time, with 4 if there was none to compare,\n" +
			"also on one shard alone that has samples. Samples that came late are rolled up within ten\n" +
			"minutes; until then their rows differ, and are counted as behind. It takes about 3 s of CPU for a million samples.",
		Example: "  gpufleet rollups check                       # the last 24 hours that are over\n" +
			"  gpufleet rollups check --since 48h --until 24h --json | jq .verdict",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			span := r.read(tellProgress(c.ErrOrStderr()))
			report, err := runRollupsCheck(c.Context(), r.place, span)
			if err != nil {
				return err
			}
			if err := writeReport(c, report, asJSON); err != nil {
				return err
			}
			switch report.Verdict {
			case rollups.Wrong, rollups.Behind:
				return errFound
			case rollups.Nothing:
				return errNothing
			default:
				return nil
			}
		},
	}
	r.add(c, "; empty: 24 hours before the end", "; empty: the last full hour that is rolled up")
	c.Flags().BoolVar(&asJSON, "json", false, "print one line of JSON")
	return c
}

func runRollupsCheck(ctx context.Context, place placeFlags, span rollups.Range) (report rollups.Report, err error) {
	at := place.found()
	at.Write = true // the reader's limits are for panels
	conn, err := at.Connect(ctx)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	var reports []rollups.Report
	err = onEachShard(ctx, conn, func(db driver.Conn, database string) error {
		r, err := rollups.Check(ctx, db, database, span)
		reports = append(reports, r)
		return err
	})
	return rollups.Join(reports), err
}

// onEachShard does what is to be done with rollups in the databases that have them: that of the server, or of each shard of
// a cluster, one after the other.
func onEachShard(ctx context.Context, conn *clickhouseclient.Connection, do func(db driver.Conn, database string) error) error {
	shards, err := conn.Shards(ctx)
	if err != nil {
		return query.Explain(err, "")
	}
	if len(shards) == 0 {
		return query.Explain(conn.Endpoint.Explain(do(conn, conn.Endpoint.Database)), "")
	}
	for i, db := range shards {
		if err := do(db, schema.LocalDatabase(conn.Endpoint.Database)); err != nil {
			return fmt.Errorf("shard %d: %w", i+1, query.Explain(conn.Endpoint.Explain(err), ""))
		}
	}
	return nil
}

func newRollupsRebuild() *cobra.Command {
	var r rangeFlags
	c := &cobra.Command{
		Use:   "rebuild",
		Short: "Make the rollups of a time anew, whatever they say",
		Long: "rebuild makes whole hours of gpu_samples_1m and gpu_samples_1h anew out of gpu_samples: after samples were\n" +
			"taken away, or after a program was wrong. Readers see each old row until its new one is there. It may be ended\n" +
			"and begun again, and run while collectors work. Hours of which samples may have gone by age are refused.",
		Example: "  gpufleet rollups rebuild --since 2026-11-01T00:00:00Z --until 2026-11-02T00:00:00Z\n" +
			"  gpufleet rollups rebuild --since 6h --until now && gpufleet rollups check --since 6h",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			span := r.read(tellProgress(c.ErrOrStderr()))
			done, err := runRollupsRebuild(c.Context(), r.place, span)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "Rebuilt from %s to %s out of %d samples.\n", done.From.Format(time.RFC3339), done.To.Format(time.RFC3339), done.Samples)
			return err
		},
	}
	r.add(c, "", "; the last hour is rebuilt as a whole")
	return c
}

func runRollupsRebuild(ctx context.Context, place placeFlags, span rollups.Range) (done rollups.Rebuilt, err error) {
	at := place.found()
	at.Write = true
	conn, err := at.Connect(ctx)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	todo, nothing := map[driver.Conn]bool{}, error(nil)
	err = onEachShard(ctx, conn, func(db driver.Conn, database string) error { // all must do, before one is begun
		err := rollups.CanRebuild(ctx, db, database, span)
		if errors.Is(err, rollups.ErrNothingToRebuild) {
			nothing = err
			return nil
		}
		todo[db] = true
		return err
	})
	if err == nil && len(todo) == 0 {
		err = nothing
	}
	if err != nil {
		return done, err
	}
	return done, onEachShard(ctx, conn, func(db driver.Conn, database string) error {
		if !todo[db] {
			return nil
		}
		part, err := rollups.Rebuild(ctx, db, database, span, nil)
		done.Add(part)
		return err
	})
}
