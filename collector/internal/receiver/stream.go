// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/gpufleet/gpufleet/collector/internal/index"
	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// stream is one agent's stream for one table.
type stream struct {
	*Receiver
	put    flight.FlightService_DoPutServer
	hello  wire.Hello
	node   uint64
	proof  proof
	guest  *guest
	cancel context.CancelCauseFunc
	// unproved tells that the guard has ended it.
	unproved atomic.Bool
	table    schema.Table
	decoder  *wire.Decoder
	share    *share // of the memory: the table's
	highest  uint64 // sequence so far; at first the oldest that the agent has
	traces   uint64 // of how many batches the agent traces one; 0: of none
	hold     *index.Hold
	// sentBefore is the highest sequence that the agent had sent before it opened the stream, to whatever collector.
	sentBefore uint64

	wake chan struct{}

	mu       sync.Mutex // guards the fields below
	answers  []wire.Answer
	awaited  map[uint64]struct{} // sequences that came and are not answered yet
	finished chan struct{}       // closed once none is; nil as long as nobody asks
}

// DoPut takes one stream of batches.
func (r *Receiver) DoPut(put flight.FlightService_DoPutServer) error {
	s := &stream{Receiver: r, put: put, awaited: make(map[uint64]struct{}), wake: make(chan struct{}, 1)}
	if err := s.open(); err != nil {
		r.metrics.refusedStream(put.Context(), err)
		r.cfg.Logger.Warn("stream refused", "node", s.proof.node, "table", s.table.Name, "error", err)
		return err
	}
	defer func() { r.guests.leave(s.node, r.cfg.now()) }()
	ctx, cancel := context.WithCancelCause(put.Context())
	defer cancel(nil)
	defer context.AfterFunc(r.stop, func() { cancel(errStopping) })()
	s.cancel = cancel
	defer r.watch(s)()
	s.prove(true, r.cfg.now()) // what it was proved by may have changed before it was watched
	var err error
	if s.hold, err = r.cfg.Index.Open(ctx, s.life(), s.hello.Oldest, func() { cancel(errMoved) }); err != nil {
		err = status.Errorf(notOpened(err), "%v", err)
		r.metrics.refusedStream(put.Context(), err)
		return err
	}
	defer r.cfg.Load.opened(s.node)()
	s.share.open.Add(1)
	s.answer(wire.Answer{Kind: wire.Welcome})
	defer r.cfg.Orders.add(s)() // after the welcome: it goes first
	// Recv only returns once this function has: so Serve joins the receiving goroutine, not we.
	r.joined.Go(func() {
		cancel(s.receive(ctx))
		s.share.open.Add(-1)
		s.hold.Close()
	})
	sendErr := s.sendAll(ctx)
	switch cause := context.Cause(ctx); {
	case cause == nil:
		return sendErr
	case errors.Is(cause, errEnded):
		return nil
	case errors.Is(cause, errMoved):
		return status.Error(codes.Aborted, errMoved.Error()) // the agent need not go elsewhere because of it
	case errors.Is(cause, errStopping):
		return status.Error(codes.Unavailable, "collector is stopping")
	default:
		r.metrics.brokenStream(put.Context(), cause)
		return cause
	}
}

// notOpened is the code for a life that the index could not open. Where the ledger does not answer the agent is to go
// elsewhere; where another stream or another collector came first at the same moment, it is to ask here again.
func notOpened(err error) codes.Code {
	if errors.Is(err, store.ErrContested) || errors.Is(err, index.ErrOutdated) {
		return codes.Aborted
	}
	return codes.Unavailable
}

// life is whose batches the stream brings.
func (s *stream) life() index.Life {
	return index.Life{Table: s.table.ID, Node: s.node, Epoch: s.hello.Epoch}
}

var (
	errStopping = errors.New("collector is stopping")
	errMoved    = errors.New("another collector has taken the agent")
)

// open reads the first message: who it is, for which table, with which schema. The node is proved
// before a byte of the message is read.
func (s *stream) open() error {
	proof, err := s.authorize(s.put.Context())
	if err != nil {
		return err
	}
	s.proof = proof
	node := proof.node
	first, err := s.first()
	if err != nil {
		return err
	}
	if s.hello, err = wire.ParseHello(first.GetAppMetadata()); err != nil {
		return refuse(codes.InvalidArgument, "hello", "%v", err)
	}
	if s.hello.Name != node {
		return refuse(codes.PermissionDenied, "hello_of_another", "node %s says hello as %s", node, s.hello.Name)
	}
	s.node, s.traces = wire.NodeID(node), tracesOf(s.put.Context())
	s.sentBefore = sentBefore(s.put.Context())
	table, ok := schema.TableByID(s.hello.Table)
	path := first.GetFlightDescriptor().GetPath()
	if !ok || len(path) != 1 || path[0] != table.Name {
		return refuse(codes.NotFound, "unknown_table", "table %d, path %q: this collector has no such table", s.hello.Table, path)
	}
	s.table, s.highest, s.share = table, s.hello.Oldest, s.shares[s.cfg.ShardOf(s.node)][table.ID]
	if err := wire.CheckSchema(first.GetDataHeader(), table.WireSchema()); err != nil {
		return refuse(codes.FailedPrecondition, "foreign_schema", "schema of %s is not this collector's: %v: upgrade collectors first, then agents", table.Name, err)
	}
	s.decoder = s.decoders[table.ID]
	s.guest, err = s.guests.enter(s.node, node, s.hello.Epoch, s.cfg.now())
	return err
}

