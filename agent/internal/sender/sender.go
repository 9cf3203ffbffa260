// SPDX-License-Identifier: Apache-2.0

// Package sender brings the batches of a spool to a collector: one Flight stream per table, each batch sent
// again until the collector says that it is stored or can never be, which settles it in the spool. Batches
// that earlier lives of the agent have left go first, epoch by epoch, each over a stream of its own.
package sender

import (
	"context"
	"crypto/tls"
	"log/slog"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/gpufleet/gpufleet/agent/internal/spool"
	"github.com/gpufleet/gpufleet/internal/batchtrace"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Config is where and as whom to send.
type Config struct {
	Collector    string        // host:port, or several: see collectors.Parse
	TLS          *tls.Config   // nil: plain text
	Token        string        // bearer token of this node; "" sends none
	Node         string        // name of the node
	Scope        wire.Scope    // what the node takes itself for, which the collector compares with what it proves
	RetryWait    time.Duration // wait after a stream broke, or a batch is asked for again: this, then longer, up to MaxRetryWait
	MaxRetryWait time.Duration
	WelcomeWait  time.Duration // where there are several collectors, how long one may take to welcome a stream
	Logger       *slog.Logger
	// OnOrder is told what the collector asks of the agent; it must not block. nil: the agent takes no orders.
	OnOrder func(wire.Order)
	Trace   *batchtrace.Tracer // nil: no batch is traced
}

// DefaultWelcomeWait is for a collector that has to take the agent over from another one: it may wait for an insert of
// that one to be ended.
const DefaultWelcomeWait = 45 * time.Second

// Sender sends what is in a spool while Run runs.
type Sender struct {
	cfg     Config
	streams []*stream // one per table
}

// New makes a sender. It alone may settle what is in the spool.
func New(cfg Config, s *spool.Spool) *Sender {
	made := &Sender{cfg: cfg}
	for _, t := range schema.Tables() {
		made.streams = append(made.streams, &stream{cfg: cfg, queue: s.Queue(t.ID)})
	}
	return made
}

// Resent counts the batches that were sent more than once.
func (s *Sender) Resent() (sum uint64) {
	for _, one := range s.streams {
		sum += one.resent.count.Load()
	}
	return sum
}

// Away says what was wrong when the collector was last tried; empty if it answers, or there was nothing to send yet.
func (s *Sender) Away() string {
	for _, one := range s.streams {
		if why := one.away.Load(); why != nil {
			return *why
		}
	}
	return ""
}

// Run sends until the context ends. What is not settled then stays in the spool.
func (s *Sender) Run(ctx context.Context) error {
	r, err := newRoute(s.cfg)
	if err != nil {
		return err
	}
	defer r.close()
	group, ctx := errgroup.WithContext(ctx)
	for _, one := range s.streams {
		group.Go(func() error {
			one.run(ctx, r)
			return nil
		})
	}
	return group.Wait()
}

func dialOptions(cfg Config) []grpc.DialOption {
	transport := insecure.NewCredentials()
	if cfg.TLS != nil {
		transport = credentials.NewTLS(cfg.TLS)
	}
	return []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithUserAgent("gpufleet-agent"),
		grpc.WithPerRPCCredentials(identity{node: cfg.Node, scope: cfg.Scope, token: cfg.Token, secure: cfg.TLS != nil, takesOrders: cfg.OnOrder != nil, traces: cfg.Trace.Every()}),
		grpc.WithReadBufferSize(4 << 10), // answers are small
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: cfg.RetryWait, Multiplier: 1.6, Jitter: 0.5, MaxDelay: cfg.MaxRetryWait},
			MinConnectTimeout: 5 * time.Second,
		}),
	}
}

// identity names the node with each stream, and proves it with its token. Over plain text it is only
// used on loopback: the agent's Config refuses anything else.
type identity struct {
	node, token string
	scope       wire.Scope
	secure      bool
	takesOrders bool
	traces      uint64 // one batch in so many; 0: none
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (i identity) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	headers := map[string]string{wire.NodeHeader: i.node}
	if i.takesOrders {
		headers[wire.OrdersHeader] = wire.OrderBurst
	}
	if i.traces > 0 {
		headers[wire.TracesHeader] = strconv.FormatUint(i.traces, 10)
	}
	if i.scope.Tenant != "" {
		headers[wire.TenantHeader] = i.scope.Tenant
	}
	if i.scope.Residency != "" {
		headers[wire.ResidencyHeader] = i.scope.Residency
	}
	if i.token != "" {
		headers["authorization"] = "Bearer " + i.token
	}
	return headers, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (i identity) RequireTransportSecurity() bool { return i.secure }
