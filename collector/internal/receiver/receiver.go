// SPDX-License-Identifier: Apache-2.0

// Package receiver takes batches from agents by Arrow Flight. It believes nothing: who sends is
// proved by a token or a certificate, every batch by its checksum, its shape by the table's own
// schema, and its times by the clock, before a row of it goes on. What fails is refused or put into
// quarantine, with the reason, and no other agent notices.
package receiver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/klauspost/compress/zstd"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/gpufleet/gpufleet/collector/internal/admission"
	"github.com/gpufleet/gpufleet/collector/internal/aside"
	"github.com/gpufleet/gpufleet/collector/internal/index"
	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/collector/trust"
	"github.com/gpufleet/gpufleet/internal/batchtrace"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Store takes admitted batches.
type Store interface {
	// Submit hands a batch over; it blocks while the store is behind.
	Submit(ctx context.Context, i store.Item) error
	// Quarantined records that a batch can never be stored.
	Quarantined(ctx context.Context, k wire.Key, rows int64, reason string) error
}

// Index knows what has come already.
type Index interface {
	// Open prepares for the batches of a life. An error says that they cannot be taken now.
	Open(ctx context.Context, l index.Life, from uint64, over func()) (*index.Hold, error)
}

// Log keeps batches on disk until they are settled.
type Log interface {
	// Append calls done once the batch is durable, or with why it is not.
	Append(b *wire.Batch, done func(error))
	Settle(keys ...wire.Key)
}

// Config is what is admitted.
type Config struct {
	Name           string // of this collector
	TLS            *tls.Config
	Trust          *trust.Trust          // by what agents are known; no keys: tokens are not asked for
	Admits         admission.Admits      // whose rows may be stored
	Agents         AgentLimits           // what each may do
	MaxMemoryBytes int64                 // of batches that are admitted and not stored yet; more is left in the network
	MaxAge         time.Duration         // rows older than this are quarantined
	MaxAhead       time.Duration         // and rows further in the future than this
	Shards         int                   // that have a part of the memory each; 0: one
	ShardOf        func(node uint64) int // from 0 on; nil: there is one
	Store          Store
	Index          Index
	Quarantine     aside.Files        // keeps refused batches
	Log            Log                // nil: batches are not accepted, only stored
	Left           func(wire.Key)     // is told of a batch of the log that is not stored because another collector has its agent; nil: nobody is
	Orders         *Orders            // nil: agents are asked for nothing
	Load           *Load              // is told what there is; nil: nobody asks
	Trace          *batchtrace.Tracer // nil: no batch is traced
	Logger         *slog.Logger
	Meter          metric.Meter
	now            func() time.Time
	limits         limits
}

// limits are what a stream may take; the zero value stands for defaultLimits.
type limits struct {
	helloWait  time.Duration // for a new stream to say who it is
	stopGrace  time.Duration // for the streams to end by themselves at a stop, and for last answers to be read
	maxAnswers int           // that wait for an agent that does not read: more than one ever has batches under way
	maxDamaged int           // messages of a life whose bytes are kept
	guardEvery time.Duration // between two looks whether streams are still proved
}

var defaultLimits = limits{helloWait: 20 * time.Second, stopGrace: 5 * time.Second, maxAnswers: 1 << 16, maxDamaged: 8, guardEvery: time.Second}

// Receiver is the Flight service. Only DoPut is implemented.
type Receiver struct {
	flight.BaseFlightServer
	cfg    Config
	zstd   *zstd.Decoder
	shares []map[uint8]*share // of the memory, by shard and table
	// decoders of the batches, by table: they share the memory that they read into
	decoders map[uint8]*wire.Decoder
	damage   damage
	guests   guests

	streamsMu sync.Mutex // guards streams
	streams   map[*stream]struct{}
	// joined are the guard, and the goroutines that wait in Recv and Send; these end after their stream.
	joined  sync.WaitGroup
	metrics *instruments
	stop    context.Context //nolint:containedctx // ends every stream at a stop: gRPC makes the streams' own contexts
}

// newReceiver makes the service. Its decompressor must be closed.
func newReceiver(stop context.Context, cfg Config) (*Receiver, error) {
	if cfg.now == nil {
		cfg.now = time.Now
	}
	if cfg.Load == nil {
		cfg.Load = NewLoad()
	}
	if cfg.Shards < 1 || cfg.ShardOf == nil {
		cfg.Shards, cfg.ShardOf = 1, func(uint64) int { return 0 }
	}
	if cfg.limits == (limits{}) {
		cfg.limits = defaultLimits
	}
	if cfg.Trust == nil {
		cfg.Trust = trust.Static(nil)
	}
	metrics, err := newInstruments(cfg.Meter)
	if err != nil {
		return nil, err
	}
	z, err := wire.NewDecompressor()
	if err != nil {
		return nil, err
	}
	r := &Receiver{
		cfg: cfg, zstd: z, decoders: make(map[uint8]*wire.Decoder), metrics: metrics, stop: stop,
		damage: damage{lives: make(map[index.Life]int)}, guests: guests{limits: cfg.Agents, nodes: make(map[uint64]*guest)},
		streams: make(map[*stream]struct{}),
	}
	for range cfg.Shards { // one that is away fills its own part and no other's
		r.shares = append(r.shares, newShares(cfg.MaxMemoryBytes/int64(cfg.Shards)))
	}
	cfg.Load.serve(r.shares)
	for _, t := range schema.Tables() {
		r.decoders[t.ID] = wire.NewDecoder(t.WireSchema(), z)
	}
	return r, nil
}

// Serve takes batches on the listener until the context ends. Streams are then ended; what was
// admitted goes on in the store.
func Serve(ctx context.Context, listener net.Listener, cfg Config) error {
	r, err := newReceiver(ctx, cfg)
	if err != nil {
		return err
	}
	defer r.zstd.Close()
	server := grpc.NewServer(serverOptions(cfg.TLS)...)
	flight.RegisterFlightServiceServer(server, r)
	defer r.joined.Wait()
	guarding, stopGuarding := context.WithCancel(ctx)
	defer stopGuarding()
	r.joined.Go(func() { r.guard(guarding) })
	if err := serveUntil(ctx, server, listener, r.cfg.limits.stopGrace); err != nil {
		return fmt.Errorf("serve flight on %s: %w", listener.Addr(), err)
	}
	return nil
}

// serveUntil serves until the context ends.
func serveUntil(ctx context.Context, server *grpc.Server, listener net.Listener, grace time.Duration) error {
	stopped := context.AfterFunc(ctx, func() {
		hard := time.AfterFunc(grace, server.Stop)
		defer hard.Stop()
		server.GracefulStop()
	})
	defer stopped()
	err := server.Serve(listener)
	if errors.Is(err, grpc.ErrServerStopped) { // before it began
		return nil
	}
	return err
}

func serverOptions(config *tls.Config) []grpc.ServerOption {
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(wire.MaxMessageBytes),
		grpc.MaxSendMsgSize(1 << 20),
		grpc.MaxConcurrentStreams(64), // per connection: an agent needs one a table
		grpc.MaxHeaderListSize(16 << 10),
		grpc.ConnectionTimeout(20 * time.Second),
		grpc.ReadBufferSize(8 << 10),
		grpc.WriteBufferSize(4 << 10),
		grpc.WaitForHandlers(true), // also at a hard stop: what they submit must have a store to go to
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	}
	if config != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(config)))
	}
	return options
}