// sentBefore reads SentHeader. An agent that does not send it may have sent anything.
func sentBefore(ctx context.Context) uint64 {
	md, _ := metadata.FromIncomingContext(ctx)
	if said := md.Get(wire.SentHeader); len(said) == 1 {
		if n, err := strconv.ParseUint(said[0], 10, 64); err == nil {
			return n
		}
	}
	return math.MaxUint64
}

// first waits for the first message, but not for ever.
func (s *stream) first() (*flight.FlightData, error) {
	type received struct {
		data *flight.FlightData
		err  error
	}
	got := make(chan received, 1)
	s.joined.Go(func() {
		data, err := s.put.Recv()
		got <- received{data, err}
	})
	timeout := time.NewTimer(s.cfg.limits.helloWait)
	defer timeout.Stop()
	select {
	case r := <-got:
		return r.data, r.err
	case <-timeout.C:
		return nil, refuse(codes.DeadlineExceeded, "no_hello", "no hello within %s", s.cfg.limits.helloWait)
	case <-s.stop.Done():
		return nil, refuse(codes.Unavailable, "stopping", "collector is stopping")
	}
}

// errEnded says that the agent has closed its side and everything is answered.
var errEnded = errors.New("stream has ended")

func (s *stream) receive(ctx context.Context) error {
	for {
		data, err := s.put.Recv()
		if errors.Is(err, io.EOF) {
			return s.finish(ctx)
		}
		if err != nil {
			return err
		}
		if err := s.take(ctx, data); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// finish waits until every batch is answered.
func (s *stream) finish(ctx context.Context) error {
	finished := make(chan struct{})
	s.mu.Lock()
	if len(s.awaited) == 0 {
		close(finished)
	} else {
		s.finished = finished
	}
	s.mu.Unlock()
	select {
	case <-finished:
		return errEnded
	case <-ctx.Done():
		return ctx.Err()
	}
}

// expect notes a batch that will be answered. It is false for one that is noted already: one answer is
// enough for however often it came.
func (s *stream) expect(sequence uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.awaited[sequence]; ok {
		return false
	}
	s.awaited[sequence] = struct{}{}
	return true
}

// reading refuses to go on with an agent that sends and does not read.
func (s *stream) reading() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.answers) > s.cfg.limits.maxAnswers {
		return status.Errorf(codes.ResourceExhausted, "%d answers wait to be read", len(s.answers))
	}
	return nil
}

// answer queues an answer; it never blocks. Its window is set when it is sent. The batch is not awaited
// any more: should it come again because of this answer, then it gets another one.
func (s *stream) answer(a wire.Answer) {
	s.mu.Lock()
	s.answers = append(s.answers, a)
	if a.Kind != wire.Accepted {
		delete(s.awaited, a.Sequence)
	}
	if len(s.awaited) == 0 && s.finished != nil {
		close(s.finished)
		s.finished = nil
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// sendAll sends the answers until the context ends. Those that are left then are sent as well, but an agent that does
// not read stops the sending of them, and must not keep its stream by that: Serve joins the goroutine, as Send only
// returns once the stream has ended.
func (s *stream) sendAll(ctx context.Context) error {
	sent := make(chan error, 1)
	s.joined.Go(func() { sent <- s.send(ctx) })
	select {
	case err := <-sent:
		return err
	case <-ctx.Done():
	}
	grace := time.NewTimer(s.cfg.limits.stopGrace)
	defer grace.Stop()
	select {
	case err := <-sent:
		return err
	case <-grace.C:
		return ctx.Err()
	}
}

// send sends the answers until the context ends, and then those that are left.
func (s *stream) send(ctx context.Context) error {
	for {
		if err := s.sendQueued(); err != nil {
			return err
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), s.sendQueued())
		}
	}
}

func (s *stream) sendQueued() error {
	s.mu.Lock()
	answers := s.answers
	s.answers = nil
	s.mu.Unlock()
	for _, a := range answers {
		a.Window = s.share.window()
		if err := s.put.Send(&flight.PutResult{AppMetadata: a.Append(nil)}); err != nil {
			return fmt.Errorf("answer batch %d: %w", a.Sequence, err)
		}
	}
	return nil
}
