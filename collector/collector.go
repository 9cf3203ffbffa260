// SPDX-License-Identifier: Apache-2.0

// Package collector takes batches from agents and stores them in ClickHouse, each exactly once. It
// promises that a batch which it answered with "stored" is in ClickHouse with all its rows and in the
// ledger; that one it answered with "accepted" is in its log, on disk, and will be stored also if its agent is no more;
// that one it answered with "rejected" is in its quarantine; and that of all others the agent still has the bytes.
//
//	agents ══ Arrow Flight ══▶ receiver → index → batchlog → store ══ native INSERT ══▶ ClickHouse
//	                              └─▶ quarantine      └─ replay ─┘ after a restart
package collector

import (
	"cmp"
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

	"github.com/gpufleet/gpufleet/collector/internal/admission"
	"github.com/gpufleet/gpufleet/collector/internal/otlpout"
	"github.com/gpufleet/gpufleet/collector/internal/receiver"
	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/collector/quarantine"
	"github.com/gpufleet/gpufleet/collector/trust"
	"github.com/gpufleet/gpufleet/internal/batchtrace"
	"github.com/gpufleet/gpufleet/internal/health"
	"github.com/gpufleet/gpufleet/internal/loopback"
	"github.com/gpufleet/gpufleet/internal/token"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Orders brings orders of an operator to agents.
type Orders = receiver.Orders

// NewOrders makes what Config.Orders wants.
func NewOrders() *Orders { return receiver.NewOrders() }

// Admits is whose rows a collector may store.
type Admits = admission.Admits

// AgentLimits are what one agent may do.
type AgentLimits = receiver.AgentLimits

// Endpoint is a ClickHouse's HTTP interface and whom to be there.
type Endpoint = store.Endpoint

// Config is all that a collector is told. Start from DefaultConfig.
type Config struct {
	Name    string // unique among the collectors of one database: a second one of the name does not start
	Program string // and version, for the record of schema changes
	Listen  string // host:port for agents
	TLS     *tls.Config
	Keys    []token.Key // fleet keys: agents need a token; none is only allowed on loopback
	// Trust takes the place of Keys where these, and the authorities of client certificates, may change; nil: they do not.
	Trust    *trust.Trust
	Admits   Admits      // whose rows may be stored
	Agents   AgentLimits // what each agent may do
	Database Endpoint
	Cluster  Cluster // that Database is a server of
	DataDir  string  // for the log and the quarantine

	UnitRows           int           // rows that are inserted together, at most about this many
	UnitWait           time.Duration // or what has come in this time
	MaxMemoryBytes     int64         // of batches on their way into ClickHouse
	MaxLogBytes        int64         // of accepted batches on disk; 0: batches are not accepted, only stored
	MaxQuarantineBytes int64
	MaxAge             time.Duration // older rows are quarantined
	MaxAhead           time.Duration // rows further in the future are quarantined

	Rollups   bool               // make gpu_samples_1m and gpu_samples_1h, or see to it that another collector does
	Retention []schema.Retention // of tables whose own is to be changed

	// Foreign is what other programs may push.
	Foreign Foreign
	// Export is where fleet metrics are told.
	Export Export

	// LeftPatience is how long an agent that has gone to another collector has to send it what this one had accepted,
	// before this one stores it; 0: a minute.
	LeftPatience time.Duration

	// Orders is how an operator asks agents for something; nil: they are asked for nothing.
	Orders *Orders

	Trace  *batchtrace.Tracer // nil: no batch is traced
	Logger *slog.Logger
	Meter  metric.Meter
	// OnListen is told the address once agents can connect, though their streams may still wait; nil if nobody asks.
	OnListen func(net.Addr)
	// OnReady is given, once streams are taken, what tells how things are; nil if nobody asks.
	OnReady func(checks func(context.Context) []health.Check)
	// OnStep is told of each step of a batch and of a unit, before the next one; nil if nobody asks. Tests end the
	// process there.
	OnStep func(step string)
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
		UnitRows: units.UnitRows, UnitWait: units.UnitWait, MaxMemoryBytes: 256 << 20, MaxLogBytes: 4 << 30, MaxQuarantineBytes: 1 << 30,
		MaxAge: 7 * 24 * time.Hour, MaxAhead: 5 * time.Minute, Agents: receiver.DefaultAgentLimits(), Rollups: true, Foreign: defaultForeign(), Export: Export{Interval: otlpout.DefaultInterval},
		Logger: slog.New(slog.DiscardHandler), Meter: noop.Meter{},
	}
}

