// SPDX-License-Identifier: Apache-2.0

package up

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/internal/loopback"
	"github.com/gpufleet/gpufleet/internal/token"
)

// programs are found beside this one, where make build puts them.
func program(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	path := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("find %s beside %s: %w: run `make build`", name, self, err)
	}
	return path, nil
}

// startCollectors starts the collectors, with a fleet key of their own, and waits until agents can connect.
func (p *pipeline) startCollectors(ctx context.Context) error {
	path, err := program("gpufleet-collector")
	if err != nil {
		return err
	}
	keyFile := filepath.Join(p.cfg.DataDir, "fleet.key")
	if p.key, err = fleetKey(keyFile); err != nil {
		return err
	}
	addresses := make([]string, max(1, p.cfg.Collectors))
	metrics := make([]string, len(addresses))
	for n := range addresses {
		if addresses[n], err = loopback.FreeAddress(ctx); err != nil {
			return err
		}
		if metrics[n], err = loopback.FreeAddress(ctx); err != nil {
			return err
		}
		c := p.newCollector(path, keyFile, addresses[n], metrics[n], n)
		p.collectors = append(p.collectors, c)
		c.start()
	}
	p.address = strings.Join(addresses, ",")
	for n, c := range p.collectors {
		if err := awaitCollector(ctx, addresses[n], c); err != nil {
			return err
		}
	}
	return p.tellMetrics(metrics)
}

// newCollector is the n-th collector, on two ports of loopback.
func (p *pipeline) newCollector(path, keyFile, address, metrics string, n int) *child {
	name, place := "up", filepath.Join(p.cfg.DataDir, "collector")
	if n > 0 {
		name, place = fmt.Sprintf("up-%d", n+1), fmt.Sprintf("%s-%d", place, n+1)
	}
	writer := p.writer
	c := &child{
		logger: p.logger, path: path, logPath: place + ".log",
		args: []string{
			"--name", name, "--listen", address, "--fleet-key", keyFile, "--ops-listen", metrics, "--control", place + ".sock",
			"--clickhouse", writer.Address, "--clickhouse-user", writer.User, "--clickhouse-database", writer.Database,
			"--data", place,
		},
		env: []string{"GPUFLEET_CLICKHOUSE_PASSWORD=" + writer.Password},
	}
	if writer.Secure {
		c.args = append(c.args, "--clickhouse-tls")
	}
	for _, table := range slices.Sorted(maps.Keys(p.cfg.RetentionDays)) {
		c.args = append(c.args, "--retention-days", fmt.Sprintf("%s=%d", table, p.cfg.RetentionDays[table]))
	}
	c.args = append(c.args, p.clusterArgs()...)
	if n == 0 { // its ports are one collector's
		c.args = append(c.args, p.foreignArgs()...)
	}
	return c
}

// metricsFile is where a pipeline that runs says where its collectors have their metrics, one a line.
func metricsFile(dataDir string) string { return filepath.Join(dataDir, "collector-metrics") }

func (p *pipeline) tellMetrics(addresses []string) error {
	if err := os.WriteFile(metricsFile(p.cfg.DataDir), []byte(strings.Join(addresses, "\n")+"\n"), 0o600); err != nil {
		return fmt.Errorf("say where the collectors' metrics are: %w", err)
	}
	return nil
}

// Metrics are the addresses, host:port, of the metrics of the collectors of a pipeline that runs; none if there is no such one.
func Metrics(dataDir string) ([]string, error) {
	text, err := os.ReadFile(metricsFile(dataDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("find the collectors of %s: %w", dataDir, err)
	}
	return strings.Fields(string(text)), nil
}

// clusterArgs are the collector's flags if there are several shards.
func (p *pipeline) clusterArgs() (args []string) {
	if p.servers == nil || len(p.servers.Servers()) == 1 {
		return nil
	}
	args = append(args, "--clickhouse-cluster", embedded.ClusterName)
	for _, s := range p.servers.Servers() {
		args = append(args, "--clickhouse-shard", s.Writer().HTTPAddress())
	}
	return args
}

// foreignArgs are the collector's flags for other programs.
func (p *pipeline) foreignArgs() (args []string) {
	for flag, value := range map[string]string{"--otlp-listen": p.cfg.OTLPListen, "--otlp-http-listen": p.cfg.OTLPHTTPListen, "--otlp-out": p.cfg.OTLPOut} {
		if value != "" {
			args = append(args, flag, value)
		}
	}
	return args
}

// sayForeign tells where other programs may push, and how they get the token for it.
func (p *pipeline) sayForeign() {
	for protocol, at := range map[string]string{"OTLP over gRPC": p.cfg.OTLPListen, "OTLP over HTTP and remote write": p.cfg.OTLPHTTPListen} {
		if at != "" {
			p.screen.say("%s on %s; tokens: gpufleet token source:otlp --fleet-key %s", protocol, at, filepath.Join(p.cfg.DataDir, "fleet.key"))
		}
	}
}

func fleetKey(path string) (token.Key, error) {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if err := token.WriteKey(path, token.NewKey()); err != nil {
			return token.Key{}, err
		}
	}
	keys, err := token.ReadKeys(path)
	if err != nil {
		return token.Key{}, err
	}
	return keys[0], nil
}

// collectorWait is how long a collector may take until agents can connect.
const collectorWait = 30 * time.Second

func awaitCollector(ctx context.Context, address string, c *child) error {
	ctx, cancel := context.WithTimeout(ctx, collectorWait)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("collector did not listen on %s within %s; its last words: %s", address, collectorWait, c.lastWords())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (p *pipeline) killCollector() { p.collectors[0].kill() }

func (p *pipeline) collectorRestarts() (sum int) {
	for _, c := range p.collectors {
		sum += c.restartCount()
	}
	return sum
}

// killClickHouse kills the last shard: the first one is asked for the view.
func (p *pipeline) killClickHouse() {
	pid := 0
	if p.servers != nil {
		all := p.servers.Servers()
		pid = all[len(all)-1].PID()
	}
	if pid <= 0 { // not ours, or being started again: 0 would be our own process group
		p.logger.Warn("no ClickHouse of ours runs; nothing to kill")
		return
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		p.logger.Error("kill ClickHouse", "error", err)
	}
}
