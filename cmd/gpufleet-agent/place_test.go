// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// runCommand runs the program with arguments and returns what it prints.
func runCommand(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c := newCommand()
	c.SetArgs(args)
	c.SetOut(&out)
	err := c.ExecuteContext(t.Context())
	return out.String(), err
}

// ownRack is a file that an operator wrote. Its provider has no metadata service, so none is asked.
func ownRack(t *testing.T) string {
	t.Helper()
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	path := filepath.Join(t.TempDir(), "place")
	if err := os.WriteFile(path, []byte("provider = own\nsite = FRA 5\nrack = r7\nlife_cycle = owned\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPlaceIsPrinted(t *testing.T) {
	out, err := runCommand(t, "place", "--place-file", ownRack(t), "--rack", "r8")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out, "\n")
	for _, want := range []string{
		"FIELD VALUE FROM OPENTELEMETRY", "provider own configuration cloud.provider", "rack r8 configuration gpufleet.rack",
		"site FRA 5 configuration gpufleet.site", "kubernetes: not asked: this is no pod (KUBERNETES_SERVICE_HOST is not set)",
	} {
		found := false
		for _, line := range lines {
			found = found || strings.Join(strings.Fields(line), " ") == want
		}
		if !found {
			t.Errorf("no line %q in:\n%s", want, out)
		}
	}
	if !strings.Contains(out, "Not known: platform, region, ") {
		t.Errorf("not told what is not known:\n%s", out)
	}
}

func TestPlaceAsJSON(t *testing.T) {
	out, err := runCommand(t, "place", "--place-file", ownRack(t), "--json")
	if err != nil {
		t.Fatal(err)
	}
	var said struct {
		Facts, Attributes, Sources map[string]string
		Reasons                    []struct{ Probe, Text string }
	}
	if err := json.Unmarshal([]byte(out), &said); err != nil || strings.Count(out, "\n") != 1 {
		t.Fatalf("%v: want one line of JSON, got:\n%s", err, out)
	}
	if said.Facts["rack"] != "r7" || said.Attributes["cloud.provider"] != "own" || said.Sources["rack"] != "configuration" || len(said.Reasons) != 1 {
		t.Errorf("%+v", said)
	}
}

func TestPlaceFlagsThatCannotBe(t *testing.T) {
	file := ownRack(t)
	for reason, args := range map[string][]string{
		`--place "maybe": want auto or off`:     {"place", "--place", "maybe"},
		"--place off: there is nothing to ask":  {"place", "--place", "off"},
		"read where the node is":                {"place", "--place-file", file + ".gone"},
		`life_cycle "lunar": want one of`:       {"place", "--place-file", file, "--life-cycle", "lunar"},
		`life_cycle "solar": want one of`:       {"--place", "off", "--life-cycle", "solar", "--ops-listen", ""},
		`--place "perhaps": want auto or off`:   {"--place", "perhaps"},
		`unknown command "here" for "gpufleet-`: {"here"},
	} {
		if _, err := runCommand(t, args...); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%v: %v, want %q", args, err, reason)
		}
	}
}
