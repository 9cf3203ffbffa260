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

	"github.com/gpufleet/gpufleet/internal/audit"
	"github.com/gpufleet/gpufleet/internal/clickhouseclient"
	"github.com/gpufleet/gpufleet/internal/query"
)

func newAudit() *cobra.Command {
	var place placeFlags
	var asJSON bool
	var by string
	var opts audit.Options
	since, until := ago(audit.DefaultPeriod), moment{}
	c := &cobra.Command{
		Use:   "audit",
		Short: "Prove that every batch is stored once: what was lost, what was stored twice",
		Long: "audit holds the collectors' ledger against the rows in the tables, for each agent: batches sent, stored,\n" +
			"quarantined, lost and duplicated, and the gaps in their numbers. What was recorded within the last minute is\n" +
			"left out, as more may be on its way. It ends with 3 if anything was lost or duplicated, and with 4 if there\n" +
			"was nothing to audit: then nothing is proved. In JSON \"verdict\" is \"clean\", \"found\" or \"nothing\";\n" +
			"\"agents\", \"batches\", \"since\" and \"until\" say what was looked at, \"on_their_way\" what was left out.\n\n" +
			"With --by it answers from the ledger alone, within seconds also for a day of 100,000 GPUs: which hours, or\n" +
			"which nodes, have gaps, and what two collectors both stored. It counts whole hours, and no rows.\n\n" +
			"Of a cluster all shards are audited, and all must answer.",
		Example: "  gpufleet audit --since 168h\n  gpufleet audit --by hour\n  gpufleet audit --by node --since '2026-03-01 12:00' --until '2026-03-01 18:00'\n" +
			"  gpufleet audit --node gpu-17 --all\n  gpufleet audit --json | jq .lost",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			now := time.Now()
			opts.Since, opts.Until = since.time(now), until.time(now)
			if end := cmp.Or(opts.Until, now); !opts.Since.Before(end) {
				return fmt.Errorf("--since %s is not before --until %s", &since, cmp.Or(until.String(), "now"))
			}
			if by != "" && by != string(audit.ByHour) && by != string(audit.ByNode) {
				return fmt.Errorf("--by %s: hour or node", by)
			}
			found, verdict, err := runAudit(c.Context(), place.found(), opts, audit.By(by))
			if err != nil {
				return err
			}
			if err := writeReport(c, found, asJSON); err != nil {
				return err
			}
			switch verdict {
			case audit.Found:
				return errFound
			case audit.Nothing:
				return errNothing
			default:
				return nil
			}
		},
	}
	f := c.Flags()
	f.Var(&since, "since", "audit what was recorded from then on: how long ago, or a time in UTC")
	f.Var(&until, "until", "and up to then; without it up to now")
	f.StringVar(&by, "by", "", "count by hour or by node, from the ledger alone")
	f.StringSliceVar(&opts.Nodes, "node", nil, "audit this node alone, by name or by the id of 16 digits that is shown for it; may be repeated")
	f.BoolVar(&asJSON, "json", false, "print one line of JSON")
	f.BoolVar(&opts.All, "all", false, "list the agents without findings, too")
	place.add(c)
	place.addShards(c)
	return c
}

func runAudit(ctx context.Context, place clickhouseclient.Place, opts audit.Options, by audit.By) (found report, verdict audit.Verdict, err error) {
	conn, err := place.Connect(ctx)
	if err != nil {
		return nil, "", err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if opts.Shards, err = conn.Shards(ctx); err != nil {
		return nil, "", query.Explain(err, "")
	}
	if conn.Running {
		opts.Settle = audit.DefaultSettle
	}
	if by == "" {
		r, err := audit.Run(ctx, conn, opts)
		return r, r.Verdict, query.Explain(conn.Endpoint.Explain(err), "")
	}
	t, err := audit.Count(ctx, conn, opts, by)
	return t, t.Verdict, query.Explain(conn.Endpoint.Explain(err), "")
}

// report is what a checking command found.
type report interface {
	WriteJSON(w io.Writer) error
	WriteText(w io.Writer) error
}

func writeReport(c *cobra.Command, r report, asJSON bool) error {
	if asJSON {
		return r.WriteJSON(c.OutOrStdout())
	}
	return writeProse(c, r.WriteText)
}
