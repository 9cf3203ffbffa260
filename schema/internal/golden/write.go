// SPDX-License-Identifier: Apache-2.0

package golden

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// frozenFolder holds what may be added to and never changed: the statements of each version.
const frozenFolder = "schema/testdata/versions/"

// Write writes the derived files below the repository's root. It does not touch the statements of a
// version that exists: they are in databases, and a change of them is a new version.
func Write(root string) error {
	files, err := Files()
	if err != nil {
		return err
	}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if err := write(filepath.Join(root, filepath.FromSlash(path)), path, files[path]); err != nil {
			return err
		}
	}
	return nil
}

func write(file, path string, content []byte) error {
	old, err := os.ReadFile(file)
	switch {
	case err == nil && bytes.Equal(old, content):
		return nil
	case err == nil && strings.HasPrefix(path, frozenFolder):
		return fmt.Errorf("%s would change: a table was changed without raising schema.Version, see schema/DESIGN.md", path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("read derived file: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil { //nolint:gosec // part of a checkout, which others may read
		return fmt.Errorf("make folder of derived file: %w", err)
	}
	if err := os.WriteFile(file, content, 0o644); err != nil { //nolint:gosec // part of a checkout, which others may read
		return fmt.Errorf("write derived file: %w", err)
	}
	return nil
}
