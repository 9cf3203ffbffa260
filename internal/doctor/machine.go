// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gpufleet/gpufleet/internal/embedded"
)

// machine is what the checks of a node depend on.
type machine struct {
	root       string // of the file system
	system     string // runtime.GOOS
	user       int    // effective
	mayAccess  func(path string, mode uint32) error
	mayRead    func(path string) error // by opening it
	freeBytes  func(path string) (int64, error)
	clockState func() (synchronised bool, err error)
}

func thisMachine() machine {
	return machine{root: "/", system: runtime.GOOS, user: os.Geteuid(), mayAccess: unix.Access, mayRead: mayRead, freeBytes: freeBytes, clockState: clockState}
}

// mayRead opens a file without waiting for anything in it.
func mayRead(path string) error {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	return file.Close()
}

func (m machine) path(name string) string { return filepath.Join(m.root, name) }

// read is the text of a file, empty if it cannot be read.
func (m machine) read(name string) string {
	text, err := os.ReadFile(m.path(name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// landlock is the first kernel whose Landlock the embedded ClickHouse is locked in with.
var landlock = [2]int{5, 19}

func (m machine) kernel() Finding {
	const check = "system"
	if m.system != "linux" {
		return warn(check, m.system+": ClickHouse and the simulated fleet run here, agents for GPUs do not", "run gpufleet-agent on the Linux nodes that have the GPUs")
	}
	release := m.read("proc/sys/kernel/osrelease")
	var version [2]int
	if _, err := fmt.Sscanf(release, "%d.%d", &version[0], &version[1]); err != nil {
		return warn(check, "Linux of an unknown version", "mount /proc")
	}
	if version[0] < landlock[0] || version[0] == landlock[0] && version[1] < landlock[1] {
		return warn(check, "Linux "+release+": the embedded ClickHouse runs without a sandbox of its own",
			fmt.Sprintf("a kernel from %d.%d on confines it to its directory", landlock[0], landlock[1]))
	}
	return ok(check, "Linux %s, %s", release, runtime.GOARCH)
}

// Memory with which the embedded ClickHouse and a simulated fleet are at ease, and the least they need.
const (
	ampleMemoryBytes = 4 << 30
	leastMemoryBytes = 1 << 30
)

func (m machine) memory() Finding {
	const check = "memory"
	available := int64(-1)
	for line := range strings.Lines(m.read("proc/meminfo")) {
		if kib, found := strings.CutPrefix(line, "MemAvailable:"); found {
			if n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kib), "kB")), 10, 64); err == nil {
				available = n << 10
			}
		}
	}
	limit := "free"
	for _, name := range []string{"sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if n, err := strconv.ParseInt(m.read(name), 10, 64); err == nil && n > 0 && n < available {
			available, limit = n, "allowed by the container"
		}
	}
	says := fmt.Sprintf("%s %s", size(available), limit)
	const fix = "an agent needs 64 MB; `gpufleet up` wants 4 GiB: free some, or name a ClickHouse on another machine"
	switch {
	case available < 0:
		return ok(check, "not known on this system")
	case available < leastMemoryBytes:
		return fail(check, says, fix)
	case available < ampleMemoryBytes:
		return warn(check, says, fix)
	default:
		return ok(check, "%s", says)
	}
}

// Disk that the data directory should have: the embedded ClickHouse does not start with less than the
// least. 100 GPUs at 1 Hz take about 225 MB a day.
const (
	ampleDiskBytes = 10 << 30
	leastDiskBytes = 1 << 30
)

// disk looks at the data directory, or at the first of those above it that is there.
func (m machine) disk(dataDir string) Finding {
	const check = "disk"
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		return fail(check, err.Error(), "run it from a directory that exists")
	}
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	free, err := m.freeBytes(dir)
	if err != nil {
		return warn(check, err.Error(), "choose another directory with --data")
	}
	if err := m.mayAccess(dir, unix.W_OK); err != nil {
		return fail(check, fmt.Sprintf("%s cannot be written: %v", dir, err), "choose another directory with --data, or run as its owner")
	}
	says := fmt.Sprintf("%s free in %s", size(free), dir)
	const fix = "free some, or choose another directory with --data: 100 GPUs take about 225 MB a day"
	switch {
	case free < leastDiskBytes:
		return fail(check, says, fix)
	case free < ampleDiskBytes:
		return warn(check, says, fix)
	default:
		return ok(check, "%s", says)
	}
}

// freeBytes is what this user may still fill of the disk.
func freeBytes(path string) (int64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(path, &stat); err != nil {
		return 0, fmt.Errorf("ask for the free space of %s: %w", path, err)
	}
	return int64(stat.Bavail) * int64(stat.Bsize), nil //nolint:unconvert // Bsize is uint32 on darwin
}

// clock: a collector refuses rows that are minutes ahead, and faults of several nodes are ordered by it.
func (m machine) clock() Finding {
	const check = "clock"
	synchronised, err := m.clockState()
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return ok(check, "not known on this system")
	case err != nil:
		return warn(check, fmt.Sprintf("its state is not known: %v", err), "compare it with another machine's")
	case !synchronised:
		return warn(check, "the kernel does not know it to be synchronised: rows more than 5 minutes ahead are refused",
			"start chrony, systemd-timesyncd or another NTP client; a container sees the state of its host")
	default:
		return ok(check, "synchronised")
	}
}

// clickhouseProgram looks for what `gpufleet up` would run.
func clickhouseProgram(ctx context.Context, library string) Finding {
	const check = "clickhouse program"
	path, notes, err := embedded.Find(ctx, library)
	if err != nil {
		return warn(check, strings.Join(append(notes, "no libchdb and no clickhouse found: `gpufleet up` cannot run here"), "; "),
			"make deps; or put `clickhouse` on the PATH, or set "+embedded.LibraryEnv+". Agents, and a ClickHouse elsewhere, do not need it")
	}
	if len(notes) > 0 {
		return warn(check, path+"; "+strings.Join(notes, "; "), "remove what is not used, or make it newer")
	}
	return ok(check, "%s", path)
}

// size is a number of bytes for people.
func size(bytes int64) string {
	if bytes < 1<<30 {
		return fmt.Sprintf("%d MiB", bytes>>20)
	}
	return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
}
