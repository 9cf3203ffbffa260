// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/gpufleet/gpufleet/schema"
)

func TestRetentionFlags(t *testing.T) {
	for _, tt := range []struct {
		args string
		want []schema.Retention
		err  string
	}{
		{args: ""},
		{args: "--retention-days gpu_samples=30,gpu_samples_1m=0", want: []schema.Retention{{Table: "gpu_samples", Days: 30}, {Table: "gpu_samples_1m"}}},
		{args: "--retention-days gpu_samples=30 --retention-days gpu_health=9 --cold-volume cold --cold-after 3", want: []schema.Retention{
			{Table: "gpu_health", Days: 9, Cold: schema.Cold{Volume: "cold", AfterDays: 3}}, {Table: "gpu_samples", Days: 30, Cold: schema.Cold{Volume: "cold", AfterDays: 3}},
		}},
		{args: "--cold-volume cold", err: "name some"},
		{args: "--cold-after 3", err: "name some"},
	} {
		var r retentionFlags
		f := pflag.NewFlagSet("test", pflag.ContinueOnError)
		r.add(f)
		if err := f.Parse(strings.Fields(tt.args)); err != nil {
			t.Fatal(err)
		}
		got, err := r.wanted()
		if diff := cmp.Diff(tt.want, got); diff != "" || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: error %v, want %q (-want +got):\n%s", tt.args, err, tt.err, diff)
		}
	}
}
