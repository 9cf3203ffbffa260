// SPDX-License-Identifier: Apache-2.0

package golden_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gpufleet/gpufleet/schema/internal/golden"
)

const refresh = "go generate ./schema/..."

func TestDerivedFilesAreFresh(t *testing.T) {
	files, err := golden.Files()
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range files {
		got, err := os.ReadFile(filepath.Join("../../..", filepath.FromSlash(path)))
		if err != nil {
			t.Errorf("%v: write it with: %s", err, refresh)
			continue
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is out of date. If the change is meant, refresh it with: %s\n(-want +got):\n%s", path, refresh, diff)
		}
	}
}
