// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gpufleet/gpufleet/internal/clickhouseclient"
	"github.com/gpufleet/gpufleet/internal/prices"
	"github.com/gpufleet/gpufleet/internal/query"
)

func newPrices() *cobra.Command {
	c := &cobra.Command{
		Use:   "prices",
		Short: "Import what machines cost, and see what was believed and what was not",
		Long: "prices reads what providers ask for their machines. Each price is checked first: feeds are wrong often, and\n" +
			"a wrong price makes every figure of cost wrong. What fails is in quarantine with its reasons, and is never used.\n" +
			"Prices are never overwritten: each holds from a time on, so that the past keeps its own.",
		Example: "  gpufleet prices import --known\n  gpufleet prices fetch azure\n  gpufleet prices list --provider azure\n  gpufleet prices quarantine",
	}
	c.AddCommand(newPricesImport(), newPricesFetch(), newPricesFeeds(), newPricesList(), newPricesQuarantine())
	return c
}

// priceImport is what the flags of an import say.
type priceImport struct {
	place    placeFlags
	defaults prices.Defaults
	format   string
	basis    string
	asOf     string
	known    bool
	dryRun   bool
}

func newPricesImport() *cobra.Command {
	var o priceImport
	c := &cobra.Command{
		Use:   "import [FILE...]",
		Short: "Read price files, check them, and store what is new",
		Long: "import reads files: CSV with a header (instance_type and price_per_hour, and any of provider, region, zone_id,\n" +
			"life_cycle, basis, currency, gpus, gpu, valid_from, valid_to), a rate card of own machines, or what AWS, Azure,\n" +
			"Google and Oracle answer. To import a file twice is to import it once. It ends with 4 if no price was usable.",
		Example: "  gpufleet prices import --known\n" +
			"  curl -O https://pricing.us-east-1.amazonaws.com/offers/v1.0/aws/AmazonEC2/current/us-east-1/index.json\n" +
			"  gpufleet prices import index.json --format aws\n" +
			"  gpufleet prices import azure-eastus.json --format azure\n" +
			"  gpufleet prices import oci.json --format oci --as-of 2024-01-15\n" +
			"  gpufleet prices import gcp-skus.json --format gcp\n" +
			"  gpufleet prices import racks.yaml --format rate-card\n" +
			"  gpufleet prices import feed.csv --column Price=price_per_hour --column InstanceType=instance_type --dry-run",
		RunE: func(c *cobra.Command, args []string) error { return o.run(c.Context(), c.OutOrStdout(), args) },
	}
	f := c.Flags()
	f.StringVar(&o.format, "format", "csv", prices.Formats())
	f.StringVar(&o.asOf, "as-of", "", "when the prices were asked for, such as 2026-11-01; empty: now. Prices without a date hold from then on")
	f.StringVar(&o.defaults.Provider, "provider", "", "of rows of CSV that name none: aws, azure, gcp, oci, …")
	f.StringVar(&o.defaults.Region, "region", "", "of rows of CSV that name none; empty: every region")
	f.StringVar(&o.defaults.LifeCycle, "life-cycle", prices.OnDemand, "of rows of CSV that name none: on_demand, spot, reserved, capacity_block, owned")
	f.StringVar(&o.basis, "basis", string(prices.List), "of rows of CSV that name none: list, contracted, effective, billed")
	f.StringVar(&o.defaults.Currency, "currency", "USD", "of rows of CSV that name none")
	f.StringToStringVar(&o.defaults.Columns, "column", nil, "what a column of CSV is here, such as Price=price_per_hour")
	f.BoolVar(&o.known, "known", false, "import the public list prices that come with this program (AWS, Azure, Oracle), each as of its day")
	f.BoolVar(&o.dryRun, "dry-run", false, "check, and store nothing")
	o.place.add(c)
	return c
}

// run reads and checks everything before anything is stored.
func (o *priceImport) run(ctx context.Context, w io.Writer, files []string) (err error) {
	lists, err := o.lists(files)
	if err != nil {
		return err
	}
	format := o.format
	if o.known {
		format = "csv"
	}
	var conn *clickhouseclient.Connection
	if !o.dryRun {
		place := o.place.found()
		place.Write = true
		if conn, err = place.Connect(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, conn.Close()) }()
	}
	usable := 0
	for _, l := range lists {
		r := prices.Check(l.Quotes, l.ReadAt)
		usable += len(r.Prices)
		text := "not stored: a dry run"
		if conn != nil {
			stored, err := prices.Store(ctx, conn, r, l.ReadAt)
			if err != nil {
				return query.Explain(conn.Endpoint.Explain(err), "")
			}
			text = fmt.Sprintf("%d new, %d known", stored.Prices, stored.Unchanged)
			reading := prices.Reading{At: l.ReadAt, Source: l.Name, Format: format, Outcome: prices.WasRead, Prices: len(r.Prices), Quarantined: len(r.Quarantined)}
			if err := prices.Record(ctx, conn, reading); err != nil {
				return query.Explain(conn.Endpoint.Explain(err), "")
			}
		}
		if err := writeImported(w, l.Name, r, text); err != nil {
			return err
		}
	}
	if usable == 0 {
		return errNothing
	}
	return nil
}