var collectorName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`)

// Validate tells what is missing or cannot be honoured.
func (c Config) Validate() error {
	problems := []error{c.checkListen("listen address", c.Listen, "agents")}
	problems = append(problems, c.checkLimits(), c.checkAdmits(), checkDatabase(c.Database), c.checkCluster(), c.Foreign.check(c), c.Export.check())
	if !collectorName.MatchString(c.Name) {
		problems = append(problems, fmt.Errorf("collector name %q: 1 to 100 letters, digits, dots, dashes and underscores, as it goes into query ids", c.Name))
	}
	if c.DataDir == "" || c.Database.Address == "" || c.Database.Database == "" {
		problems = append(problems, errors.New("data directory, ClickHouse address and database must be given"))
	}
	return errors.Join(problems...)
}

// checkListen refuses to be reachable from outside by who proves nothing.
func (c Config) checkListen(what, address, who string) error {
	host, _, err := net.SplitHostPort(address)
	switch {
	case err != nil:
		return fmt.Errorf("%s %q: %w", what, address, err)
	case loopback.Is(host):
		return nil
	case c.TLS == nil:
		return fmt.Errorf("%s %s is reachable from outside: give a TLS certificate", what, address)
	case len(c.keys()) == 0 && c.TLS.ClientAuth != tls.RequireAndVerifyClientCert:
		return fmt.Errorf("%s %s is reachable from outside: give fleet keys or a client CA, so that %s must prove who they are", what, address, who)
	default:
		return nil
	}
}

// trusted is by what senders are known.
func (c Config) trusted() *trust.Trust {
	if c.Trust != nil {
		return c.Trust
	}
	return trust.Static(c.Keys)
}

// keys are the fleet keys of now.
func (c Config) keys() []token.Key { return c.trusted().Keys() }

// checkLimits looks at the numbers.
func (c Config) checkLimits() error {
	var problems []error
	if c.MaxAge <= 0 || c.MaxAge > maxMaxAge {
		problems = append(problems, fmt.Errorf("rows of up to %s: more than 0 and at most %s, for the ledger forgets what is older", c.MaxAge, maxMaxAge))
	}
	for _, r := range c.Retention {
		problems = append(problems, r.Validate(), c.checkRetention(r))
	}
	if c.UnitRows < 1 || c.UnitRows > 1_000_000 {
		problems = append(problems, fmt.Errorf("unit of %d rows: 1 to 1,000,000, so that it is one block", c.UnitRows))
	}
	if c.MaxMemoryBytes < minMemoryBytes {
		problems = append(problems, fmt.Errorf("memory of %d bytes for batches: at least 32 MiB", c.MaxMemoryBytes))
	}
	if c.MaxLogBytes != 0 && c.MaxLogBytes < minLogBytes {
		problems = append(problems, fmt.Errorf("log of %d bytes: at least 256 MiB, or 0 for none", c.MaxLogBytes))
	}
	return errors.Join(problems...)
}

// checkAdmits looks at whose rows are stored, and at what agents may do.
func (c Config) checkAdmits() error {
	var problems []error
	for _, zone := range c.Admits.Residencies {
		problems = append(problems, wire.Scope{Residency: cmp.Or(zone, " ")}.Check())
	}
	for _, tenant := range c.Admits.Tenants {
		problems = append(problems, wire.Scope{Tenant: cmp.Or(tenant, " ")}.Check())
	}
	a := c.Agents
	if a.BatchesPerSecond < 0 || a.BytesPerSecond < 0 || a.Streams < 0 || a.BatchRows < 0 || a.GPUs < 0 || a.EpochsPerHour < 0 {
		problems = append(problems, fmt.Errorf("limits of an agent %+v: none may be negative; 0 is no limit", a))
	}
	return errors.Join(problems...)
}

// minMemoryBytes leaves each table some batches.
const minMemoryBytes = 32 << 20

// checkRetention refuses to drop samples that could not be rolled up yet: what is late is rolled up with the rest of its
// hour.
func (c Config) checkRetention(r schema.Retention) error {
	samples, _ := schema.TableByID(schema.SamplesID)
	if keep := time.Duration(r.Days) * 24 * time.Hour; r.Table == samples.Name && r.Days > 0 && keep < c.MaxAge+24*time.Hour {
		return fmt.Errorf("%s is kept for %d days, and rows of up to %s are taken: keep it for a day more than that, or take less", r.Table, r.Days, c.MaxAge)
	}
	return nil
}

// minLogBytes leaves each table a few segments.
const minLogBytes = 256 << 20

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
	case !e.Secure && !e.Plaintext && !loopback.Is(host):
		return fmt.Errorf("ClickHouse %s is on another machine, and would be told the password in plain text: --clickhouse-tls, or --clickhouse-plaintext if the network may know it", e.Address)
	default:
		return nil
	}
}

// Run collects until the context ends; then it takes no more, stores what it has taken, and returns
// nil. When the cluster's map of nodes to shards changes it begins anew by that.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("collector configuration: %w", err)
	}
	kept, err := quarantine.Open(filepath.Join(cfg.DataDir, "quarantine"), cfg.MaxQuarantineBytes)
	if err != nil {
		return err
	}
	var t topology
	for {
		next, err := runOnce(ctx, &cfg, t, kept)
		if next == nil || ctx.Err() != nil {
			return err
		}
		if err != nil {
			cfg.Logger.Error("what went by the earlier map has not ended well", "error", err)
		}
		t = *next
		cfg.Logger.Info("the cluster has another map of nodes to shards: going by that", "map", t.holds().String())
	}
}

// runOnce collects by one map, which is still to be found if the topology has no shards. The next time is on the same port,
// whatever it was chosen by; it is given what it is to go by.
func runOnce(ctx context.Context, again *Config, t topology, kept *quarantine.Store) (next *topology, err error) {
	cfg := *again
	if len(t.shards) == 0 {
		if t, err = cfg.findTopology(ctx); err != nil {
			return nil, err
		}
	}
	p, err := newPipeline(cfg, t, kept)
	if err != nil {
		return nil, err
	}
	if !cfg.Cluster.on() { // else those that answer do not wait for the others
		if err := p.openOne(ctx); err != nil {
			return nil, errors.Join(err, p.close())
		}
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		err = fmt.Errorf("listen for agents: %w: is another collector running? --listen chooses another address", err)
		return nil, errors.Join(err, p.close())
	}
	again.Listen = listener.Addr().String()
	if cfg.OnListen != nil {
		cfg.OnListen(listener.Addr())
	}
	cfg.Logger.Info("collecting", "listen", listener.Addr().String(), "clickhouse", cfg.Database, "shards", len(t.shards), "name", cfg.Name)
	unregister, err := p.register()
	if err != nil {
		return nil, errors.Join(err, listener.Close(), p.close())
	}
	another, err := p.run(ctx, listener)
	err = errors.Join(err, unregister())
	if another {
		return &p.next, err
	}
	return nil, err
}
