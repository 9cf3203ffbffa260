// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestFindTellsWhatStartRuns(t *testing.T) {
	t.Setenv(LibraryEnv, "")
	t.Setenv("PATH", t.TempDir())
	library := filepath.Join(t.TempDir(), "libchdb.so")
	if err := os.WriteFile(library, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if path, _, err := Find(t.Context(), library); err != nil || path != library {
		t.Errorf("named library: %s: %v", path, err)
	}
	if path, _, err := Find(t.Context(), ""); err != nil || filepath.Base(path) != "libchdb.so" {
		t.Errorf("installed library: %s: %v", path, err)
	}
	if _, _, err := Find(t.Context(), library+".none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("library that is not there: %v", err)
	}
}
