// SPDX-License-Identifier: Apache-2.0

package golden_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gpufleet/gpufleet/schema/internal/golden"
)

func TestWriteKeepsVersionsThatExist(t *testing.T) {
	root := t.TempDir()
	if err := golden.Write(root); err != nil {
		t.Fatal(err)
	}
	files, err := golden.Files()
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range files {
		if got, err := os.ReadFile(filepath.Join(root, path)); err != nil || string(got) != string(want) {
			t.Errorf("%s was not written: %v", path, err)
		}
	}
	version := filepath.Join(root, golden.VersionFile())
	for _, path := range []string{version, filepath.Join(root, "docs/metrics.md")} {
		if err := os.WriteFile(path, []byte("of before"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := golden.Write(root); err == nil || !strings.Contains(err.Error(), "without raising schema.Version") {
		t.Errorf("a version that is committed was about to change: %v", err)
	}
	if got, err := os.ReadFile(version); err != nil || string(got) != "of before" {
		t.Errorf("the version now reads %.40q, %v", got, err)
	}
}
