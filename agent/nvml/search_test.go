// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestOpenWithoutALibrary(t *testing.T) {
	path := filepath.Join(t.TempDir(), libraryName)
	_, err := Open(Config{LibraryPath: path})
	if want := "no NVIDIA driver found: " + path + " does not exist"; !errors.Is(err, ErrNoDriver) || err.Error() != want {
		t.Errorf("%v; want %s", err, want)
	}
}

func TestSearchInVain(t *testing.T) {
	_, err := find("")
	if err == nil {
		t.Skip("SKIPPED: this machine has an NVIDIA driver")
	}
	if !errors.Is(err, ErrNoDriver) || len(err.Error()) > 200 || !strings.Contains(err.Error(), "folders that drivers use") {
		t.Errorf("got %v", err)
	}
}

// TestOpenRefusesOtherFiles must end with an error, not with the process.
func TestOpenRefusesOtherFiles(t *testing.T) {
	text := filepath.Join(t.TempDir(), libraryName)
	if err := os.WriteFile(text, []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	cases := map[string]string{text: libraryName + " (", "libc.so.6": "not an NVML library"}
	for path, want := range cases {
		_, err := Open(Config{LibraryPath: path})
		if !errors.Is(err, ErrNoDriver) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %s", path, err, want)
		}
	}
}

func TestSearchList(t *testing.T) {
	for architecture, path := range map[string]string{
		"amd64": "/run/nvidia/driver/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
		"arm64": "/run/nvidia/driver/usr/lib/aarch64-linux-gnu/libnvidia-ml.so.1",
		"other": "/home/kubernetes/bin/nvidia/lib64/libnvidia-ml.so.1",
	} {
		list := searchList(architecture)
		if list[0] != libraryName || !slices.Contains(list, path) {
			t.Errorf("%s: %v", architecture, list)
		}
	}
}
