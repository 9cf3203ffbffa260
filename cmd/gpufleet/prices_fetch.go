// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/spf13/cobra"

	"github.com/gpufleet/gpufleet/internal/clickhouseclient"
	"github.com/gpufleet/gpufleet/internal/prices"
	"github.com/gpufleet/gpufleet/internal/query"
)

// gcpKeyEnv holds the key that Google's catalogue wants.
const gcpKeyEnv = "GPUFLEET_GCP_API_KEY"

// priceFetch is what the flags of a fetch say.
type priceFetch struct {
	place    placeFlags
	regions  []string
	base     string
	urls     []string
	format   string
	defaults prices.Defaults
	basis    string
	timeout  time.Duration
	idle     time.Duration
	dryRun   bool
}

func newPricesFetch() *cobra.Command {
	var o priceFetch
	c := &cobra.Command{
		Use:   "fetch [PROVIDER...]",
		Short: "Ask providers for their prices, check them, and store what is new",
		Long: "fetch asks aws, azure, gcp or oci over HTTP, or any address with --url, and does with the answer what import does\n" +
			"with a file. A feed that says it has not changed is not read again. One that cannot be read leaves the prices of\n" +
			"before in use, and it is told how old they are; the others are read all the same. It ends with 1 if any could not.\n" +
			"Google wants an API key, in " + gcpKeyEnv + ". Spot prices of AWS need an account: import what its tool prints.",
		Example: "  gpufleet prices fetch aws --region us-east-1,eu-central-1\n" +
			"  gpufleet prices fetch azure oci\n" +
			"  GPUFLEET_GCP_API_KEY=… gpufleet prices fetch gcp --dry-run\n" +
			"  gpufleet prices fetch --url https://intranet.example/gpu-prices.csv --provider coreweave --basis contracted",
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c.Context(), c.OutOrStdout(), c.ErrOrStderr(), args)
		},
	}
	f := c.Flags()
	f.StringSliceVar(&o.regions, "region", nil, "regions to ask for: must be given for aws, narrows azure")
	f.StringVar(&o.base, "base", "", "ask this address in place of the provider's own, such as that of a mirror")
	f.StringArrayVar(&o.urls, "url", nil, "ask this address, too, for prices of --format")
	f.StringVar(&o.format, "format", "csv", "of --url: "+prices.Formats())
	f.StringVar(&o.defaults.Provider, "provider", "", "of rows of CSV that name none")
	f.StringVar(&o.defaults.LifeCycle, "life-cycle", prices.OnDemand, "of rows of CSV that name none")
	f.StringVar(&o.basis, "basis", string(prices.List), "of rows of CSV that name none")
	f.StringVar(&o.defaults.Currency, "currency", "USD", "of rows of CSV that name none")
	f.StringToStringVar(&o.defaults.Columns, "column", nil, "what a column of CSV is here, such as Price=price_per_hour")
	f.DurationVar(&o.timeout, "timeout", 30*time.Minute, "give up a feed after this time")
	f.DurationVar(&o.idle, "idle-timeout", prices.DefaultFetchConfig().IdleTimeout, "give up an answer that does not go on for this time")
	f.BoolVar(&o.dryRun, "dry-run", false, "check, and store nothing")
	o.place.add(c)
	return c
}

func (o *priceFetch) feeds(providers []string) ([]prices.Feed, error) {
	if len(providers) == 0 && len(o.urls) == 0 {
		return nil, errors.New("say whom to ask: aws, azure, gcp or oci, or an address with --url")
	}
	o.defaults.Basis = prices.Basis(o.basis)
	var feeds []prices.Feed
	for _, provider := range providers {
		of, err := prices.FeedsOf(provider, o.base, os.Getenv(gcpKeyEnv), o.regions)
		if err != nil {
			return nil, err
		}
		feeds = append(feeds, of...)
	}
	for _, address := range o.urls {
		feeds = append(feeds, prices.Feed{Format: o.format, URL: address, Defaults: o.defaults})
	}
	return feeds, nil
}

