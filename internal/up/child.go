// SPDX-License-Identifier: Apache-2.0

package up

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// child is a program that is started again when it ends by itself, and ends with us.
type child struct {
	logger    *slog.Logger
	path      string
	args, env []string
	logPath   string
	// restartWait is the time between two starts, at least; 0: childRestartWait.
	restartWait time.Duration

	mu       sync.Mutex // guards the fields below
	process  *os.Process
	stopping bool
	done     chan struct{}
	ended    chan struct{} // closed by stop
	restarts int
}

const (
	childStopWait    = 20 * time.Second
	childRestartWait = time.Second
)

func (c *child) start() {
	c.done, c.ended = make(chan struct{}), make(chan struct{})
	go c.supervise()
}

// supervise keeps the program running. The thread is ours alone: Linux ends the child when the thread
// that started it ends.
func (c *child) supervise() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(c.done)
	for {
		next := time.After(cmp.Or(c.restartWait, childRestartWait))
		err := c.once()
		if c.isStopping() {
			return
		}
		c.logger.Warn("program ended; starting it again", "program", c.path, "error", err)
		c.mu.Lock()
		c.restarts++
		c.mu.Unlock()
		select {
		case <-next:
		case <-c.ended:
			return
		}
	}
}

func (c *child) isStopping() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopping
}

// once runs the program until it ends.
func (c *child) once() error {
	log, err := os.OpenFile(c.logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open log of %s: %w", c.path, err)
	}
	defer log.Close()                        //nolint:errcheck // the child has its own handle
	cmd := exec.Command(c.path, c.args...)   //nolint:noctx,gosec // it is ended by signal, so that it can drain; the program is ours
	cmd.Env = append(os.Environ(), c.env...) //nolint:forbidigo // a child inherits our environment
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", c.path, err)
	}
	c.mu.Lock()
	c.process = cmd.Process
	stopping := c.stopping
	c.mu.Unlock()
	if stopping {
		c.signal(syscall.SIGTERM)
	}
	return cmd.Wait()
}

func (c *child) signal(s syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != nil {
		c.process.Signal(s) //nolint:errcheck // it may have ended already
	}
}

func (c *child) kill() { c.signal(syscall.SIGKILL) }

// stop asks the program to end, and ends it if it does not.
func (c *child) stop() error {
	c.mu.Lock()
	if !c.stopping {
		c.stopping = true
		close(c.ended)
	}
	c.mu.Unlock()
	c.signal(syscall.SIGTERM)
	timer := time.NewTimer(childStopWait)
	defer timer.Stop()
	select {
	case <-c.done:
		return nil
	case <-timer.C:
		c.kill()
		<-c.done
		return fmt.Errorf("%s did not stop within %s and was killed", c.path, childStopWait)
	}
}

// lastWords are the last lines of the log.
func (c *child) lastWords() string {
	text, err := os.ReadFile(c.logPath)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "\n")
}

func (c *child) restartCount() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.restarts
}
