// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"
)

// ChildEnv names the environment variable by which a process knows that it was started to be ClickHouse.
const ChildEnv = "GPUFLEET_EMBEDDED_CLICKHOUSE_CHILD"

// orphanLife is how long a child may take to end after its parent is gone.
const orphanLife = 60 * time.Second

// guardGrace is how long a ClickHouse program may take to end; it is shorter than what the parent grants the guard.
const guardGrace = stopGrace - 5*time.Second

// childSpec is the value of ChildEnv.
type childSpec struct {
	Program program  `json:"program"`
	Read    []string `json:"read"`  // what libchdb may read besides the system's files
	Write   []string `json:"write"` // what libchdb may write
}

// RunIfChild turns this process into the embedded ClickHouse, and never returns, if it was started for that. Else it
// returns at once. Call it first in main and in TestMain, before flags are parsed.
func RunIfChild() {
	text := getenv(ChildEnv)
	if text == "" {
		return
	}
	status := 0
	if err := runChild(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	exit(status)
}

// getenv reads the environment, for the few settings that a child, or a whole machine, has in it.
func getenv(name string) string {
	return os.Getenv(name) //nolint:forbidigo // a child's task can only come this way, and LibraryEnv is documented
}

// exit ends the child, which has no main of its own.
func exit(status int) {
	os.Exit(status) //nolint:forbidigo // this is the child's main
}

func runChild(text string) error {
	var spec childSpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		return fmt.Errorf("parse %s: %w", ChildEnv, err)
	}
	if err := os.Unsetenv(ChildEnv); err != nil {
		return fmt.Errorf("clear %s: %w", ChildEnv, err)
	}
	// A signal to all processes of a service or a terminal is for the parent, which still has rows to store when it
	// ends; this child ends when the parent has. Caught and not ignored, as the latter would be inherited.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP) //nolint:forbidigo // the child's main
	if spec.Program.Library == "" {
		return guard(spec.Program, os.Stdin)
	}
	debug.SetGCPercent(-1) // nothing of ours runs from here on
	go endWithParent(os.Stdin)
	// ClickHouse starts its threads from this one, and they inherit its sandbox.
	runtime.LockOSThread()
	return runLibrary(spec)
}

// endWithParent ends this process by force if ClickHouse does not end by itself after the parent is gone.
func endWithParent(lifeline io.Reader) {
	_, _ = io.Copy(io.Discard, lifeline) // nothing is ever written: this returns when the parent is gone
	<-time.After(orphanLife)
	exit(1)
}

// guard runs a ClickHouse program, which knows nothing of pipes, and stops it when the parent's pipe closes.
func guard(p program, lifeline io.Reader) error {
	runtime.LockOSThread() // the death signal is tied to the thread that starts the program
	//nolint:noctx,gosec // ended by the pipe; the program is the one that Start found
	cmd := exec.Command(p.Executable, p.Arguments...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start ClickHouse: %w", err)
	}
	var reason error // set before exited is closed
	exited, parentGone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(exited)
		reason = exitReason(cmd.Wait())
	}()
	go func() {
		defer close(parentGone)
		_, _ = io.Copy(io.Discard, lifeline) // as in endWithParent
	}()
	select {
	case <-exited:
		return fmt.Errorf("%s ended by itself: %w", p.Executable, reason)
	case <-parentGone:
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop ClickHouse: %w", err)
	}
	select {
	case <-exited:
		return nil
	case <-time.After(guardGrace):
		return cmd.Process.Kill()
	}
}
