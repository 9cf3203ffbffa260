// SPDX-License-Identifier: Apache-2.0

package sender

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"golang.org/x/sync/errgroup"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/gpufleet/gpufleet/agent/internal/spool"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// stream keeps one table's Flight stream open while there is something to send.
type stream struct {
	cfg    Config
	queue  *spool.Queue
	resent resent
	away   atomic.Pointer[string] // what was wrong when the collector was last tried
}

// run opens a stream when something waits, again each time that it broke, and anew for each epoch.
func (s *stream) run(ctx context.Context, r *route) {
	wait := s.cfg.RetryWait
	for {
		epoch, ok := s.awaitLife(ctx)
		if !ok {
			return
		}
		w, err := r.open(ctx)
		started := time.Now()
		if err == nil {
			err = s.once(ctx, r, w, epoch)
		}
		if ctx.Err() != nil {
			return
		}
		if err == nil { // all of the epoch is settled
			wait = s.cfg.RetryWait
			continue
		}
		s.away.Store(new(err.Error()))
		s.log(ctx, w, err)
		if time.Since(started) > s.cfg.MaxRetryWait {
			wait = s.cfg.RetryWait
			r.lasted(w)
		}
		r.failed(ctx, w, err)
		if !sleep(ctx, max(wait/2+rand.N(wait), askedWait(err))) {
			return
		}
		wait = min(wait*2, s.cfg.MaxRetryWait)
	}
}

// awaitLife waits until something is to be sent, and tells of which epoch.
func (s *stream) awaitLife(ctx context.Context) (epoch uint64, ok bool) {
	for {
		changed := s.queue.Changed()
		if epoch, ok = s.queue.Life(); ok {
			return epoch, true
		}
		if !await(ctx, 0, changed, nil) {
			return 0, false
		}
	}
}

func (s *stream) log(ctx context.Context, w way, err error) {
	level := slog.LevelWarn
	switch status.Code(err) {
	case codes.Unauthenticated, codes.PermissionDenied, codes.InvalidArgument, codes.FailedPrecondition:
		level = slog.LevelError // waiting will not help: a person must act
	case codes.Unavailable, codes.Aborted, codes.Canceled:
		level = slog.LevelInfo
	default:
	}
	s.cfg.Logger.Log(ctx, level, "stream to collector broke", "table", s.queue.Table().Name, "collector", w.target, "error", err)
}

// longestAsked is how long a collector can have an agent wait, which may have been told to go on meanwhile.
const longestAsked = 10 * time.Minute

// askedWait is after which time the collector wants to be asked again, if it says so.
func askedWait(err error) time.Duration {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return min(info.GetRetryDelay().AsDuration(), longestAsked)
		}
	}
	return 0
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// once opens a stream for an epoch and sends until it breaks or the context ends; nil means that nothing of the
// epoch waits any more, or that an earlier one does.
func (s *stream) once(ctx context.Context, r *route, w way, epoch uint64) error {
	ctx, cancel := context.WithCancel(s.withSent(ctx, epoch))
	defer cancel()
	waiting := time.AfterFunc(connectWarn, func() {
		s.away.Store(new("it does not answer"))
		s.cfg.Logger.Warn("collector does not answer; batches wait", "collector", w.target, "table", s.queue.Table().Name)
	})
	put, err := w.client.DoPut(ctx, grpc.WaitForReady(r.single()))
	waiting.Stop()
	if err != nil {
		return fmt.Errorf("open stream: %w", err)
	}
	oldest, left := s.queue.Oldest(epoch)
	if !left { // it was dropped while the collector was away
		return nil
	}
	way := newFlying(s.queue, epoch, &s.resent, patience{first: s.cfg.RetryWait, most: s.cfg.MaxRetryWait})
	way.spans.tracer = s.cfg.Trace
	if err := s.greet(put, way, oldest, r, cancel); err != nil {
		return err
	}
	r.welcomed(w)
	s.away.Store(nil)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.receive(put, way) })
	group.Go(func() error {
		err := s.send(ctx, put, way)
		if err != nil {
			cancel() // ends receive
			return err
		}
		time.AfterFunc(endWait, cancel)
		return nil
	})
	err = group.Wait()
	way.spans.broke(err)
	return err
}

