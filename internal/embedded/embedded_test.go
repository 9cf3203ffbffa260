// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// parentEnv and fakeEnv make this test program play another part: a parent to be killed, a clickhouse on the PATH.
const (
	parentEnv = "GPUFLEET_TEST_PARENT"
	fakeEnv   = "GPUFLEET_TEST_FAKE_CLICKHOUSE"
)

func TestMain(m *testing.M) {
	RunIfChild()
	if record := getenv(fakeEnv); record != "" {
		exit(fakeClickHouse(record))
	}
	if dir := getenv(parentEnv); dir != "" {
		exit(parent(dir))
	}
	goleak.VerifyTestMain(m)
}

// parent starts a server, says which process it is, and waits to be killed.
func parent(dir string) int {
	server, err := Start(context.Background(), Config{Dir: dir})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprintln(os.Stdout, server.PID())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// journal is a log that tests can wait on.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(line []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(line)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

// small is a config for a test: its own directory, little memory, and a log.
func small(t *testing.T) (Config, *journal) {
	t.Helper()
	log := new(journal)
	return Config{
		Dir:              filepath.Join(t.TempDir(), "a & <b> 'c' \"d\""), // to be escaped everywhere
		MemoryLimitBytes: 1 << 30, Threads: 2, Logger: log.logger(),
	}, log
}

// start runs a server that is closed, and must close cleanly, at the end of the test.
func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	server, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return server
}

// must asks and fails the test if there is no answer.
func must(t *testing.T, e Endpoint, sql string) string {
	t.Helper()
	answer, err := e.Ask(t.Context(), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return strings.TrimSpace(answer)
}

// eventually waits for something that another process does.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}

func TestValidate(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Errorf("default config: %v", err)
	}
	for want, cfg := range map[string]Config{
		"data directory":   {},
		"http port -1":     {Dir: "d", HTTPPort: -1},
		"tcp port 65536":   {Dir: "d", TCPPort: 65536},
		"both 9000":        {Dir: "d", HTTPPort: 9000, TCPPort: 9000},
		"memory limit":     {Dir: "d", MemoryLimitBytes: 1 << 20},
		"threads 4096":     {Dir: "d", Threads: 4096},
		"least free disk":  {Dir: "d", MinFreeBytes: -1},
		"tcp port -5":      {Dir: "d", TCPPort: -5, Threads: -1},
		"threads -1 is no": {Dir: "d", TCPPort: -5, Threads: -1},
	} {
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v does not say %q", cfg, err, want)
		}
	}
}

func TestDefaultMemory(t *testing.T) {
	for machine, want := range map[int64]int64{0: 1 << 30, 4 << 30: 2 << 30, 1 << 40: 8 << 30} {
		if got := defaultMemoryBytes(machine); got != want {
			t.Errorf("machine with %d bytes: limit %d, want %d", machine, got, want)
		}
	}
	if got := machineMemoryBytes(); got < 64<<20 || got > 1<<50 {
		t.Errorf("this machine has %d bytes of memory", got)
	}
}

func TestEndpointHidesPassword(t *testing.T) {
	e := Endpoint{Host: host, HTTPPort: 8123, TCPPort: 9000, User: "u", Password: "secret", Database: "d"}
	log := new(journal)
	log.logger().Info("started", "endpoint", e)
	for _, text := range []string{fmt.Sprint(e), fmt.Sprintf("%+v", e), fmt.Sprintf("%#v", e), log.String()} {
		if strings.Contains(text, "secret") || !strings.Contains(text, "u@127.0.0.1:8123/d") {
			t.Errorf("endpoint shown as %s", text)
		}
	}
	if got := e.TCPAddress(); got != "127.0.0.1:9000" {
		t.Errorf("tcp address %s", got)
	}
}
