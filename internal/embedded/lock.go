// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// orphanGrace is how long acquire waits for a ClickHouse whose parent is already dead: it is on its way out.
const orphanGrace = 20 * time.Second

// acquire takes the directory's lock and writes our process id into it. It waits that long for another process.
//
// The file is handed to the child too. A flock belongs to the open file, so the directory stays locked until
// parent and child are both gone, and two ClickHouses never meet in one directory.
func acquire(ctx context.Context, path string, wait time.Duration) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock %s: %w", path, err)
	}
	if err := lock(ctx, file, wait); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	pid := strconv.Itoa(os.Getpid()) + "\n"
	if err := errors.Join(file.Truncate(0), writeAt(file, pid)); err != nil {
		return nil, errors.Join(fmt.Errorf("write lock %s: %w", path, err), file.Close())
	}
	return file, nil
}

func writeAt(file *os.File, text string) error {
	_, err := file.WriteAt([]byte(text), 0)
	return err
}

// lock tries for a while if a living process holds the file, and longer if only a dead one's child does.
func lock(ctx context.Context, file *os.File, wait time.Duration) error {
	patience := time.Now().Add(wait)
	ctx, cancel := context.WithTimeout(ctx, max(wait, orphanGrace))
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("lock %s: %w", file.Name(), err)
		}
		holder := lockHolder(file)
		living := holder == 0 || alive(holder)
		if living && !time.Now().Before(patience) {
			return fmt.Errorf("%s is held by %s: an embedded ClickHouse already runs in this directory; stop it or choose another directory",
				file.Name(), processName(holder))
		}
		select {
		case <-ctx.Done():
			if living {
				return fmt.Errorf("wait until %s lets go of %s: %w", processName(holder), file.Name(), ctx.Err())
			}
			return fmt.Errorf("%s is held by the ClickHouse that process %d left behind: %w", file.Name(), holder, ctx.Err())
		case <-tick.C:
		}
	}
}

// lockHolder reads the process id that the holder wrote; 0 if it has not yet.
func lockHolder(file *os.File) int {
	var text [32]byte
	n, _ := file.ReadAt(text[:], 0) // a short read is the normal case: the file is shorter than the buffer
	pid, err := strconv.Atoi(strings.TrimSpace(string(text[:n])))
	if err != nil {
		return 0
	}
	return pid
}

// processName says who a holder is; one that has just taken the lock may not have written its id yet.
func processName(pid int) string {
	if pid == 0 {
		return "another process"
	}
	return "process " + strconv.Itoa(pid)
}

// alive reports whether a process exists, whoever owns it.
func alive(pid int) bool {
	err := unix.Kill(pid, 0)
	return err == nil || errors.Is(err, unix.EPERM)
}
