// SPDX-License-Identifier: Apache-2.0

// Package collector takes batches from agents and stores them in ClickHouse, each exactly once. It
// promises that a batch which it answered with "stored" is in ClickHouse with all its rows and in the
// ledger; that one it answered with "rejected" is in its quarantine; and that of all others the agent
// still has the bytes.
//
//	agents ══ Arrow Flight ══▶ receiver → index → store ══ native INSERT ══▶ ClickHouse
//	                              └─▶ quarantine
package collector

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"golang.org/x/sync/errgroup"

	"github.com/gpufleet/gpufleet/collector/internal/index"
	"github.com/gpufleet/gpufleet/collector/internal/receiver"
	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/collector/quarantine"
	"github.com/gpufleet/gpufleet/internal/token"
)

// Endpoint is a ClickHouse's HTTP interface and whom to be there.
type Endpoint = store.Endpoint

// Config is all that a collector is told. Start from DefaultConfig.
type Config struct {
	Name     string // unique among the collectors of one database
	Program  string // and version, for the record of schema changes
	Listen   string // host:port for agents
	TLS      *tls.Config
	Keys     []token.Key // fleet keys: agents need a token; none is only allowed on loopback
	Database Endpoint
	DataDir  string // for the quarantine

	UnitRows           int           // rows that are inserted together, at most about this many
	UnitWait           time.Duration // or what has come in this time
	MaxMemoryBytes     int64         // of batches on their way into ClickHouse
	MaxQuarantineBytes int64
	MaxAge             time.Duration // older rows are quarantined
	MaxAhead           time.Duration // rows further in the future are quarantined

	Logger *slog.Logger
	Meter  metric.Meter
	// OnListen is told the address once agents can connect; nil if nobody asks.
	OnListen func(net.Addr)
	// OnReady is given, once agents can connect, what tells whether ClickHouse answers; nil if nobody asks.
	OnReady func(ping func(context.Context) error)
}

// DefaultConfig listens on loopback and inserts once a second.
func DefaultConfig() Config {
	name, err := os.Hostname()
	if err != nil {
		name = "collector"
	}
	units := store.DefaultConfig()
	return Config{
		Name: name, Listen: "127.0.0.1:4490", DataDir: "/var/lib/gpufleet/collector",
		Database: Endpoint{Address: "127.0.0.1:8123", User: "default", Database: "gpufleet"},
		UnitRows: units.UnitRows, UnitWait: units.UnitWait, MaxMemoryBytes: 256 << 20, MaxQuarantineBytes: 1 << 30,
		MaxAge: 7 * 24 * time.Hour, MaxAhead: 5 * time.Minute,
		Logger: slog.New(slog.DiscardHandler), Meter: noop.Meter{},
	}
}

