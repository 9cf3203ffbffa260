// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
)

// agentProcess is a real gpufleet-agent with a configuration file. It may run where there is no driver.
type agentProcess struct {
	t              *testing.T
	program        string
	config, folder string
	log            *os.File
	cmd            *exec.Cmd
}

// startAgent builds the agent and starts it.
func startAgent(t *testing.T, config string, args ...string) *agentProcess {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		t.Fatal("the path of this file is not known")
	}
	p := &agentProcess{t: t, folder: t.TempDir()}
	p.program = filepath.Join(p.folder, "gpufleet-agent")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", p.program, "./cmd/gpufleet-agent")
	build.Dir = filepath.Join(filepath.Dir(file), "..", "..")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the agent: %v\n%s", err, output)
	}
	p.config = filepath.Join(p.folder, "agent.yaml")
	p.configure(config)
	var err error
	if p.log, err = os.Create(filepath.Join(p.folder, "agent.log")); err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.Command(p.program, append([]string{
		"--config", p.config, "--control", p.socket(), "--spool-dir", filepath.Join(p.folder, "spool"), "--state-dir", p.folder,
	}, args...)...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		if t.Failed() {
			t.Logf("agent:\n%s", p.logged())
		}
		_ = p.log.Close()
	})
	return p
}

func (p *agentProcess) configure(config string) {
	p.t.Helper()
	if err := os.WriteFile(p.config, []byte(config), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *agentProcess) socket() string { return filepath.Join(p.folder, "agent.sock") }

// ask runs another gpufleet-agent that talks to this one, and returns what it says.
func (p *agentProcess) ask(command string, args ...string) string {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), p.program, append([]string{command, "--control", p.socket()}, args...)...)
	output, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Errorf("%s: %v\n%s", command, err, output)
	}
	return string(output)
}

func (p *agentProcess) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

func (p *agentProcess) logged() string {
	text, err := os.ReadFile(p.log.Name())
	if err != nil {
		p.t.Error(err)
	}
	return string(text)
}

// awaitLog waits until the log says something.
func (p *agentProcess) awaitLog(part string) {
	p.t.Helper()
	timeout := time.NewTimer(limitless)
	defer timeout.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(p.logged(), part) {
		select {
		case <-timeout.C:
			p.t.Fatalf("the log does not say %q", part)
		case <-tick.C:
		}
	}
}

// TestReload has a real agent read its configuration anew: while nobody takes its batches, with a file that is
// wrong, and with one that is right. Nothing of any of its lives is lost, whether they hand a spool on or not.
func TestReload(t *testing.T) {
	program := buildCollector(t)
	for name, dir := range map[string]string{"spool": filepath.Join(t.TempDir(), "spool"), "memory": ""} {
		t.Run(name, func(t *testing.T) { reloads(t, program, dir) })
	}
}

func reloads(t *testing.T, program, spool string) {
	t.Helper()
	db := clickhousetest.Start(t)
	c := newProcess(t, program, db.Writer)
	config := "collector: " + c.address + "\nnode: node-1\nplace: \"off\"\nsysfs: ''\nkernel-log: ''\nops-listen: 127.0.0.1:0\nflush: 1s\nspool-dir: '" + spool + "'\n"
	a := startAgent(t, config, "--interval", "500ms")
	a.awaitLog("operations server listens")
	a.awaitLog("control socket listens")
	a.configure(config + "cluster: east\n")
	a.signal(syscall.SIGHUP)
	a.awaitLog("changed: cluster")
	c.start()
	awaitAnswer(t, db.Reader, "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = 'gpu_events'", "1")
	events := func(kind string) string {
		return "SELECT count(), uniq(epoch), any(message) FROM gpu_events WHERE kind = '" + kind + "'"
	}
	awaitAnswer(t, db.Reader, "SELECT count(), uniq(epoch) FROM gpu_events WHERE kind = 'agent_started'", "2\t2")
	awaitAnswer(t, db.Reader, events("config_reloaded"), "1\t1\tchanged: cluster")

	a.configure(config + "cluster: east\nintervall: 2s\n")
	a.signal(syscall.SIGHUP)
	awaitAnswer(t, db.Reader, events("config_rejected"), "1\t1\t"+a.config+`:10: there is no setting "intervall": gpufleet-agent --help lists them`)
	a.configure(config + "cluster: west\n")
	a.signal(syscall.SIGHUP)
	awaitAnswer(t, db.Reader, "SELECT count(), uniq(epoch) FROM gpu_events WHERE kind = 'config_reloaded'", "2\t2")
	awaitAnswer(t, db.Reader, "SELECT cluster FROM node_inventory ORDER BY ts DESC LIMIT 1", "west")
	a.ask("release", "--reason", "driver 590")
	if got := a.ask("status"); !strings.Contains(got, "ago: driver 590") || !strings.Contains(got, "agent.yaml, read ") {
		t.Errorf("status of a released agent:\n%s", got)
	}
	a.ask("resume")
	awaitAnswer(t, db.Reader, "SELECT arraySort(groupArray(kind || ': ' || message)) FROM gpu_events WHERE kind LIKE 'driver_re%'",
		"['driver_released: driver 590','driver_resumed: asked to']")
	a.signal(syscall.SIGTERM)
	if err := a.cmd.Wait(); err != nil {
		t.Errorf("the agent ends with %v", err)
	}
	awaitAnswer(t, db.Reader, "SELECT count(), uniq(epoch) FROM gpu_events WHERE kind = 'agent_stopped'", "3\t3")
}
