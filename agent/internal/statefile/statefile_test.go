// SPDX-License-Identifier: Apache-2.0

package statefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAFileIsReplacedAndSetAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	if _, err := Read(path, 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := os.WriteFile(path+".new", []byte("what a crash has left, longer than the file"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"one", "two"} {
		if err := Replace(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := Read(path, 3); err != nil || string(got) != content {
			t.Errorf("read %q, %v, want %q", got, err, content)
		}
	}
	if _, err := Read(path, 2); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a file of three bytes, at most two: %v", err)
	}
	aside, err := SetAside(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(aside); err != nil || string(got) != "two" {
		t.Errorf("%s holds %q, %v", aside, got, err)
	}
	if err := Replace(filepath.Join(path, "below"), nil); err == nil {
		t.Error("a file in a folder that is not there could be written")
	}
}
