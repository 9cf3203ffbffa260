// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"time"
)

// LibraryEnv names the environment variable that may hold the path of libchdb.so.
const LibraryEnv = "GPUFLEET_LIBCHDB"

// ErrNoClickHouse is returned by Start where neither a library nor a program is found.
var ErrNoClickHouse = errors.New("no ClickHouse found: run `make deps` to install libchdb, put `clickhouse` on the PATH, " +
	"set " + LibraryEnv + " to the path of libchdb.so, or give the address of a running ClickHouse")

// oldest is the first ClickHouse that can grant rights on gpufleet*.
var oldest = serverVersion{major: 24, minor: 10}

// program is the ClickHouse that the child runs: libchdb if library is set, else an executable.
type program struct {
	Library    string   `json:"library,omitempty"`    // path of libchdb.so
	Executable string   `json:"executable,omitempty"` // path of clickhouse or clickhouse-server
	Arguments  []string `json:"arguments"`            // without the program's name
}

// finder looks for a ClickHouse. Its fields are what of the world the search depends on.
type finder struct {
	getenv     func(string) string
	lookPath   func(string) (string, error)
	version    func(ctx context.Context, executable string, arguments ...string) (string, error)
	executable string // path of our own program
	directory  string // working directory
}

// newFinder looks in the real world.
func newFinder() (finder, error) {
	executable, err := os.Executable()
	if err != nil {
		return finder{}, fmt.Errorf("find own executable: %w", err)
	}
	directory, err := os.Getwd()
	if err != nil {
		return finder{}, fmt.Errorf("find working directory: %w", err)
	}
	return finder{getenv: getenv, lookPath: exec.LookPath, version: askVersion, executable: executable, directory: directory}, nil
}

// find returns the ClickHouse to run: a library that is named, else a program on the PATH, else a library that is
// found. The notes say which programs were passed over and why.
func (f finder) find(ctx context.Context, library string) (found program, notes []string, err error) {
	if library == "" {
		library = f.getenv(LibraryEnv)
	}
	if library != "" {
		if _, err := os.Stat(library); err != nil {
			return program{}, nil, fmt.Errorf("library of the embedded ClickHouse (run `make deps` to install it): %w", err)
		}
		return program{Library: library}, nil, nil
	}
	found, notes = f.findExecutable(ctx)
	if found.Executable != "" {
		return found, notes, nil
	}
	for _, path := range f.libraryPaths() {
		if _, err := os.Stat(path); err == nil {
			return program{Library: path}, notes, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			notes = append(notes, err.Error())
		}
	}
	return program{}, notes, ErrNoClickHouse
}

// findExecutable looks on the PATH for a ClickHouse that is new enough.
func (f finder) findExecutable(ctx context.Context) (found program, notes []string) {
	for _, candidate := range []struct {
		name      string
		arguments []string
	}{{"clickhouse", []string{"server"}}, {"clickhouse-server", nil}} {
		path, err := f.lookPath(candidate.name)
		if err != nil {
			continue
		}
		text, err := f.version(ctx, path, append(candidate.arguments, "--version")...)
		if err != nil {
			notes = append(notes, fmt.Sprintf("%s is not used: %v", path, err))
			continue
		}
		version, ok := parseVersion(text)
		if !ok || version.before(oldest) {
			notes = append(notes, fmt.Sprintf("%s is not used: it answers %q and %d.%d or newer is needed", path, text, oldest.major, oldest.minor))
			continue
		}
		return program{Executable: path, Arguments: candidate.arguments}, notes
	}
	return program{}, notes
}

// libraryPaths lists where a library may lie: beside our program as in a release archive, then where `make deps`
// puts it, seen from the working directory (go run, go test) and from our program (bin/).
func (f finder) libraryPaths() []string {
	var paths []string
	programDir := filepath.Dir(f.executable)
	for _, dir := range []string{programDir, filepath.Join(programDir, "..", "lib")} {
		for _, name := range libraryNames() {
			paths = append(paths, filepath.Join(dir, name))
		}
	}
	for _, start := range []string{f.directory, programDir} {
		for _, dir := range ancestors(start) {
			for _, name := range libraryNames() {
				paths = append(paths, filepath.Join(dir, "deploy", "clickhouse", "node_modules", "@chdb", libraryPackage(), name))
			}
		}
	}
	return paths
}

// ancestors lists a directory and all above it.
func ancestors(dir string) []string {
	list := []string{dir}
	for parent := filepath.Dir(dir); parent != dir; parent = filepath.Dir(dir) {
		list = append(list, parent)
		dir = parent
	}
	return list
}

// libraryNames are the file names of libchdb; its darwin packages use the first as well.
func libraryNames() []string {
	if runtime.GOOS == "darwin" {
		return []string{"libchdb.so", "libchdb.dylib"}
	}
	return []string{"libchdb.so"}
}

// libraryPackage is the npm package that carries the library for this machine.
func libraryPackage() string {
	arch := runtime.GOARCH
	if arch == "amd64" {
		arch = "x64"
	}
	if runtime.GOOS == "darwin" {
		return "lib-darwin-" + arch
	}
	return "lib-" + runtime.GOOS + "-" + arch + "-gnu"
}

// askVersion runs a ClickHouse executable for its version line.
func askVersion(ctx context.Context, executable string, arguments ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	//nolint:gosec // a program of this name on the PATH is what the user wants run
	line, err := exec.CommandContext(ctx, executable, arguments...).Output()
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", executable, err)
	}
	return string(line), nil
}

// serverVersion is the first half of a ClickHouse version: year and release.
type serverVersion struct{ major, minor int }

func (v serverVersion) before(other serverVersion) bool {
	return v.major < other.major || v.major == other.major && v.minor < other.minor
}

var versionPattern = regexp.MustCompile(`\b(\d+)\.(\d+)\.\d+`)

// parseVersion finds the version in "ClickHouse server version 26.7.2.1 (official build)" and the like.
func parseVersion(line string) (serverVersion, bool) {
	match := versionPattern.FindStringSubmatch(line)
	if match == nil {
		return serverVersion{}, false
	}
	major, errMajor := strconv.Atoi(match[1])
	minor, errMinor := strconv.Atoi(match[2])
	return serverVersion{major, minor}, errMajor == nil && errMinor == nil
}
