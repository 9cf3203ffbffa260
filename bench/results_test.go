// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEachPartReplacesItsOwnFigures(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results.json")
	write := func(name part, figures map[string]float64) {
		t.Helper()
		if _, err := record(path, name, measured{Version: string(name), Figures: figures}); err != nil {
			t.Fatal(err)
		}
	}
	write(partPipeline, map[string]float64{"rows": 1, "agent_rows": 2})
	write(partFleet, map[string]float64{"fleet_gpus_sustained": 3, "fleet_gone": 4})
	write(partPeers, map[string]float64{"peer_query_a_ratio": 5})
	write(partFleet, map[string]float64{"fleet_gpus_sustained": 7})
	write(partPipeline, map[string]float64{"rows": 8})
	r, err := readResults(path)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{"rows": 8, "fleet_gpus_sustained": 7, "peer_query_a_ratio": 5}
	if diff := cmp.Diff(want, r.Figures); diff != "" {
		t.Error(diff)
	}
	if r.Version != "pipeline" || r.Runs[partFleet].Version != "fleet" || r.Runs[partPeers].Version != "peers" || len(r.Runs) != 2 {
		t.Errorf("%+v", r)
	}
	if _, err := record(path, partPeers, measured{Figures: map[string]float64{"rows": 1}}); err == nil || !strings.Contains(err.Error(), "rows") {
		t.Errorf("a figure of another part: %v", err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := record(path, partPeers, measured{}); err == nil {
		t.Error("a file that is cut was overwritten")
	}
}

// TestFlagsChooseParts: the pipeline unless another part is asked for.
func TestFlagsChooseParts(t *testing.T) {
	for args, want := range map[string][]part{
		"":                     {partPipeline},
		"-peers":               {partPeers},
		"-fleet -catchup":      {partFleet, partCatchup},
		"-pipeline -catchup":   {partPipeline, partCatchup},
		"-peer-seconds 10":     {partPipeline},
		"-fleet -fleet-for 1m": {partFleet},
	} {
		var o options
		f := flag.NewFlagSet("bench", flag.ContinueOnError)
		o.register(f)
		if err := f.Parse(strings.Fields(args)); err != nil {
			t.Fatal(err)
		}
		var got []part
		for _, p := range parts {
			if o.wants(p) {
				got = append(got, p)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q measures %v, want %v", args, got, want)
		}
	}
}

func TestCommandsMeasureTheSameAgain(t *testing.T) {
	for args, want := range map[string]string{
		"":                                   "make bench-fleet",
		"--fleet":                            "make bench-fleet",
		"-fleet --fleet-for 1m":              `make bench-fleet ARGS="--fleet-for 1m"`,
		"--fleet --fleet-for=1m --out fleet": `make bench-fleet ARGS="--fleet-for=1m --out fleet"`,
	} {
		if got := command(partFleet, strings.Fields(args)); got != want {
			t.Errorf("%q is %s, want %s", args, got, want)
		}
	}
}
