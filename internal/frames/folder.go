// SPDX-License-Identifier: Apache-2.0

package frames

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrLocked means that another process has the folder.
var ErrLocked = errors.New("in use by another process")

// lockName is that of the file in a folder that tells who has it.
const lockName = "lock"

// Lock makes a folder if it is missing, and takes it for this process until the lock is closed.
func Lock(dir string) (*os.File, error) {
	if err := makeFolder(dir); err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return nil, errors.Join(fmt.Errorf("%s is %w (%s)", dir, ErrLocked, holder(lock)), lock.Close())
	case err != nil:
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), lock.Close())
	}
	// Who holds it is for a person to read: a full disk does not have to take it.
	if lock.Truncate(0) == nil {
		_, _ = lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return lock, nil
}

// makeFolder makes a folder and those above it that are missing, such that a power cut does not undo it.
func makeFolder(dir string) error {
	err := os.Mkdir(dir, 0o700)
	above := filepath.Dir(dir)
	if errors.Is(err, fs.ErrNotExist) && above != dir {
		if err := makeFolder(above); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil // whether it is a folder shows when it is used
	}
	if err != nil {
		return err
	}
	return SyncFolder(above)
}

// SyncFolder makes the coming and going of names in a folder durable.
func SyncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// holder reads who has the lock.
func holder(lock *os.File) string {
	var text [32]byte
	n, _ := lock.ReadAt(text[:], 0) // it is shorter, and may be empty
	pid := strings.TrimSpace(string(text[:n]))
	if _, err := strconv.Atoi(pid); err != nil {
		return "its process is not known"
	}
	return "process " + pid
}
