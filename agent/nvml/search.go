// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/dl"
)

// libraryName is the library's soname. Without a folder, the system's loader looks for it.
const libraryName = "libnvidia-ml.so.1"

// multiarch is Debian's name for the machine, which is part of library paths there.
var multiarch = map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}

// searchList is where the library is looked for: first as the system's loader would, then where
// drivers put it that the loader does not know of.
func searchList(architecture string) []string {
	folders := []string{
		"/usr/lib64", "/usr/lib",
		"/run/nvidia/driver/usr/lib64",      // NVIDIA GPU operator
		"/home/kubernetes/bin/nvidia/lib64", // Google Kubernetes Engine
		"/usr/local/nvidia/lib64",           // the same, as mounted into containers
		"/run/opengl-driver/lib",            // NixOS
		"/usr/local/glibc/usr/lib",          // Talos
		"/usr/lib/wsl/lib",                  // Windows Subsystem for Linux
	}
	if name, ok := multiarch[architecture]; ok {
		folders = append([]string{
			filepath.Join("/usr/lib", name),
			filepath.Join("/run/nvidia/driver/usr/lib", name),
		}, folders...)
	}
	list := []string{libraryName}
	for _, folder := range folders {
		list = append(list, filepath.Join(folder, libraryName))
	}
	return list
}

// find returns the first library that can be loaded and exports what starting it takes.
func find(path string) (string, error) {
	candidates := searchList(runtime.GOARCH)
	if path != "" {
		candidates = []string{path}
	}
	var bad []string // that are there, and not to be used
	for i, candidate := range candidates {
		resolved, err := probe(candidate)
		switch {
		case err == nil:
			return resolved, nil
		case errors.Is(err, fs.ErrNotExist), path == "" && i == 0: // the loader's error says no more than that it has none
		default:
			bad = append(bad, fmt.Sprintf("%s (%v)", candidate, err))
		}
	}
	switch {
	case len(bad) > 0:
		return "", fmt.Errorf("%w: not usable: %s", ErrNoDriver, strings.Join(bad, ", "))
	case path != "":
		return "", fmt.Errorf("%w: %s does not exist", ErrNoDriver, path)
	default:
		return "", fmt.Errorf("%w: the system's loader does not have %s, nor do %d folders that drivers use", ErrNoDriver, libraryName, len(candidates)-1)
	}
}

// probe loads a library by itself, without making its symbols visible, and unloads it again. A file
// that is no NVML must be refused here: go-nvml would call into it and end the process.
func probe(path string) (resolved string, err error) {
	if strings.Contains(path, "/") {
		if _, err := os.Stat(path); err != nil {
			return "", err
		}
	}
	lib := dl.New(path, dl.RTLD_LAZY|dl.RTLD_LOCAL)
	if err := lib.Open(); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, lib.Close()) }()
	exported := func(symbol string) bool { return lib.Lookup(symbol) == nil }
	if !slices.ContainsFunc(manifest["Init"], exported) {
		return "", errors.New("not an NVML library")
	}
	if resolved, err := lib.Path(); err == nil {
		return resolved, nil
	}
	return path, nil // as it was given; the full path is a nicety
}
