// SPDX-License-Identifier: Apache-2.0

// Package clickhousetest gives tests a real ClickHouse: the embedded one, in a temporary directory.
//
// A package that uses it hands its TestMain over:
//
//	func TestMain(m *testing.M) { clickhousetest.Main(m) }
//
// The first test that calls Start starts one server for the test program; each call gets a database of its own in it,
// dropped at the end of the test. A test that kills its server takes one for itself with Dedicated. Where no
// ClickHouse is installed tests fail, and say that `make deps` installs it: nothing is skipped.
package clickhousetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gpufleet/gpufleet/internal/embedded"
)

// memoryLimitBytes is what one server may use: go test runs several packages, and so several servers, at once.
const memoryLimitBytes = 2 << 30

// shared is the server of this test program. It is a package variable because tests have nothing else in common.
var shared sharedServer

// sharedServer starts at most once.
type sharedServer struct {
	mu        sync.Mutex // guards the fields below
	hasMain   bool       // Main runs, so that the child can start and somebody stops the server
	server    *embedded.Server
	dir       string
	err       error // why there is no server; every test gets to know
	databases int   // handed out so far, to make their names differ

	shards    *embedded.Shards // of the cluster that tests share
	shardsDir string
	shardsErr error
}

// Main runs the tests of a package, then stops the server if one was started, then looks for goroutines that are left,
// and ends the process with the status of all that. In the process that is to be ClickHouse it does not run tests.
func Main(m *testing.M) {
	embedded.RunIfChild()
	os.Exit(shared.run(m)) //nolint:forbidigo // a TestMain ends so
}

func (s *sharedServer) run(m *testing.M) int {
	s.mu.Lock()
	s.hasMain = true
	s.mu.Unlock()
	status := m.Run()
	if err := s.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "clickhousetest:", err)
		status = max(status, 1)
	}
	if status != 0 {
		return status // goroutines of a failed test would only distract from it
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, "clickhousetest: goroutines left behind:", err)
		return 1
	}
	return 0
}

// Database is one test's own database in the shared server. Both users have it as their default.
type Database struct {
	Name   string
	Writer embedded.Endpoint // all rights
	Reader embedded.Endpoint // may read, within limits
}

// Start makes a database for this test, in the server that the tests of this program share, and drops it at the end.
func Start(t testing.TB) Database {
	t.Helper()
	server, number, err := shared.get()
	if err != nil {
		t.Fatalf("clickhousetest: %v", err)
	}
	name := databaseName(t.Name(), number)
	writer, reader := server.Writer(), server.Reader()
	Exec(t, writer, "CREATE DATABASE "+name)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // the test's own context is over
		defer cancel()
		if _, err := writer.Ask(ctx, "DROP DATABASE "+name+" SYNC"); err != nil {
			t.Errorf("clickhousetest: drop database %s: %v", name, err)
		}
	})
	db := Database{Name: name, Writer: writer, Reader: reader}
	db.Writer.Database, db.Reader.Database = name, name
	return db
}

// Dedicated starts a server for this test alone, which may kill it, and stops it at the end.
func Dedicated(t testing.TB) *embedded.Server {
	t.Helper()
	if !shared.mainRuns() {
		t.Fatal("clickhousetest: " + noMain)
	}
	server, err := embedded.Start(t.Context(), config(t.TempDir()))
	if err != nil {
		t.Fatalf("clickhousetest: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Errorf("clickhousetest: %v", err)
		}
	})
	return server
}

// Exec runs a statement and fails the test if it fails.
func Exec(t testing.TB, e embedded.Endpoint, sql string) {
	t.Helper()
	Query(t, e, sql)
}

// Query returns a statement's answer as tab-separated text without the last newline, and fails the test if there is
// none.
func Query(t testing.TB, e embedded.Endpoint, sql string) string {
	t.Helper()
	answer, err := e.Ask(t.Context(), sql)
	if err != nil {
		t.Fatalf("clickhousetest: %s: %v", sql, err)
	}
	return strings.TrimSuffix(answer, "\n")
}

const noMain = "TestMain of this package must be: clickhousetest.Main(m)"

func config(dir string) embedded.Config {
	return embedded.Config{Dir: dir, MemoryLimitBytes: memoryLimitBytes, Threads: 2}
}

func (s *sharedServer) mainRuns() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hasMain
}

// get returns the server, starting it on the first call, and the number of the caller's database.
func (s *sharedServer) get() (*embedded.Server, int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.hasMain {
		return nil, 0, errors.New(noMain)
	}
	if s.server == nil && s.err == nil {
		s.startLocked()
	}
	s.databases++
	return s.server, s.databases, s.err
}

func (s *sharedServer) startLocked() {
	if s.dir, s.err = os.MkdirTemp("", "clickhousetest-"); s.err != nil {
		return
	}
	// The server outlives the test that happens to come first, and so its context.
	s.server, s.err = embedded.Start(context.Background(), config(s.dir))
}

func (s *sharedServer) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hasMain = false
	var err error
	if s.server != nil {
		err = s.server.Close()
	}
	if s.dir != "" {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	return errors.Join(err, s.stopShardsLocked())
}

// databaseName makes a name of letters, digits and underscores that begins with gpufleet, which the users' rights
// demand, tells the test, and is short enough for a directory.
func databaseName(test string, number int) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		default:
			return '_'
		}
	}, strings.ToLower(test))
	return fmt.Sprintf("%s_%.60s_%d", embedded.Database, clean, number)
}
