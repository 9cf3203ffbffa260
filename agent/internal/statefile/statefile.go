// SPDX-License-Identifier: Apache-2.0

// Package statefile keeps what an agent knows over its restarts, in small files. It promises that after a crash either
// the old content or the new one is there, whole, and that a file that makes no sense is kept for a person to look at.
package statefile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Read reads a file that has at most so many bytes. The error is fs.ErrNotExist if there is none.
func Read(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes: %w", path, limit, ErrTooLarge)
	}
	return text, nil
}

// ErrTooLarge is about a file that is none of the agent's.
var ErrTooLarge = errors.New("too large")

// Replace puts a whole file in the place of another. What a crash leaves of the new one is overwritten next time.
func Replace(path string, content []byte) error {
	fresh := path + ".new"
	file, err := os.OpenFile(fresh, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(path)) // the rename lasts when the folder is on disk
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// SetAside renames a file that makes no sense, and tells how it is called then.
func SetAside(path string) (aside string, err error) {
	aside = path + ".damaged"
	return aside, os.Rename(path, aside)
}