// lists are what is to be imported: the files, or what comes with the program.
func (o *priceImport) lists(files []string) ([]prices.Sheet, error) {
	switch {
	case o.known && len(files) > 0:
		return nil, errors.New("--known and files: give one or the other")
	case o.known:
		return prices.Known()
	case len(files) == 0:
		return nil, errors.New("give a file of prices, or --known for those that come with the program")
	}
	readAt, err := o.readAt()
	if err != nil {
		return nil, err
	}
	lists := make([]prices.Sheet, len(files))
	for i, name := range files {
		lists[i].Name, lists[i].ReadAt = filepath.Base(name), readAt
		if lists[i].Quotes, err = o.read(name); err != nil {
			return nil, err
		}
	}
	return lists, nil
}

func (o *priceImport) readAt() (time.Time, error) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	if o.asOf == "" {
		return now, nil
	}
	at, ok := prices.ParseTime(o.asOf)
	switch {
	case !ok:
		return at, fmt.Errorf("--as-of %q: want a day such as 2026-11-01, or a time such as 2026-11-01T12:00:00Z", o.asOf)
	case at.After(now):
		return at, fmt.Errorf("--as-of %s has not come yet", o.asOf)
	}
	return at, nil
}

func (o *priceImport) read(name string) ([]prices.Quote, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read prices: %w", err)
	}
	defer file.Close() //nolint:errcheck // it was read
	o.defaults.Basis = prices.Basis(o.basis)
	return prices.Read(o.format, file, filepath.Base(name), o.defaults)
}

// examplesOfReason is how many prices in quarantine are shown of each reason: a feed may have thousands.
const examplesOfReason = 3

func writeImported(w io.Writer, name string, r prices.Result, stored string) error {
	var text strings.Builder
	fmt.Fprintf(&text, "%s: %d prices usable (%s), %d in quarantine, %d twice in the file\n", name, len(r.Prices), stored, len(r.Quarantined), r.Duplicates)
	byReason := make(map[prices.Reason][]prices.Quarantined)
	for _, q := range r.Quarantined {
		byReason[q.Reasons[0].Reason] = append(byReason[q.Reasons[0].Reason], q)
	}
	reasons := slices.SortedFunc(maps.Keys(byReason), func(a, b prices.Reason) int {
		return cmp.Or(cmp.Compare(len(byReason[b]), len(byReason[a])), strings.Compare(string(a), string(b)))
	})
	for _, reason := range reasons {
		group := byReason[reason]
		fmt.Fprintf(&text, "  %6d  %s\n", len(group), reason)
		for _, q := range group[:min(len(group), examplesOfReason)] {
			fmt.Fprintf(&text, "          %s: %s\n", q.Quote, q.Detail())
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// priceFilter narrows what is listed.
type priceFilter struct {
	place                      placeFlags
	provider, instance, format string
	limit                      int
}

func (p *priceFilter) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&p.provider, "provider", "", "of this provider alone")
	f.StringVar(&p.instance, "instance", "", "of this type of machine alone")
	f.StringVar(&p.format, "format", defaultFormat(), "any output format of ClickHouse")
	f.IntVar(&p.limit, "limit", 1000, "most rows")
	p.place.add(c)
}

// run asks for what the filter leaves, and writes it.
func (p *priceFilter) run(c *cobra.Command, columns, from, where, order string) (err error) {
	conditions := []string{where}
	for column, value := range map[string]string{"provider": p.provider, "instance_type": p.instance} {
		if value != "" {
			conditions = append(conditions, fmt.Sprintf("lower(%s) = lower('%s')", column, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value)))
		}
	}
	slices.Sort(conditions[1:])
	sql := fmt.Sprintf("SELECT %s FROM %s WHERE %s ORDER BY %s LIMIT %d", columns, from, strings.Join(conditions, " AND "), order, p.limit)
	conn, err := p.place.connect(c.Context())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	return conn.Endpoint.Explain(query.Run(c.Context(), conn, sql, p.format, c.OutOrStdout()))
}

func newPricesList() *cobra.Command {
	var filter priceFilter
	var all bool
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the prices that hold now, the cheapest GPU-hour first",
		Long:    "list shows the prices that hold now; with --all those of the past and of the future, too. The same is in fleet_prices.",
		Example: "  gpufleet prices list --provider aws\n  gpufleet prices list --instance p5.48xlarge --all --format CSVWithNames",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			where := "valid_from <= now64(3) AND (valid_to IS NULL OR valid_to > now64(3))"
			if all {
				where = "true"
			}
			return filter.run(c, "price_per_gpu_hour, currency, basis, gpu_model, provider, instance_type, region, zone_id, life_cycle, gpus, price_per_hour, valid_from, valid_to, source",
				"fleet_prices", where, "currency, price_per_gpu_hour, provider, instance_type, region, zone_id, valid_from")
		},
	}
	c.Flags().BoolVar(&all, "all", false, "also prices that no longer hold, or not yet")
	filter.add(c)
	return c
}

func newPricesQuarantine() *cobra.Command {
	var filter priceFilter
	c := &cobra.Command{
		Use:     "quarantine",
		Short:   "List the prices that were not believed, the newest first, and why",
		Long:    "quarantine shows prices that are never used, with what speaks against each. The same is in price_quarantine.",
		Example: "  gpufleet prices quarantine --provider gcp",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return filter.run(c, "read_at, provider, instance_type, region, zone_id, life_cycle, price_per_hour, currency, reasons, detail, source, source_line",
				"price_quarantine", "true", "read_at DESC, provider, instance_type, region, zone_id")
		},
	}
	filter.add(c)
	return c
}
