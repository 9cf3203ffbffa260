// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/gpufleet/gpufleet/internal/docpage"
)

// TestDocumentsRunIt with commands and flags that are there.
func TestDocumentsRunIt(t *testing.T) {
	wrong, files, err := docpage.Run("../..", "gpufleet-agent", func(args []string) error {
		c, rest, err := newCommand().Find(args)
		if err != nil {
			return err
		}
		c.InitDefaultHelpFlag()
		c.InitDefaultVersionFlag()
		return c.ParseFlags(rest)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range wrong {
		t.Error(w)
	}
	for _, want := range []string{"deploy/kubernetes/agent.yaml", "deploy/systemd/gpufleet-agent.service", "docs/install.md"} {
		if !slices.Contains(files, want) {
			t.Errorf("no command is found in %s: is it elsewhere now?", want)
		}
	}
}

// configOf finds the configuration of an agent in a page.
var configOf = regexp.MustCompile("(?s)(?:# |> )/etc/gpufleet/agent\\.yaml[^\n]*\n(.*?)\n(?:END|```)\n")

// TestConfigurationsOfDocumentsAreTaken, as far as the files that they name need not be there.
func TestConfigurationsOfDocumentsAreTaken(t *testing.T) {
	for _, page := range []string{"install.md", "agent.md"} {
		text, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		found := configOf.FindAllSubmatch(text, -1)
		if len(found) == 0 {
			t.Errorf("%s shows no configuration: is it elsewhere now?", page)
		}
		for _, f := range found {
			c := newCommand()
			if err := parseConfig(page, f[1], c.Flags()); err != nil {
				t.Error(err)
			}
		}
	}
}
