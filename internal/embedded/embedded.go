// SPDX-License-Identifier: Apache-2.0

// Package embedded runs a real ClickHouse beside the program that wants one, with nothing to install by hand.
//
// ClickHouse comes from libchdb, a shared library, or from a `clickhouse` program on the PATH. Either runs in
// a child process: the program's own executable, started again, so that ClickHouse's memory, threads and signal
// handlers stay out of the parent. Every main (and every TestMain) that may start one calls RunIfChild first.
//
// The child holds the reading end of a pipe and ends when that pipe closes, so it cannot outlive its parent,
// however the parent dies. While the parent lives, a child that dies is started again on the same ports with the
// same data.
//
// What is served: HTTP and the native protocol on 127.0.0.1 only, to two users. The writer has all rights on
// databases named gpufleet*; the reader may only read them, within limits, and can reach no file, no URL and no
// other server. Config, passwords, logs and data live in one directory:
//
//	DIR/lock          held while a parent or child lives; names the holder's process id
//	DIR/state.json    ports and passwords (0600), kept across runs
//	DIR/config/       config.xml and users.xml, written anew at each start
//	DIR/log/          clickhouse.log (ClickHouse's own, it rotates it) and child.log (standard output and error)
//	DIR/data/         ClickHouse's path
//
// Several of them can be the shards of one cluster: see StartShards.
package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"runtime"
	"strconv"
	"time"
)

// Database is the name of the database that Start creates.
const Database = "gpufleet"

// DictionaryCollection is the named collection from which a dictionary reads tables of the same server:
// SOURCE(CLICKHOUSE(NAME gpufleet_dictionary DB '…' TABLE '…')). It spares DDL a password.
const DictionaryCollection = "gpufleet_dictionary"

const (
	host           = "127.0.0.1"
	writerUser     = "gpufleet_writer"
	readerUser     = "gpufleet_reader"
	dictionaryUser = "gpufleet_dictionary"

	minMemoryBytes      = 256 << 20
	defaultMinFreeBytes = 1 << 30
	maxThreads          = 1024
)

// Config says where an embedded ClickHouse keeps its data and how much of the machine it may take.
type Config struct {
	Dir              string // directory of data, passwords and logs; created with mode 0700 and kept across runs
	HTTPPort         int    // port of the HTTP interface; 0 takes the one used last time in Dir if free, else a free one
	TCPPort          int    // port of the native protocol; 0 as for HTTPPort
	MemoryLimitBytes int64  // memory that the server may use; 0 is half of the machine, at least 1 GiB, at most 8 GiB
	Threads          int    // threads of one query, and size of the background pools; 0 is one per CPU
	MinFreeBytes     int64  // free disk space in Dir below which Start refuses; 0 is 1 GiB
	Library          string // path of libchdb.so; "" is a clickhouse on the PATH, else a search for the library
	// LockWait is how long to wait for another process that has the directory, such as a query that is about to end.
	LockWait time.Duration
	// Private keeps Attach from finding it: it ends with the command that it is started for, whoever else asks it.
	Private bool
	// cluster is what it is a part of; its zero value is none.
	cluster cluster
	Logger  *slog.Logger // where starts, exits and restarts are reported; nil discards them
}

// DefaultConfig returns the settings of `gpufleet up`: all sizes derived from the machine, data in .data/clickhouse.
func DefaultConfig() Config {
	return Config{Dir: filepath.Join(".data", "clickhouse"), MinFreeBytes: defaultMinFreeBytes}
}

// Validate reports settings that cannot be honoured.
func (c Config) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("the data directory of the embedded ClickHouse is empty"))
	}
	for name, port := range map[string]int{"http": c.HTTPPort, "tcp": c.TCPPort} {
		if port < 0 || port > 65535 {
			errs = append(errs, fmt.Errorf("%s port %d is not between 0 and 65535", name, port))
		}
	}
	if c.HTTPPort != 0 && c.HTTPPort == c.TCPPort {
		errs = append(errs, fmt.Errorf("http and tcp port are both %d", c.HTTPPort))
	}
	if c.MemoryLimitBytes != 0 && c.MemoryLimitBytes < minMemoryBytes {
		errs = append(errs, fmt.Errorf("memory limit of %d bytes is under the %d that ClickHouse needs", c.MemoryLimitBytes, minMemoryBytes))
	}
	if c.LockWait < 0 {
		errs = append(errs, fmt.Errorf("wait for the directory of %s is negative", c.LockWait))
	}
	if c.Threads < 0 || c.Threads > maxThreads {
		errs = append(errs, fmt.Errorf("threads %d is not between 0 and %d", c.Threads, maxThreads))
	}
	if c.MinFreeBytes < 0 {
		errs = append(errs, fmt.Errorf("least free disk space of %d bytes is negative", c.MinFreeBytes))
	}
	return errors.Join(errs...)
}

// withDefaults replaces each zero value by what it stands for and makes paths absolute, since the child runs in
// another directory.
func (c Config) withDefaults() (Config, error) {
	if c.MemoryLimitBytes == 0 {
		c.MemoryLimitBytes = defaultMemoryBytes(machineMemoryBytes())
	}
	if c.Threads == 0 {
		c.Threads = runtime.NumCPU()
	}
	if c.MinFreeBytes == 0 {
		c.MinFreeBytes = defaultMinFreeBytes
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	var err error
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return c, fmt.Errorf("resolve data directory %s: %w", c.Dir, err)
	}
	if c.Library != "" {
		if c.Library, err = filepath.Abs(c.Library); err != nil {
			return c, fmt.Errorf("resolve library path %s: %w", c.Library, err)
		}
	}
	return c, nil
}

// defaultMemoryBytes is half of a machine's memory within bounds that suit a desk and a small server.
func defaultMemoryBytes(machine int64) int64 {
	return min(max(machine/2, 1<<30), 8<<30)
}

// Endpoint is one user's way into the server.
type Endpoint struct {
	Host     string // always 127.0.0.1
	HTTPPort int    // port of the HTTP interface
	TCPPort  int    // port of the native protocol
	User     string
	Password string
	Database string // the default database of this user's queries
}

// HTTPAddress returns host:port of the HTTP interface.
func (e Endpoint) HTTPAddress() string {
	return net.JoinHostPort(e.Host, strconv.Itoa(e.HTTPPort))
}

// TCPAddress returns host:port of the native protocol.
func (e Endpoint) TCPAddress() string {
	return net.JoinHostPort(e.Host, strconv.Itoa(e.TCPPort))
}

// String names user, address and database, and never the password.
func (e Endpoint) String() string {
	return e.User + "@" + e.HTTPAddress() + "/" + e.Database
}

// GoString is String, so that %#v does not show the password either.
func (e Endpoint) GoString() string { return e.String() }

// LogValue is String as a log attribute: an Endpoint can be logged without giving its password away.
func (e Endpoint) LogValue() slog.Value { return slog.StringValue(e.String()) }
