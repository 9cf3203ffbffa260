// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/gpufleet/gpufleet/internal/doctor"
)

func newDoctor() *cobra.Command {
	var place placeFlags
	var collector collectorFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this node or pipeline lacks, and what helps",
		Long: "doctor looks at this machine (system, GPUs, driver, device files, kernel log, clock, memory, disk), at what an\n" +
			"agent that ran as this user and in this container could see, at the agent that runs here, at the\n" +
			"ClickHouse of --clickhouse or of a running `gpufleet up`, and at the collector of --collector. Of a cluster it\n" +
			"looks at each shard. It changes nothing. It ends with 3 if something does not work; a warning is something that could be better.",
		Example: "  gpufleet doctor\n  gpufleet doctor --clickhouse https://reader@ch.example:8443/gpufleet --collector collector.example:4490 --tls",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			config, err := collector.config()
			if err != nil {
				return err
			}
			p := place.found()
			report := doctor.Run(c.Context(), doctor.Config{
				DataDir: p.DataDir, Library: p.Library, ClickHouse: p.URL, Password: p.Password, Shards: p.Shards, Collector: collector.address, TLS: config,
			})
			if err := writeReport(c, report, asJSON); err != nil {
				return err
			}
			if report.Failures > 0 {
				return errFound
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one line of JSON")
	place.add(c)
	place.addShards(c)
	collector.add(c)
	return c
}
