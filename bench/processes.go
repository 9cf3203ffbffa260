// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/internal/loopback"
	"github.com/gpufleet/gpufleet/internal/token"
)

// collector is the shipped program, as make build leaves it.
type collector struct {
	cmd     *exec.Cmd
	address string
	ops     string // address of its operations server
}

func startCollector(ctx context.Context, dir string, e embedded.Endpoint, key token.Key) (*collector, error) {
	address, err := loopback.FreeAddress(ctx)
	if err != nil {
		return nil, err
	}
	c := &collector{address: address}
	if c.ops, err = loopback.FreeAddress(ctx); err != nil {
		return nil, err
	}
	keyFile := filepath.Join(dir, "fleet.key")
	if err := token.WriteKey(keyFile, key); err != nil {
		return nil, err
	}
	c.cmd = exec.CommandContext(ctx, filepath.Join("bin", "gpufleet-collector"), "--listen", c.address, "--fleet-key", keyFile, //nolint:gosec // our own program
		"--clickhouse", e.HTTPAddress(), "--clickhouse-user", e.User, "--clickhouse-database", e.Database,
		"--data", filepath.Join(dir, "collector"), "--ops-listen", c.ops, "--control", "", "--log-level", "warn")
	c.cmd.Env = append(os.Environ(), "GPUFLEET_CLICKHOUSE_PASSWORD="+e.Password)
	c.cmd.Stderr = os.Stderr
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start collector (make build makes it): %w", err)
	}
	return c, c.await(ctx)
}

func (c *collector) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("collector did not listen on %s: %w", c.address, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (c *collector) pid() int { return c.cmd.Process.Pid }

// profile has the collector write down for some seconds where it spends its time.
func (c *collector) profile(ctx context.Context, seconds int, path string) error {
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", c.ops, seconds)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return fmt.Errorf("profile collector: %w", err)
	}
	client := &http.Client{Timeout: time.Duration(seconds)*time.Second + time.Minute}
	defer client.CloseIdleConnections()
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("profile collector: %w", err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("profile collector: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("profile collector: %s: %.200s", response.Status, content)
	}
	return os.WriteFile(path, content, 0o600)
}

func (c *collector) stop() error {
	err := errors.Join(c.cmd.Process.Signal(syscall.SIGTERM), c.cmd.Wait())
	if err != nil {
		return fmt.Errorf("stop collector: %w", err)
	}
	return nil
}

// ticksPerSecond is Linux's USER_HZ, the unit of /proc/PID/stat on every machine we run on.
const ticksPerSecond = 100

// cpuSeconds is the time that a process has spent, user and system; 0 if it cannot be read.
func cpuSeconds(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return (user + system) / ticksPerSecond
}

// rssMegabytes is the memory that a process has resident now.
func rssMegabytes(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseFloat(fields[1], 64)
	return pages * float64(os.Getpagesize()) / (1 << 20)
}

func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown CPU"
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimSpace(strings.TrimLeft(name, "\t :"))
		}
	}
	return "unknown CPU"
}