// withSent tells the collector what was sent before, if it is known: this process has sent all of its own epoch.
func (s *stream) withSent(ctx context.Context, epoch uint64) context.Context {
	if !s.queue.Current(epoch) {
		return ctx
	}
	highest := uint64(0)
	if s.resent.epoch == epoch {
		highest = s.resent.highest
	}
	return metadata.AppendToOutgoingContext(ctx, wire.SentHeader, strconv.FormatUint(highest, 10))
}

// errNoWelcome says that a collector is frozen, or waits for a ClickHouse that another one may reach.
var errNoWelcome = errors.New("the collector does not welcome the stream")

// greet says hello. Where there are other collectors, one that does not answer is given up.
func (s *stream) greet(put flight.FlightService_DoPutClient, way *flying, oldest uint64, r *route, cancel context.CancelFunc) error {
	if r.single() {
		return s.hello(put, way, oldest)
	}
	giveUp := time.AfterFunc(s.cfg.WelcomeWait, cancel)
	err := s.hello(put, way, oldest)
	if !giveUp.Stop() {
		return errors.Join(errNoWelcome, err)
	}
	return err
}

const (
	// connectWarn is how long a collector may be out of reach before the log says so.
	connectWarn = 5 * time.Second
	// endWait is how long a collector may take to end a stream of which everything is answered.
	endWait = 5 * time.Second
)

// hello opens with schema and identity, and waits to be welcomed: until then the collector may still
// be asking ClickHouse what it has of us.
func (s *stream) hello(put flight.FlightService_DoPutClient, way *flying, oldest uint64) error {
	table := s.queue.Table()
	hello := wire.Hello{Table: table.ID, Epoch: way.epoch, Oldest: oldest, Name: s.cfg.Node}
	first := &flight.FlightData{
		FlightDescriptor: &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{table.Name}},
		DataHeader:       table.SchemaMessage(),
		AppMetadata:      hello.Append(nil),
	}
	if err := put.Send(first); err != nil {
		return fmt.Errorf("open stream: %w", lastError(put, err))
	}
	answer, err := receiveAnswer(put)
	if err != nil {
		return fmt.Errorf("open stream: %w", err)
	}
	if answer.Kind != wire.Welcome {
		return fmt.Errorf("open stream: collector answered %d before its welcome", answer.Kind)
	}
	way.window.Store(answer.Window)
	return nil
}

// lastError finds the reason why sending failed: gRPC gives io.EOF to the sender and the status to
// the receiver.
func lastError(put flight.FlightService_DoPutClient, err error) error {
	if _, received := put.Recv(); received != nil {
		return received
	}
	return err
}

func receiveAnswer(put flight.FlightService_DoPutClient) (wire.Answer, error) {
	result, err := put.Recv()
	if err != nil {
		return wire.Answer{}, fmt.Errorf("receive answer: %w", err)
	}
	return wire.ParseAnswer(result.GetAppMetadata())
}

// receive takes answers until the stream ends. It is no error if it was to end.
func (s *stream) receive(put flight.FlightService_DoPutClient, way *flying) error {
	for {
		answer, err := receiveAnswer(put)
		if err != nil {
			if way.ended.Load() {
				return nil
			}
			return err
		}
		if answer.Window > 0 {
			way.window.Store(answer.Window)
		}
		if answer.Kind == wire.Ordered {
			s.ordered(answer)
			continue
		}
		way.answer(answer)
	}
}

// ordered passes on what the collector asks for. What this version does not know is no reason to end a stream.
func (s *stream) ordered(a wire.Answer) {
	order, err := wire.ParseOrder(a.Reason)
	if err != nil || s.cfg.OnOrder == nil {
		s.cfg.Logger.Warn("the collector asks for what this agent does not know", "order", a.Reason, "error", err)
		return
	}
	s.cfg.OnOrder(order)
}

// send returns nil once what waits is of another epoch.
func (s *stream) send(ctx context.Context, put flight.FlightService_DoPutClient, way *flying) error {
	reader := s.queue.NewReader()
	defer reader.Close()
	for {
		item, ok := way.next(ctx)
		if !ok {
			return errors.Join(put.CloseSend(), ctx.Err())
		}
		b := reader.Read(item)
		if b == nil {
			way.later(item.Sequence)
			continue
		}
		data := &flight.FlightData{AppMetadata: b.Metadata, DataHeader: b.Header, DataBody: b.Body}
		if err := put.Send(data); err != nil {
			return fmt.Errorf("send batch %v: %w", b.Identity.Key(), err)
		}
	}
}
