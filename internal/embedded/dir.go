// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// layout names the files of a data directory.
type layout string

func (l layout) lock() string      { return filepath.Join(string(l), "lock") }
func (l layout) state() string     { return filepath.Join(string(l), "state.json") }
func (l layout) configDir() string { return filepath.Join(string(l), "config") }
func (l layout) config() string    { return filepath.Join(l.configDir(), "config.xml") }
func (l layout) users() string     { return filepath.Join(l.configDir(), "users.xml") }
func (l layout) logDir() string    { return filepath.Join(string(l), "log") }
func (l layout) log() string       { return filepath.Join(l.logDir(), "clickhouse.log") }
func (l layout) childLog() string  { return filepath.Join(l.logDir(), "child.log") }
func (l layout) data() string      { return filepath.Join(string(l), "data") }

// create makes the directories, and so finds out whether the place can be written at all.
func (l layout) create(minFreeBytes int64) error {
	for _, dir := range []string{string(l), l.configDir(), l.logDir(), l.data(), filepath.Join(l.data(), "user_defined")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("create data directory: %w", err)
		}
	}
	probe, err := os.CreateTemp(string(l), ".writable-*")
	if err != nil {
		return fmt.Errorf("write to data directory %s: %w", l, err)
	}
	if err := errors.Join(probe.Close(), os.Remove(probe.Name())); err != nil {
		return fmt.Errorf("write to data directory %s: %w", l, err)
	}
	free, err := freeBytes(string(l))
	if err != nil {
		return err
	}
	if free < minFreeBytes {
		return fmt.Errorf("data directory %s has %d MiB free and the embedded ClickHouse wants %d MiB: free some space or choose another directory",
			l, free>>20, minFreeBytes>>20)
	}
	return nil
}

// freeBytes is the disk space at path that this user may still fill.
func freeBytes(path string) (int64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(path, &stat); err != nil {
		return 0, fmt.Errorf("ask for free space of %s: %w", path, err)
	}
	return int64(stat.Bavail) * int64(stat.Bsize), nil //nolint:unconvert // Bsize is uint32 on darwin
}

// state is what a data directory remembers from one run to the next.
type state struct {
	HTTPPort           int    `json:"http_port"`
	TCPPort            int    `json:"tcp_port"`
	WriterPassword     string `json:"writer_password"`
	ReaderPassword     string `json:"reader_password"`
	DictionaryPassword string `json:"dictionary_password"`
	Private            bool   `json:"private,omitempty"` // the server that was started last is for one command
	Shards             int    `json:"shards,omitempty"`  // of the cluster of which this is the first; 0: it stands alone
	ClusterSecret      string `json:"cluster_secret,omitempty"`
}

// readState returns the state of a directory, or a new one with fresh passwords where there is none.
func readState(l layout) (state, error) {
	text, err := os.ReadFile(l.state())
	if errors.Is(err, fs.ErrNotExist) {
		return state{WriterPassword: rand.Text(), ReaderPassword: rand.Text(), DictionaryPassword: rand.Text()}, nil
	}
	if err != nil {
		return state{}, fmt.Errorf("read state of the embedded ClickHouse: %w", err)
	}
	var s state
	if err := json.Unmarshal(text, &s); err != nil {
		return state{}, fmt.Errorf("parse %s (remove it to make new passwords): %w", l.state(), err)
	}
	if s.WriterPassword == "" || s.ReaderPassword == "" || s.DictionaryPassword == "" {
		return state{}, fmt.Errorf("%s lacks a password (remove it to make new ones)", l.state())
	}
	return s, nil
}

// write keeps the state for the next run.
func (s state) write(l layout) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode state of the embedded ClickHouse: %w", err)
	}
	return writeFile(l.state(), append(text, '\n'))
}

// endpoint is how a user reaches the server with this state.
func (s state) endpoint(user, password string) Endpoint {
	return Endpoint{Host: host, HTTPPort: s.HTTPPort, TCPPort: s.TCPPort, User: user, Password: password, Database: Database}
}

func (s state) writer() Endpoint { return s.endpoint(writerUser, s.WriterPassword) }
func (s state) reader() Endpoint { return s.endpoint(readerUser, s.ReaderPassword) }

// writeFile replaces a file whole, so that a crash leaves the old one or the new one, readable by the owner only.
func writeFile(path string, content []byte) error {
	next := path + ".new"
	if err := os.WriteFile(next, content, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