var collectorName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`)

// Validate tells what is missing or cannot be honoured.
func (c Config) Validate() error {
	var problems []error
	host, _, err := net.SplitHostPort(c.Listen)
	switch {
	case err != nil:
		problems = append(problems, fmt.Errorf("listen address %q: %w", c.Listen, err))
	case !loopback(host) && c.TLS == nil:
		problems = append(problems, fmt.Errorf("listen address %s is reachable from outside: give a TLS certificate", c.Listen))
	case !loopback(host) && len(c.Keys) == 0 && (c.TLS.ClientAuth != tls.RequireAndVerifyClientCert):
		problems = append(problems, fmt.Errorf("listen address %s is reachable from outside: give fleet keys or a client CA, so that agents must prove who they are", c.Listen))
	}
	problems = append(problems, c.checkLimits(), checkDatabase(c.Database))
	if !collectorName.MatchString(c.Name) {
		problems = append(problems, fmt.Errorf("collector name %q: 1 to 100 letters, digits, dots, dashes and underscores, as it goes into query ids", c.Name))
	}
	if c.DataDir == "" || c.Database.Address == "" || c.Database.Database == "" {
		problems = append(problems, errors.New("data directory, ClickHouse address and database must be given"))
	}
	return errors.Join(problems...)
}

// checkLimits looks at the numbers.
func (c Config) checkLimits() error {
	var problems []error
	if c.MaxAge <= 0 || c.MaxAge > maxMaxAge {
		problems = append(problems, fmt.Errorf("rows of up to %s: more than 0 and at most %s, for the ledger forgets what is older", c.MaxAge, maxMaxAge))
	}
	if c.UnitRows < 1 || c.UnitRows > 1_000_000 {
		problems = append(problems, fmt.Errorf("unit of %d rows: 1 to 1,000,000, so that it is one block", c.UnitRows))
	}
	if c.MaxMemoryBytes < 32<<20 {
		problems = append(problems, fmt.Errorf("memory of %d bytes for batches: at least 32 MiB", c.MaxMemoryBytes))
	}
	return errors.Join(problems...)
}

// maxMaxAge leaves the ledger a day beside what it remembers.
const maxMaxAge = 28 * 24 * time.Hour

// checkDatabase refuses to tell the password to whoever listens.
func checkDatabase(e Endpoint) error {
	host, _, err := net.SplitHostPort(e.Address)
	switch {
	case e.Address == "":
		return nil // said already
	case err != nil:
		return fmt.Errorf("ClickHouse address %q: %w", e.Address, err)
	case !e.Secure && e.Authorities != nil:
		return errors.New("authorities for ClickHouse are given without TLS: --clickhouse-tls")
	case !e.Secure && !e.Plaintext && !loopback(host):
		return fmt.Errorf("ClickHouse %s is on another machine, and would be told the password in plain text: --clickhouse-tls, or --clickhouse-plaintext if the network may know it", e.Address)
	default:
		return nil
	}
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Run collects until the context ends; then it takes no more, stores what it has taken, and returns
// nil.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("collector configuration: %w", err)
	}
	kept, err := quarantine.Open(filepath.Join(cfg.DataDir, "quarantine"), cfg.MaxQuarantineBytes)
	if err != nil {
		return err
	}
	units := store.DefaultConfig()
	units.Program = cfg.Program
	units.Endpoint, units.Name, units.Logger, units.Meter = cfg.Database, cfg.Name, cfg.Logger, cfg.Meter
	units.UnitRows, units.UnitWait, units.MaxAge = cfg.UnitRows, cfg.UnitWait, cfg.MaxAge
	stored, err := store.Open(ctx, units)
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		err = fmt.Errorf("listen for agents: %w: is another collector running? --listen chooses another address", err)
		return errors.Join(err, stored.Close())
	}
	if cfg.OnListen != nil {
		cfg.OnListen(listener.Addr())
	}
	if cfg.OnReady != nil {
		cfg.OnReady(stored.Ping)
	}
	cfg.Logger.Info("collecting", "listen", listener.Addr().String(), "clickhouse", cfg.Database, "name", cfg.Name)
	return collect(ctx, cfg, stored, kept, listener)
}

// collect stops in this order: streams first, so that nothing more comes in; then the store, once it
// has written what it was given.
func collect(ctx context.Context, cfg Config, stored *store.Store, kept *quarantine.Store, listener net.Listener) error {
	storing, stopStoring := context.WithCancel(context.WithoutCancel(ctx))
	defer stopStoring()
	receiving, stopReceiving := context.WithCancel(ctx)
	defer stopReceiving()
	var group errgroup.Group
	group.Go(func() error {
		defer stopReceiving()
		return stored.Run(storing)
	})
	group.Go(func() error {
		defer stopStoring()
		return receiver.Serve(receiving, listener, receiver.Config{
			Name: cfg.Name, TLS: cfg.TLS, Keys: cfg.Keys, MaxMemoryBytes: cfg.MaxMemoryBytes, MaxAge: cfg.MaxAge, MaxAhead: cfg.MaxAhead,
			Store: stored, Index: index.New(stored), Quarantine: kept, Logger: cfg.Logger, Meter: cfg.Meter,
		})
	})
	return group.Wait()
}
