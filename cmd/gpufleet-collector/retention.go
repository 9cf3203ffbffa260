// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"maps"
	"slices"

	"github.com/spf13/pflag"

	"github.com/gpufleet/gpufleet/schema"
)

// retentionFlags tell how long tables keep their rows. A table that is not named is left as it is.
type retentionFlags struct {
	days      map[string]int
	volume    string
	coldAfter int
}

func (r *retentionFlags) add(f *pflag.FlagSet) {
	f.StringToIntVar(&r.days, "retention-days", nil, "drop rows that are older, by table, such as gpu_samples=14,gpu_samples_1m=400,gpu_samples_1h=1825 (what these are made with); 0 keeps all")
	f.StringVar(&r.volume, "cold-volume", "", "move old rows of the tables in --retention-days to this volume of their storage policy")
	f.IntVar(&r.coldAfter, "cold-after", 0, "days after which they move")
}

func (r *retentionFlags) wanted() ([]schema.Retention, error) {
	if len(r.days) == 0 && (r.volume != "" || r.coldAfter != 0) {
		return nil, errors.New("--cold-volume and --cold-after are for the tables that --retention-days names: name some")
	}
	var all []schema.Retention
	for _, table := range slices.Sorted(maps.Keys(r.days)) {
		all = append(all, schema.Retention{Table: table, Days: r.days[table], Cold: schema.Cold{Volume: r.volume, AfterDays: r.coldAfter}})
	}
	return all, nil
}
