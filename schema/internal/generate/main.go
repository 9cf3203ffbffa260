// SPDX-License-Identifier: Apache-2.0

// Generate writes the files that are derived from the schema below the repository's root: see package
// golden. It is run by go generate ./schema/...
package main

import (
	"fmt"
	"os"

	"github.com/gpufleet/gpufleet/schema/internal/golden"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: generate ROOT-OF-THE-REPOSITORY")
		os.Exit(2)
	}
	if err := golden.Write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
