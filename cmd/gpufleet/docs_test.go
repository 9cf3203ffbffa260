// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"testing"

	"github.com/gpufleet/gpufleet/internal/docpage"
)

// TestDocumentsRunIt with commands and flags that are there.
func TestDocumentsRunIt(t *testing.T) {
	wrong, files, err := docpage.Run("../..", "gpufleet", func(args []string) error {
		c, rest, err := newRoot().Find(args)
		if err != nil {
			return err
		}
		c.InitDefaultHelpFlag()
		c.InitDefaultVersionFlag()
		if err := c.ParseFlags(rest); err != nil {
			return err
		}
		if c.HasSubCommands() && c.Flags().NArg() > 0 {
			return fmt.Errorf("there is no command %s", c.Flags().Arg(0))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range wrong {
		t.Error(w)
	}
	for _, want := range []string{"README.md", "docs/install.md"} {
		if !slices.Contains(files, want) {
			t.Errorf("no command is found in %s: is it elsewhere now?", want)
		}
	}
}
