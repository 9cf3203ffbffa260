// SPDX-License-Identifier: Apache-2.0

package health

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Free parts of a file system: below the first it is a warning, below the second it fails. A file system that has more
// than enough bytes left is well, however large it is.
const (
	littleFree   = 0.10
	hardlyFree   = 0.02
	enoughBytes  = 64 << 30
	failingBytes = 16 << 20 // less than this is not enough for anything
)

const diskName = "disk"

// Disk judges the room on the file system of a folder. "" is no folder, and well.
func Disk(dir string) Check {
	if dir == "" {
		return Check{Name: diskName, State: OK}
	}
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return Check{diskName, Failing, fmt.Sprintf("ask for the room on the disk of %s: %v", dir, err)}
	}
	return disk(dir, uint64(s.Bavail)*uint64(s.Bsize), s.Blocks*uint64(s.Bsize)) //nolint:unconvert // the types differ between systems
}

// disk judges so many free bytes of all.
func disk(dir string, free, all uint64) Check {
	part := float64(free) / float64(max(all, 1))
	reason := fmt.Sprintf("%d of %d bytes (%.1f %%) are free on the disk of %s: make room, or give it another disk", free, all, 100*part, dir)
	switch {
	case free < failingBytes, part < hardlyFree && free < enoughBytes:
		return Check{diskName, Failing, reason}
	case part < littleFree && free < enoughBytes:
		return Check{diskName, Warning, reason}
	default:
		return Check{Name: diskName, State: OK}
	}
}