func (o *priceFetch) run(ctx context.Context, w, progress io.Writer, providers []string) (err error) {
	feeds, err := o.feeds(providers)
	if err != nil {
		return err
	}
	cfg := prices.DefaultFetchConfig()
	cfg.IdleTimeout = o.idle
	fetcher, err := prices.NewFetcher(cfg)
	if err != nil {
		return err
	}
	defer fetcher.Close()
	var conn *clickhouseclient.Connection
	if !o.dryRun {
		place := o.place.found()
		place.Write = true
		if conn, err = place.Connect(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, conn.Close()) }()
	}
	job := fetchJob{fetcher: fetcher, timeout: o.timeout, out: w, progress: progress}
	if conn != nil {
		job.conn = conn
	}
	for _, feed := range feeds {
		if err := job.one(ctx, feed); err != nil && conn != nil {
			return query.Explain(conn.Endpoint.Explain(err), "")
		} else if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if job.failed > 0 {
		return fmt.Errorf("%d of %d feeds could not be read: their prices of before stay in use", job.failed, len(feeds))
	}
	return nil
}

// fetchJob asks feeds, one after the other.
type fetchJob struct {
	fetcher       *prices.Fetcher
	conn          driver.Conn // nil: nothing is stored
	timeout       time.Duration
	out, progress io.Writer
	failed        int
}

// one asks a feed. An error is of the store, and ends the job: that of a feed is told and noted.
func (j *fetchJob) one(ctx context.Context, feed prices.Feed) error {
	now := time.Now().UTC().Truncate(time.Millisecond)
	reading := prices.Reading{At: now, Source: prices.Redacted(feed.URL), Format: feed.Format}
	last, known := prices.Reading{}, false
	if j.conn != nil {
		var err error
		if last, known, err = prices.LastReading(ctx, j.conn, reading.Source); err != nil {
			return err
		}
	}
	asking, cancel := context.WithTimeout(ctx, j.timeout)
	defer cancel()
	got, err := j.fetcher.Fetch(asking, feed, last.Validators, func(bytes int64, pages int) {
		fmt.Fprintf(j.progress, "%s: %d MB, %d pages\n", reading.Source, bytes>>20, pages)
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		j.failed++
		reading.Outcome, reading.Detail = prices.Failed, err.Error()
		fmt.Fprintf(j.out, "%s: %v\n  %s\n", reading.Source, err, agedPrices(last, known, now))
		return j.note(ctx, reading)
	case got.NotModified:
		reading.Outcome, reading.Validators = prices.NotModified, got.Validators
		fmt.Fprintf(j.out, "%s: not modified since %s\n", reading.Source, last.At.UTC().Format(time.RFC3339))
		return j.note(ctx, reading)
	}
	return j.store(ctx, reading, got)
}

// agedPrices says what is in use in place of what could not be read.
func agedPrices(last prices.Reading, known bool, now time.Time) string {
	if !known {
		return "no prices of it are known"
	}
	return fmt.Sprintf("its prices of %s stay in use: they are %s old", last.At.UTC().Format(time.RFC3339), now.Sub(last.At).Round(time.Minute))
}

func (j *fetchJob) note(ctx context.Context, reading prices.Reading) error {
	if j.conn == nil {
		return nil
	}
	return prices.Record(ctx, j.conn, reading)
}

func (j *fetchJob) store(ctx context.Context, reading prices.Reading, got prices.Fetched) error {
	r := prices.Check(got.Quotes, reading.At)
	text := "not stored: a dry run"
	if j.conn != nil {
		stored, err := prices.Store(ctx, j.conn, r, reading.At)
		if err != nil {
			return err
		}
		text = fmt.Sprintf("%d new, %d known", stored.Prices, stored.Unchanged)
	}
	if err := writeImported(j.out, reading.Source, r, text); err != nil {
		return err
	}
	reading.Outcome, reading.Validators = prices.WasRead, got.Validators
	reading.Prices, reading.Quarantined = len(r.Prices), len(r.Quarantined)
	return j.note(ctx, reading)
}

func newPricesFeeds() *cobra.Command {
	var place placeFlags
	var format string
	c := &cobra.Command{
		Use:     "feeds",
		Short:   "List the price feeds, how old what is known of each is, and which could not be read",
		Long:    "feeds shows when each file and address was last read. The same is in price_feeds.",
		Example: "  gpufleet prices feeds",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			conn, err := place.connect(c.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, conn.Close()) }()
			return conn.Endpoint.Explain(query.Run(c.Context(), conn, "SELECT * FROM price_feeds ORDER BY source", format, c.OutOrStdout()))
		},
	}
	c.Flags().StringVar(&format, "format", defaultFormat(), "any output format of ClickHouse")
	place.add(c)
	return c
}
