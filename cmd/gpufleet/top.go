// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/gpufleet/gpufleet/internal/clickhouseclient"
	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/internal/ops"
	"github.com/gpufleet/gpufleet/internal/terminal"
	"github.com/gpufleet/gpufleet/internal/top"
	"github.com/gpufleet/gpufleet/internal/up"
)

// defaultMetrics is where a collector has its metrics, if it is not told otherwise.
const defaultMetrics = "127.0.0.1:4491"

func newTop() *cobra.Command {
	var place placeFlags
	var metrics []string
	var files ops.ClientTLSFiles
	var once, asJSON bool
	cfg := top.Config{Interval: top.DefaultInterval, AnswerWait: top.DefaultAnswerWait}
	c := &cobra.Command{
		Use:   "top",
		Short: "Watch the pipeline: what is wrong first, then collectors, tables, and what is refused and why",
		Long: "top shows what collectors (--metrics, several with commas between) and ClickHouse say of themselves, again each\n" +
			"--interval, until q or Ctrl-C. Without --metrics it looks at the collectors of the `gpufleet up` of --data, or\n" +
			"at " + defaultMetrics + ". What does not answer is said, and the rest is shown.\n\n" +
			"Where there is no terminal, or with --once, it prints one snapshot, whose rates are over two seconds, and ends\n" +
			"with 3 if something is wrong, and with 1 if nothing answered.",
		Example: "  gpufleet top\n" +
			"  gpufleet top --metrics collector-1:4491,collector-2:4491 --tls-ca ca.pem --clickhouse https://reader@ch.example:8443/gpufleet\n" +
			"  gpufleet top --json | jq .wrong",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if cfg.Metrics, err = metricsAddresses(metrics, place.found(), files != (ops.ClientTLSFiles{})); err != nil {
				return err
			}
			if files != (ops.ClientTLSFiles{}) {
				if cfg.TLS, err = files.Client(); err != nil {
					return err
				}
			}
			cfg.Connect = place.attach
			size := terminalSize()
			if once || asJSON || size == nil || !term.IsTerminal(int(os.Stdin.Fd())) {
				return topOnce(c, cfg, asJSON)
			}
			return topLive(c.Context(), cfg, size)
		},
	}
	f := c.Flags()
	f.StringSliceVar(&metrics, "metrics", nil, "addresses of collectors' metrics: host:4491, or https://host:4491/metrics")
	f.StringVar(&files.CA, "tls-ca", "", "PEM file of the authorities that the collectors' certificates must come from; host:port then means https")
	f.StringVar(&files.Cert, "tls-cert", "", "PEM file of a client certificate, if the collectors ask for one")
	f.StringVar(&files.Key, "tls-key", "", "PEM file of its private key")
	f.DurationVar(&cfg.Interval, "interval", cfg.Interval, "look this often")
	f.BoolVar(&once, "once", false, "print one snapshot as plain text")
	f.BoolVar(&asJSON, "json", false, "print one snapshot as a line of JSON")
	place.add(c)
	return c
}

// metricsAddresses are those that are given, those of a pipeline that runs here, or the usual one.
func metricsAddresses(given []string, place clickhouseclient.Place, secure bool) (addresses []string, err error) {
	if len(given) == 0 && place.URL == "" {
		if given, err = up.Metrics(place.DataDir); err != nil {
			return nil, err
		}
	}
	if len(given) == 0 {
		given = []string{defaultMetrics}
	}
	for _, text := range given {
		address, err := top.Address(text, secure)
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, address)
	}
	return addresses, nil
}

func topOnce(c *cobra.Command, cfg top.Config, asJSON bool) error {
	s, err := top.Once(c.Context(), cfg)
	if err != nil {
		return err
	}
	write := s.WriteText
	if asJSON {
		write = s.WriteJSON
	}
	if err := write(c.OutOrStdout()); err != nil {
		return err
	}
	switch {
	case !s.Answered():
		return errors.New("nothing answered: name the collectors with --metrics, a ClickHouse with --clickhouse")
	case len(s.Wrong) > 0:
		return errFound
	default:
		return nil
	}
}

func topLive(ctx context.Context, cfg top.Config, size terminal.Size) (err error) {
	ctx, stop := untilHangup(ctx)
	defer stop()
	screen, err := terminal.Take(os.Stdin, os.Stdout)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, screen.Close()) }()
	return top.Run(ctx, cfg, screen, size)
}

// attach is connect, but starts no ClickHouse: what nobody runs is not watched.
func (p *placeFlags) attach(ctx context.Context) (*clickhouseclient.Connection, error) {
	place := p.found()
	if place.URL == "" {
		if _, _, err := embedded.Attach(ctx, clickhouseclient.EmbeddedDir(place.DataDir)); err != nil {
			return nil, fmt.Errorf("no pipeline runs in %s: name its directory with --data, or a ClickHouse with --clickhouse", place.DataDir)
		}
	}
	return place.Connect(ctx)
}
