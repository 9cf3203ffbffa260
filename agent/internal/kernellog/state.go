// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/statefile"
)

// position is how far the log of one boot was read. The state file is one line of it:
//
//	{"version":1,"boot_id":"7d517a1a-7fa8-45f6-8c4f-459eca952dea","sequence":1234}
type position struct {
	Version  int    `json:"version"`
	BootID   string `json:"boot_id"`
	Sequence uint64 `json:"sequence"`
}

const (
	stateVersion  = 1
	maxStateBytes = 4096
	// Positions are written at most this often after a finding, and otherwise seldom: lines without a finding may
	// well be read twice.
	saveAfterFinding = time.Second
	saveAnyway       = time.Minute
)

var bootIDPattern = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// readBootID reads the id that the kernel chose for this boot.
func readBootID(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the boot id: %w", err)
	}
	id := strings.TrimSpace(string(text))
	if !bootIDPattern.MatchString(id) {
		return "", fmt.Errorf("read the boot id: %s has %.40q, want an id such as 7d517a1a-7fa8-45f6-8c4f-459eca952dea", path, id)
	}
	return id, nil
}

// stateFile keeps a position over restarts. It belongs to one goroutine.
type stateFile struct {
	path    string // "": nothing is kept
	written position
	at      time.Time // of the latest try to write
}

func newStateFile(path string) *stateFile { return &stateFile{path: path} }

// errCorruptState is about a file that was set aside.
var errCorruptState = errors.New("state of the kernel log is damaged")

// load reads the position; false if there is none. A damaged file is set aside, and the error says so.
func (s *stateFile) load() (position, bool, error) {
	if s.path == "" {
		return position{}, false, nil
	}
	text, err := statefile.Read(s.path, maxStateBytes)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return position{}, false, nil
	case errors.Is(err, statefile.ErrTooLarge):
		return position{}, false, s.setAside(err)
	case err != nil:
		return position{}, false, fmt.Errorf("read state of the kernel log: %w", err)
	}
	p, err := parsePosition(text)
	if err != nil {
		return position{}, false, s.setAside(err)
	}
	s.written = p
	return p, true, nil
}

func parsePosition(text []byte) (position, error) {
	var p position
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		return position{}, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return position{}, errors.New("more than one value")
	}
	if p.Version != stateVersion || !bootIDPattern.MatchString(p.BootID) {
		return position{}, fmt.Errorf("version %d, boot id %.40q", p.Version, p.BootID)
	}
	return p, nil
}

// setAside renames the file, for a person to look at.
func (s *stateFile) setAside(why error) error {
	s.written = position{}
	aside, err := statefile.SetAside(s.path)
	if err != nil {
		return fmt.Errorf("%w (%w), and cannot be set aside: %w", errCorruptState, why, err)
	}
	return fmt.Errorf("%w: it is set aside as %s: %w", errCorruptState, aside, why)
}

// save writes the position so that either the old or the new one is on disk, whatever happens.
func (s *stateFile) save(p position, now time.Time) error {
	if s.path == "" || p == s.written {
		return nil
	}
	s.at = now
	text, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("write state of the kernel log: %w", err)
	}
	if err := statefile.Replace(s.path, append(text, '\n')); err != nil {
		return fmt.Errorf("write state of the kernel log: %w", err)
	}
	s.written = p
	return nil
}
