// SPDX-License-Identifier: Apache-2.0

package ownersocket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// longestPath is what the kernel takes as the path of a socket.
const longestPath = 107

// socket is a socket under its path.
type socket struct {
	listener *net.UnixListener
	path     string
	file     os.FileInfo
}

// listen makes a socket that its owner alone may open. It is made under another name, in a folder that nobody
// else may enter, and appears under its own with its rights: there is no moment in which others could open it.
func listen(ctx context.Context, path string) (*socket, error) {
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return nil, fmt.Errorf("make the folder of the control socket: %w", err)
	}
	if err := vacant(ctx, path); err != nil {
		return nil, err
	}
	hidden, err := os.MkdirTemp(folder, ".new")
	if err != nil {
		return nil, fmt.Errorf("make the control socket: %w", err)
	}
	defer os.RemoveAll(hidden) //nolint:errcheck // at worst an empty folder stays
	name := filepath.Join(hidden, "s")
	if len(name) > longestPath {
		return nil, fmt.Errorf("control socket %s: %d bytes are too long for the path of a socket, by %d", path, len(path), len(name)-longestPath)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("make the control socket: %w", err)
	}
	listener.SetUnlinkOnClose(false) // it will have another name
	s := &socket{listener: listener, path: path}
	if err := s.appear(name); err != nil {
		return nil, errors.Join(fmt.Errorf("make the control socket: %w", err), listener.Close())
	}
	return s, nil
}

// appear gives the socket its rights and its name.
func (s *socket) appear(hidden string) error {
	if err := os.Chmod(hidden, 0o600); err != nil {
		return err
	}
	if err := os.Rename(hidden, s.path); err != nil {
		return err
	}
	file, err := os.Lstat(s.path)
	s.file = file
	return err
}

// close removes the socket, unless another agent has put its own in its place.
func (s *socket) close() {
	_ = s.listener.Close() // twice does no harm
	if file, err := os.Lstat(s.path); err == nil && os.SameFile(file, s.file) {
		_ = os.Remove(s.path) // at worst one stays that nobody listens on
	}
}

// vacant tells whether the path may be taken: nothing is there, or a socket that nobody listens on any more.
func vacant(ctx context.Context, path string) error {
	file, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("make the control socket: %w", err)
	case file.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("control socket %s: another file is there, which is no socket", path)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = conn.Close()
		return fmt.Errorf("control socket %s: another program answers there", path)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil
	default: // as when a program is too busy to answer
		return fmt.Errorf("control socket %s: it is not clear that no other program listens there; remove it if none does: %w", path, err)
	}
}
