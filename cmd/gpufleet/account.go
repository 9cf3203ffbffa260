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

	"github.com/gpufleet/gpufleet/internal/account"
	"github.com/gpufleet/gpufleet/internal/clickhouseclient"
)

func newAccount() *cobra.Command {
	c := &cobra.Command{
		Use:   "account",
		Short: "What the time of every GPU was spent on, and what it cost: show, prove, or make it again",
		Long: "account is about account_hours: every GPU-millisecond of the inventory in one of six states, with one price. It is\n" +
			"made of the rollups, hour by hour, by a collector or by `account rebuild`. Of a cluster each shard has its own.",
		Example: "  gpufleet account show --by team --since 168h\n  gpufleet account check\n  gpufleet account rebuild --since 2026-11-01 --until 2026-11-02",
	}
	c.AddCommand(newAccountShow(), newAccountCheck(), newAccountRebuild())
	return c
}

// accountFlags are the time that a command is about, and the ClickHouse.
type accountFlags struct {
	place        placeFlags
	since, until moment
	asJSON       bool
}

func (a *accountFlags) add(c *cobra.Command, shards bool) {
	f := c.Flags()
	f.Var(&a.since, "since", "beginning of the time: 2026-11-01T00:00:00Z, 2026-11-01 (UTC), or 6h for so long ago; empty: 24 hours before the end")
	f.Var(&a.until, "until", "end of it, in the same words; empty: the last full hour that is rolled up")
	f.BoolVar(&a.asJSON, "json", false, "print one line of JSON")
	a.place.add(c)
	if shards {
		a.place.addShards(c)
	}
}

func (a *accountFlags) times() account.Range {
	now := time.Now()
	return account.Range{From: a.since.time(now), To: a.until.time(now)}
}

// connected does something with a connection. The limits of a reader are for panels, so that it is a writer's.
func (a *accountFlags) connected(ctx context.Context, do func(*clickhouseclient.Connection) error) (err error) {
	at := a.place.found()
	at.Write = true
	conn, err := at.Connect(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	return do(conn)
}

// accountOf is how the account of a database, or of a shard's, is made. Prices are those of the whole cluster.
func accountOf(conn *clickhouseclient.Connection, database string) account.Config {
	cfg := account.DefaultConfig()
	cfg.Database, cfg.Prices, cfg.By = database, conn.Endpoint.Database, "gpufleet account"
	return cfg
}

type textOrJSON interface {
	WriteJSON(w io.Writer) error
	WriteText(w io.Writer) error
}

func (a *accountFlags) write(c *cobra.Command, what textOrJSON) error {
	if a.asJSON {
		return what.WriteJSON(c.OutOrStdout())
	}
	return what.WriteText(c.OutOrStdout())
}

func newAccountShow() *cobra.Command {
	var a accountFlags
	var by string
	c := &cobra.Command{
		Use:   "show",
		Short: "Add up what the GPUs cost, and what for",
		Long: "show adds up the account of a time by one column, the dearest first: what was paid, and how much of it a kernel\n" +
			"ran for, was idle, unhealthy, unallocated or undelivered. --json has all digits. In SQL: fleet_account,\n" +
			"fleet_waterfall, fleet_capacity and fleet_cost_by_….",
		Example: "  gpufleet account show --by team\n  gpufleet account show --by provider --since 2026-11-01 --until 2026-12-01 --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var shown account.Shown
			err := a.connected(c.Context(), func(conn *clickhouseclient.Connection) (err error) {
				shown, err = account.Show(c.Context(), conn, accountOf(conn, conn.Endpoint.Database), a.times(), by)
				return conn.Endpoint.Explain(err)
			})
			if err != nil {
				return err
			}
			if err := a.write(c, shown); err != nil {
				return err
			}
			if len(shown.Groups) == 0 {
				return errNothing
			}
			return nil
		},
	}
	a.add(c, false)
	c.Flags().StringVar(&by, "by", "provider", "provider, region, node, team, model, deployment, gpu")
	return c
}

func newAccountCheck() *cobra.Command {
	var a accountFlags
	c := &cobra.Command{
		Use:   "check",
		Short: "Make the account of a time again, compare it to the last millisecond, and prove that it adds up",
		Long: "check makes each hour of the account again out of rollups, inventory, owners, faults and prices, and compares every\n" +
			"row with what is stored. And it adds up what is stored: by provider, region, node, team, model and deployment the\n" +
			"states must be the inventory, and their amounts its price, without a rest. It writes nothing, and ends with 3 if\n" +
			"something differs, with 4 if there was nothing to compare.",
		Example: "  gpufleet account check\n  gpufleet account check --since 2026-11-01 --until 2026-11-02 --json | jq .identity",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var reports []account.Report
			err := a.connected(c.Context(), func(conn *clickhouseclient.Connection) error {
				return onEachShard(c.Context(), conn, func(db driver.Conn, database string) error {
					r, err := account.Check(c.Context(), db, accountOf(conn, database), a.times())
					reports = append(reports, r)
					return err
				})
			})
			if err != nil {
				return err
			}
			report := account.Join(reports)
			if err := a.write(c, report); err != nil {
				return err
			}
			switch report.Verdict {
			case account.Wrong:
				return errFound
			case account.Nothing:
				return errNothing
			default:
				return nil
			}
		},
	}
	a.add(c, true)
	return c
}

func newAccountRebuild() *cobra.Command {
	var a accountFlags
	c := &cobra.Command{
		Use:   "rebuild",
		Short: "Make the account of a time again",
		Long: "rebuild makes whole hours of the account again out of what is known now. What an hour said before stays in\n" +
			"account_hours, under its version; one that comes to the same keeps its version. It may be ended and begun again,\n" +
			"and run while collectors work. An hour whose rollups are not complete is left for later.",
		Example: "  gpufleet account rebuild --since 2026-11-01 --until 2026-11-02",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var sum account.Done
			err := a.connected(c.Context(), func(conn *clickhouseclient.Connection) error {
				return onEachShard(c.Context(), conn, func(db driver.Conn, database string) error {
					d, err := account.Rebuild(c.Context(), db, accountOf(conn, database), a.times())
					d.Looked, d.Changed, d.Waiting = sum.Looked+d.Looked, sum.Changed+d.Changed, max(sum.Waiting, d.Waiting)
					sum = d
					return err
				})
			})
			if err != nil {
				return err
			}
			if a.asJSON {
				return writeDone(c.OutOrStdout(), sum)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "From %s to %s: %d hours made, %d of them say something new, %d wait for their rollups.\n",
				sum.From.Format(time.RFC3339), sum.To.Format(time.RFC3339), sum.Looked, sum.Changed, sum.Waiting)
			return err
		},
	}
	a.add(c, true)
	return c
}

func writeDone(w io.Writer, d account.Done) error {
	_, err := fmt.Fprintf(w, "{\"from\":%q,\"to\":%q,\"hours\":%d,\"changed\":%d,\"waiting\":%d}\n", d.From.Format(time.RFC3339), d.To.Format(time.RFC3339), d.Looked, d.Changed, d.Waiting)
	return err
}
