// SPDX-License-Identifier: Apache-2.0

// Package sender brings encoded batches to a collector: one Flight stream per table, each batch sent
// again until the collector says that it is stored or can never be. It holds what is not yet
// answered in memory, bounded; when the bound is reached the oldest batch of the table that takes most
// of it is dropped, counted and reported. Faults and inventory go last.
package sender

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Config is where and as whom to send.
type Config struct {
	Collector     string        // host:port
	TLS           *tls.Config   // nil: plain text
	Token         string        // bearer token of this node; "" sends none
	Node          string        // name of the node
	Epoch         uint64        // life of this agent
	MaxQueueBytes int64         // all tables together
	RetryWait     time.Duration // wait after a stream broke: this, then longer, up to MaxRetryWait
	MaxRetryWait  time.Duration
	Logger        *slog.Logger
	// OnLoss is told of batches that will never be stored: dropped because the queue was full, or
	// rejected by the collector. It must not block.
	OnLoss func(Loss)
}

// Loss is a batch that will not be stored.
type Loss struct {
	Key      wire.Key
	Rows     uint32
	Rejected bool // by the collector; else dropped here
	Reason   string
}

// Stats counts batches since the start.
type Stats struct {
	Queued, Stored, Rejected, Dropped, Resent uint64
	WaitingBatches, WaitingBytes              int64
}

// Sender sends what is pushed to it while Run runs.
type Sender struct {
	cfg    Config
	queues []*queue // one per table
	budget *budget
}

// New makes a sender with empty queues.
func New(cfg Config) *Sender {
	s := &Sender{cfg: cfg, budget: newBudget(cfg.MaxQueueBytes)}
	for _, t := range schema.Tables() {
		s.queues = append(s.queues, newQueue(t, s.budget, cfg))
	}
	return s
}

// Push queues a batch. It never blocks.
func (s *Sender) Push(b *wire.Batch) {
	s.queues[b.Identity.Table-1].push(b)
	for s.budget.exceeded() && s.heaviest().dropOldest() {
	}
}

// heaviest is the queue that has to give way: the one that holds most, of readings rather than of
// what happened or what there is.
func (s *Sender) heaviest() *queue {
	bulk := func(q *queue) bool {
		return q.table.ID == schema.SamplesID || q.table.ID == schema.SubsecondID || q.table.ID == schema.HealthID
	}
	return slices.MaxFunc(s.queues, func(a, b *queue) int {
		if bulk(a) != bulk(b) && a.held() > 0 && b.held() > 0 {
			if bulk(a) {
				return 1
			}
			return -1
		}
		return cmp.Compare(a.held(), b.held())
	})
}

// Stats adds up the queues.
func (s *Sender) Stats() Stats {
	var sum Stats
	for _, q := range s.queues {
		q.addTo(&sum)
	}
	return sum
}

// Run sends until the context ends. Batches that are waiting then stay in the queues.
func (s *Sender) Run(ctx context.Context) error {
	conn, err := s.dial()
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // closing a client connection loses nothing: every batch is answered or waiting
	client := flight.NewFlightServiceClient(conn)
	group, ctx := errgroup.WithContext(ctx)
	for _, q := range s.queues {
		group.Go(func() error {
			(&stream{cfg: s.cfg, queue: q, client: client}).run(ctx)
			return nil
		})
	}
	return group.Wait()
}

// Drained waits until everything is answered; false if the context ended before. It is for a stop:
// nothing may be pushed after.
func (s *Sender) Drained(ctx context.Context) bool {
	for _, q := range s.queues {
		if !q.waitEmpty(ctx) {
			return false
		}
	}
	return true
}

func (s *Sender) dial() (*grpc.ClientConn, error) {
	transport := insecure.NewCredentials()
	if s.cfg.TLS != nil {
		transport = credentials.NewTLS(s.cfg.TLS)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithUserAgent("gpufleet-agent"),
		grpc.WithPerRPCCredentials(identity{node: s.cfg.Node, token: s.cfg.Token, secure: s.cfg.TLS != nil}),
		grpc.WithReadBufferSize(4 << 10), // answers are small
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: s.cfg.RetryWait, Multiplier: 1.6, Jitter: 0.5, MaxDelay: s.cfg.MaxRetryWait},
			MinConnectTimeout: 5 * time.Second,
		}),
	}
	conn, err := grpc.NewClient("passthrough:///"+s.cfg.Collector, options...)
	if err != nil {
		return nil, fmt.Errorf("connect to collector %s: %w", s.cfg.Collector, err)
	}
	return conn, nil
}

// identity names the node with each stream, and proves it with its token. Over plain text it is only
// used on loopback: the agent's Config refuses anything else.
type identity struct {
	node, token string
	secure      bool
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (i identity) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	headers := map[string]string{wire.NodeHeader: i.node}
	if i.token != "" {
		headers["authorization"] = "Bearer " + i.token
	}
	return headers, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (i identity) RequireTransportSecurity() bool { return i.secure }
