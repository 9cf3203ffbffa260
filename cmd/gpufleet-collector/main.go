// SPDX-License-Identifier: Apache-2.0

// Command gpufleet-collector takes batches from agents and stores them in ClickHouse.
package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/gpufleet/gpufleet/collector"
	"github.com/gpufleet/gpufleet/collector/control"
	"github.com/gpufleet/gpufleet/collector/trust"
	"github.com/gpufleet/gpufleet/internal/batchtrace"
	"github.com/gpufleet/gpufleet/internal/health"
	"github.com/gpufleet/gpufleet/internal/ops"
)

// passwordEnv keeps the password out of the process list.
const passwordEnv = "GPUFLEET_CLICKHOUSE_PASSWORD" //nolint:gosec // the name of a variable, not a secret

type options struct {
	collector collector.Config
	tls       ops.TLSFiles
	trust     trust.Files
	database  ops.ClientTLSFiles
	export    ops.ClientTLSFiles
	ops       string
	opsTLS    ops.TLSFiles
	traces    string // receiver of OTLP
	every     uint64 // one batch in so many is traced
	control   string // path of the control socket; "" none
	level     string
	format    string
	retention retentionFlags
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "gpufleet-collector:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	o := options{collector: collector.DefaultConfig()}
	c := &cobra.Command{
		Use:   "gpufleet-collector",
		Short: "Take batches from gpufleet agents and store them in ClickHouse, each exactly once",
		Long: "gpufleet-collector takes batches from agents by Arrow Flight and stores them in ClickHouse, each\n" +
			"exactly once. The password of ClickHouse is read from " + passwordEnv + ".",
		Example: "  " + passwordEnv + "=… gpufleet-collector --listen 0.0.0.0:4490 --tls-cert server.pem --tls-key server.key \\\n" +
			"      --fleet-key fleet.key --clickhouse ch.example:8443 --clickhouse-user gpufleet_writer --clickhouse-tls",
		Version: ops.Version(), Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(c *cobra.Command, _ []string) error { return run(c.Context(), o) },
	}
	f := c.Flags()
	f.StringVar(&o.collector.Name, "name", o.collector.Name, "name of this collector, unique in its database")
	f.StringVar(&o.collector.Listen, "listen", o.collector.Listen, "address for agents; beyond loopback it needs TLS and proof of identity")
	f.StringVar(&o.tls.Cert, "tls-cert", "", "PEM file of the certificate for agents")
	f.StringVar(&o.tls.Key, "tls-key", "", "PEM file of its private key")
	f.StringVar(&o.tls.ClientCA, "tls-client-ca", "", "PEM file of authorities; agents must then show a certificate for their node")
	f.StringVar(&o.trust.Revoked, "tls-client-revoked", "", "PEM or DER file of certificate revocation lists of those authorities")
	f.StringVar(&o.trust.FleetKeys, "fleet-key", "", "file of fleet keys; agents must then hold a token (gpufleet token)")
	f.StringVar(&o.trust.Tokens, "tokens-revoked", "", "file of ids of tokens that count no more, one a line (gpufleet token --id); read anew when it changes")
	addAdmission(c, &o.collector)
	f.StringVar(&o.collector.Database.Address, "clickhouse", o.collector.Database.Address, "address of ClickHouse's HTTP interface")
	f.StringVar(&o.collector.Cluster.Name, "clickhouse-cluster", "", "cluster that it is a server of, as system.clusters calls it: each shard stores the rows of its own nodes; empty: the one server has everything")
	f.StringArrayVar(&o.collector.Cluster.Shards, "clickhouse-shard", nil, "HTTP address of a shard, once for each in their order, the same replica for all collectors; none: the hosts of the cluster, with the port of --clickhouse")
	f.BoolVar(&o.collector.Cluster.Replicated, "clickhouse-replicated", false, "the cluster has ClickHouse Keeper, and its tables are replicated")
	f.StringVar(&o.collector.Database.User, "clickhouse-user", o.collector.Database.User, "user that may create and write the tables")
	f.StringVar(&o.collector.Database.Database, "clickhouse-database", o.collector.Database.Database, "database")
	f.BoolVar(&o.collector.Database.Secure, "clickhouse-tls", false, "speak HTTPS with ClickHouse")
	f.StringVar(&o.database.CA, "clickhouse-ca", "", "PEM file of authorities that ClickHouse's certificate must come from; empty: the system's")
	f.BoolVar(&o.collector.Database.Plaintext, "clickhouse-plaintext", false, "speak HTTP with a ClickHouse on another machine: the network learns the password")
	f.StringVar(&o.collector.DataDir, "data", o.collector.DataDir, "directory for the log and the quarantine")
	f.IntVar(&o.collector.UnitRows, "unit-rows", o.collector.UnitRows, "insert at the latest when this many rows have come")
	f.DurationVar(&o.collector.UnitWait, "unit-wait", o.collector.UnitWait, "or when the first of them has waited this long; events wait a tenth of it")
	f.Int64Var(&o.collector.MaxMemoryBytes, "memory-bytes", o.collector.MaxMemoryBytes, "batches of agents on their way into ClickHouse, at most, in equal parts for the shards of a cluster; what is stored out of the log after a restart comes on top")
	f.Int64Var(&o.collector.MaxLogBytes, "log-bytes", o.collector.MaxLogBytes, "size of the log of accepted batches, at most, in equal parts for the shards of a cluster; 0: none is kept, agents alone have what is not stored")
	f.Int64Var(&o.collector.MaxQuarantineBytes, "quarantine-bytes", o.collector.MaxQuarantineBytes, "size of the quarantine, at most")
	f.DurationVar(&o.collector.MaxAge, "max-age", o.collector.MaxAge, "older rows are quarantined")
	f.DurationVar(&o.collector.MaxAhead, "max-ahead", o.collector.MaxAhead, "rows further in the future are quarantined")
	o.rollupFlags(f)
	o.foreignFlags(f)
	f.StringVar(&o.ops, "ops-listen", "127.0.0.1:4491", "address of /metrics, /healthz and /readyz; empty: none")
	f.StringVar(&o.opsTLS.Cert, "ops-tls-cert", "", "PEM file of the certificate for them; beyond loopback it is needed")
	f.StringVar(&o.opsTLS.Key, "ops-tls-key", "", "PEM file of its private key")
	f.StringVar(&o.control, "control", control.DefaultPath, "socket by which gpufleet burst on this machine reaches the agents; its owner alone may open it; empty: none")
	f.StringVar(&o.traces, "otlp-traces", "", "send traces of batches to this receiver of OTLP: http://host:4318 or grpc://host:4317; empty: as OTEL_EXPORTER_OTLP_ENDPOINT says, or none")
	f.Uint64Var(&o.every, "trace-every", batchtrace.DefaultEvery, "trace one batch in so many; agents that say the same trace the same ones")
	f.StringVar(&o.level, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.format, "log-format", "text", "text or json")
	return c
}

