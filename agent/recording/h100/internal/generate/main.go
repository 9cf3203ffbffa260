// SPDX-License-Identifier: Apache-2.0

// Command generate writes the recording of package h100 to a folder. Run it by go generate
// ./agent/recording/...
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gpufleet/gpufleet/agent/recording/h100"
)

func main() {
	if err := generate(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func generate(arguments []string) error {
	if len(arguments) != 1 {
		return errors.New("usage: generate FOLDER")
	}
	file, err := h100.File()
	if err != nil {
		return err
	}
	path := filepath.Join(arguments[0], h100.FileName)
	return os.WriteFile(path, file, 0o644) //nolint:gosec // it belongs to the repository: everyone may read it
}
