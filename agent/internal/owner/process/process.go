// SPDX-License-Identifier: Apache-2.0

// Package process tells what /proc knows of a process that uses a GPU: its name, when it started, whose
// it is, and the scheduler's cgroup that it is in. It promises to read a bounded amount of a few small
// files, never the command line, and the environment only where that was asked for, and then to keep
// nothing of it but Slurm's account and user.
package process

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gpufleet/gpufleet/agent/internal/owner/cgroup"
)

// Process is what is known of one process. What is not known is "" or zero.
type Process struct {
	PID     uint32
	Name    string // as the kernel keeps it: at most 15 bytes, or what the process called itself
	Started time.Time
	UID     string // number of the user
	cgroup.Place

	Account, User string // of a Slurm job, from its environment
}

const (
	maxFileBytes        = 64 << 10
	maxEnvironmentBytes = 256 << 10
	maxNameRunes        = 64
)

// Table reads processes. It belongs to one goroutine.
type Table struct {
	proc        fs.FS
	environment bool
	boot        time.Time // zero until it was read
}

// NewTable reads from the file system that is /proc, and the environment of Slurm jobs only if that is
// asked for.
func NewTable(proc fs.FS, environment bool) *Table {
	return &Table{proc: proc, environment: environment}
}

// Read tells of one process. The error is fs.ErrNotExist if there is no such process, or if it ended while it was
// read: its number may have been given to another, so that what was read is of two. It is fs.ErrPermission if it is
// hidden.
func (t *Table) Read(pid uint32) (Process, error) {
	p, err := t.read(pid)
	if err != nil {
		return p, err
	}
	if !t.Runs(p) {
		return Process{PID: pid}, fmt.Errorf("read process %d: it ended meanwhile: %w", pid, fs.ErrNotExist)
	}
	return p, nil
}

// read reads one file after the other.
func (t *Table) read(pid uint32) (Process, error) {
	p := Process{PID: pid}
	dir := strconv.FormatUint(uint64(pid), 10)
	stat, err := t.file(path.Join(dir, "stat"), maxFileBytes)
	if err != nil {
		return p, fmt.Errorf("read process %d: %w", pid, err)
	}
	name, ticks, err := parseStat(stat)
	if err != nil {
		return p, fmt.Errorf("read process %d: %w", pid, err)
	}
	p.Name = Printable(name, maxNameRunes)
	if p.Started, err = t.atTicks(ticks); err != nil {
		return p, fmt.Errorf("read the start of process %d: %w", pid, err)
	}
	text, err := t.file(path.Join(dir, "cgroup"), maxFileBytes)
	if err != nil {
		return p, fmt.Errorf("read the cgroup of process %d: %w", pid, err)
	}
	p.Place = cgroup.Parse(string(text))
	if p.UID, err = t.uid(dir); err != nil {
		return p, fmt.Errorf("read the user of process %d: %w", pid, err)
	}
	if t.environment && p.JobID != "" {
		t.readEnvironment(dir, &p)
	}
	return p, nil
}

// Runs tells whether p, which was read before, is there still, and not another process under its number.
func (t *Table) Runs(p Process) bool {
	stat, err := t.file(path.Join(strconv.FormatUint(uint64(p.PID), 10), "stat"), maxFileBytes)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	_, ticks, err := parseStat(stat)
	if err != nil {
		return true
	}
	started, err := t.atTicks(ticks)
	return err != nil || started.Equal(p.Started)
}

// file reads the beginning of a file.
func (t *Table) file(name string, limit int64) ([]byte, error) {
	f, err := t.proc.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	return io.ReadAll(io.LimitReader(f, limit))
}

// startField is the place of the start among the fields behind the name, from 0 (proc_pid_stat(5): it is
// the 22nd of all).
const startField = 19

// parseStat reads the name and the start of a process, in clock ticks since the boot. The name stands in
// parentheses and may hold anything, parentheses too.
func parseStat(stat []byte) (name string, ticks uint64, err error) {
	first, last := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if first < 0 || last < first {
		return "", 0, errors.New("stat has no name in parentheses")
	}
	fields := strings.Fields(string(stat[last+1:]))
	if len(fields) <= startField {
		return "", 0, fmt.Errorf("stat has only %d fields behind the name", len(fields))
	}
	ticks, err = strconv.ParseUint(fields[startField], 10, 63)
	if err != nil {
		return "", 0, fmt.Errorf("start of the process: %w", err)
	}
	return string(stat[first+1 : last]), ticks, nil
}

// ticksPerSecond is USER_HZ, which Linux gives to programs as 100 on every machine that GPUs are built for.
const ticksPerSecond = 100

// atTicks is a time since the boot as wall time. The boot is read once: it moves when the clock is set,
// and the start of a process should not.
func (t *Table) atTicks(ticks uint64) (time.Time, error) {
	if t.boot.IsZero() {
		text, err := t.file("stat", 16*maxFileBytes) // it grows with the number of CPUs
		if err != nil {
			return time.Time{}, err
		}
		seconds, err := bootTime(string(text))
		if err != nil {
			return time.Time{}, err
		}
		t.boot = time.Unix(seconds, 0)
	}
	seconds, rest := ticks/ticksPerSecond, ticks%ticksPerSecond
	const tooLong = 100 * 365 * 86400
	if seconds > tooLong {
		return time.Time{}, fmt.Errorf("%d seconds after the boot", seconds)
	}
	return t.boot.Add(time.Duration(seconds)*time.Second + time.Duration(rest)*time.Second/ticksPerSecond), nil
}

// bootTime finds the line btime in /proc/stat.
func bootTime(text string) (int64, error) {
	for line := range strings.Lines(text) {
		if value, found := strings.CutPrefix(line, "btime "); found {
			return strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		}
	}
	return 0, errors.New("stat has no boot time")
}

// uid is the real user of a process.
func (t *Table) uid(dir string) (string, error) {
	text, err := t.file(path.Join(dir, "status"), maxFileBytes)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if ids, found := strings.CutPrefix(line, "Uid:"); found {
			if fields := strings.Fields(ids); len(fields) > 0 && strings.Trim(fields[0], "0123456789") == "" {
				return fields[0], nil
			}
		}
	}
	return "", errors.New("status names no user")
}

// readEnvironment takes two variables of a Slurm job. An environment that cannot be read tells nothing.
func (t *Table) readEnvironment(dir string, p *Process) {
	text, err := t.file(path.Join(dir, "environ"), maxEnvironmentBytes)
	if err != nil {
		return
	}
	for variable := range bytes.SplitSeq(text, []byte{0}) {
		name, value, _ := bytes.Cut(variable, []byte{'='})
		switch string(name) {
		case "SLURM_JOB_ACCOUNT":
			p.Account = Printable(string(value), maxNameRunes)
		case "SLURM_JOB_USER":
			p.User = Printable(string(value), maxNameRunes)
		}
	}
}

// Printable makes a text that others wrote fit to be stored and shown: valid, short, without control
// characters.
func Printable(text string, maxRunes int) string {
	clean := strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.TrimSpace(text))
	count := 0
	for i := range clean {
		if count == maxRunes {
			return clean[:i]
		}
		count++
	}
	return clean
}