// rollupFlags are those of what becomes of stored rows.
func (o *options) rollupFlags(f *pflag.FlagSet) {
	f.BoolVar(&o.collector.Rollups, "rollups", true, "roll samples up by minute and hour, and account the hours; of several collectors one does, and the others see to it")
	o.retention.add(f)
}

func run(ctx context.Context, o options) error {
	logger, err := ops.NewLogger(os.Stderr, o.level, o.format)
	if err != nil {
		return err
	}
	telemetry, err := ops.NewTelemetry("gpufleet-collector")
	if err != nil {
		return err
	}
	traces, err := ops.NewTraces(ctx, ops.TraceConfig{Service: "gpufleet-collector", Endpoint: o.traces, Getenv: os.Getenv, IDs: batchtrace.IDs{}, Log: logger})
	if err != nil {
		return err
	}
	cfg := o.collector
	if cfg.Retention, err = o.retention.wanted(); err != nil {
		return err
	}
	cfg.Trace = batchtrace.New(traces.Provider(), o.every)
	cfg.Logger, cfg.Meter = logger, telemetry.MeterProvider().Meter("gpufleet")
	cfg.Program = "gpufleet-collector " + ops.Version()
	limitMemory(memlimit.FromCgroup, logger)
	cfg.Database.Password = os.Getenv(passwordEnv)
	if err := o.admission(&cfg); err != nil {
		return err
	}
	if cfg.Database.Authorities, err = o.authorities(); err != nil {
		return err
	}
	if cfg.Export.TLS, err = o.exportTLS(); err != nil {
		return err
	}
	if o.control != "" {
		cfg.Orders = collector.NewOrders()
	}
	ready := &readiness{}
	cfg.OnReady = ready.set
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return collect(ctx, cfg) })
	group.Go(func() error { return watch(ctx, cfg.Trust) })
	if o.control != "" {
		group.Go(func() error {
			control.Serve(ctx, control.Config{Path: o.control, Orders: cfg.Orders, Logger: logger})
			return nil
		})
	}
	if o.ops != "" {
		group.Go(func() error {
			return ops.Serve(ctx, ops.ServerConfig{Addr: o.ops, TLS: o.opsTLS, Service: "gpufleet-collector", Metrics: telemetry.Handler(), Ready: ready.check, Log: logger})
		})
	}
	err = group.Wait()
	return errors.Join(ignore(err, errStopped), traces.Close(context.WithoutCancel(ctx)), telemetry.Close(context.WithoutCancel(ctx)))
}

// authorities are those whose certificates ClickHouse may have; nil: the system's.
func (o options) authorities() (*x509.CertPool, error) {
	if o.database.CA == "" {
		return nil, nil
	}
	trusting, err := o.database.Client()
	if err != nil {
		return nil, err
	}
	return trusting.RootCAs, nil
}

// errStopped ends the operations server with the collector.
var errStopped = errors.New("collector has stopped")

func ignore(err, harmless error) error {
	if errors.Is(err, harmless) {
		return nil
	}
	return err
}

func collect(ctx context.Context, cfg collector.Config) error {
	if err := collector.Run(ctx, cfg); err != nil {
		return err
	}
	return errStopped
}

// readiness is what /readyz says: nothing is taken before the collector has begun, and then what it says itself.
type readiness struct {
	checks atomic.Pointer[func(context.Context) []health.Check]
}

func (r *readiness) set(checks func(context.Context) []health.Check) { r.checks.Store(&checks) }

func (r *readiness) check(ctx context.Context) []health.Check {
	checks := r.checks.Load()
	if checks == nil {
		return []health.Check{health.Of("streams", errWaiting)}
	}
	return (*checks)(ctx)
}

var errWaiting = errors.New("waiting for ClickHouse: what was accepted is compared with it before a stream is taken")
