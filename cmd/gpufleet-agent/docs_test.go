// SPDX-License-Identifier: Apache-2.0

package main

import (
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
