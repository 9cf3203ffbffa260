// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/collector"
	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/internal/loopback"
)

// collectorConfig is a collector that inserts often, so that whatever happens, happens amid inserts.
func collectorConfig(t *testing.T, db embedded.Endpoint) collector.Config {
	t.Helper()
	cfg := collector.DefaultConfig()
	cfg.Name, cfg.Listen, cfg.DataDir, cfg.UnitWait = "e2e", "127.0.0.1:0", t.TempDir(), 100*time.Millisecond
	cfg.Database = collector.Endpoint{Address: db.HTTPAddress(), User: db.User, Password: db.Password, Database: db.Database}
	return cfg
}

// startCollector runs a collector in this process until stop, or the end of the test. It must stop cleanly.
func startCollector(t *testing.T, cfg collector.Config) (address string, stop func()) {
	t.Helper()
	listening := make(chan net.Addr, 8) // a collector of a cluster listens anew when nodes move
	cfg.OnListen = func(a net.Addr) { listening <- a }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- collector.Run(ctx, cfg) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("collector: %v", err)
		}
	})
	select {
	case a := <-listening:
		t.Cleanup(stop)
		return a.String(), stop
	case err := <-done:
		cancel()
		t.Fatalf("collector: %v", err)
		return "", nil
	}
}

// buildCollector builds the program once for the tests of a parent.
func buildCollector(t *testing.T) (program string) {
	t.Helper()
	const name = "gpufleet-collector"
	return filepath.Join(buildPrograms(t, name), name)
}

// buildPrograms builds programs into a directory.
func buildPrograms(t *testing.T, names ...string) (dir string) {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		t.Fatal("the path of this file is not known")
	}
	dir = t.TempDir()
	args := []string{"build", "-o", dir + string(filepath.Separator)}
	for _, name := range names {
		args = append(args, "./cmd/"+name)
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = filepath.Join(filepath.Dir(file), "..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %v: %v\n%s", names, err, output)
	}
	return dir
}

// process is a collector that can be killed. It listens on one address all its lives.
type process struct {
	t       *testing.T
	program string
	args    []string
	env     []string
	address string
	log     *os.File
	cmd     *exec.Cmd
}

// freeAddress is one on which nothing listens, for a program that listens on it again and again.
func freeAddress(t *testing.T) string {
	t.Helper()
	free, err := loopback.FreeAddress(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return free
}

// newProcess prepares a collector.
func newProcess(t *testing.T, program string, db embedded.Endpoint) *process {
	t.Helper()
	p := &process{t: t, program: program, address: freeAddress(t), env: append(os.Environ(), "GPUFLEET_CLICKHOUSE_PASSWORD="+db.Password)}
	p.args = []string{
		"--name", "e2e", "--listen", p.address, "--data", t.TempDir(), "--ops-listen", "", "--control", "", "--unit-wait", "100ms",
		"--clickhouse", db.HTTPAddress(), "--clickhouse-user", db.User, "--clickhouse-database", db.Database,
	}
	var err error
	if p.log, err = os.Create(filepath.Join(t.TempDir(), "collector.log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.kill()
		if text, err := os.ReadFile(p.log.Name()); err == nil && t.Failed() {
			t.Logf("collector:\n%s", text[max(0, len(text)-20_000):])
		}
		_ = p.log.Close()
	})
	return p
}

func (p *process) start() {
	p.t.Helper()
	p.cmd = exec.Command(p.program, p.args...)
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = p.env, p.log, p.log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

// kill ends the process in the middle of whatever it does.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	p.cmd = nil
}
