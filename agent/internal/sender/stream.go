// SPDX-License-Identifier: Apache-2.0

package sender

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gpufleet/gpufleet/schema/wire"
)

// stream keeps one table's Flight stream open while there is something to send.
type stream struct {
	cfg    Config
	queue  *queue
	client flight.FlightServiceClient
	window atomic.Uint32
}

// run opens the stream when the first batch waits, and again each time that it broke.
func (s *stream) run(ctx context.Context) {
	wait := s.cfg.RetryWait
	for s.queue.waitNonEmpty(ctx) {
		started := time.Now()
		err := s.once(ctx)
		s.queue.unsend()
		if ctx.Err() != nil {
			return
		}
		s.log(ctx, err)
		if time.Since(started) > s.cfg.MaxRetryWait {
			wait = s.cfg.RetryWait
		}
		if !sleep(ctx, wait/2+rand.N(wait)) {
			return
		}
		wait = min(wait*2, s.cfg.MaxRetryWait)
	}
}

func (s *stream) log(ctx context.Context, err error) {
	level := slog.LevelWarn
	switch status.Code(err) {
	case codes.Unauthenticated, codes.PermissionDenied, codes.InvalidArgument, codes.FailedPrecondition:
		level = slog.LevelError // waiting will not help: a person must act
	case codes.Unavailable:
		level = slog.LevelInfo
	default:
	}
	s.cfg.Logger.Log(ctx, level, "stream to collector broke", "table", s.queue.table.Name, "collector", s.cfg.Collector, "error", err)
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

// once opens a stream and sends until it breaks or the context ends.
func (s *stream) once(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	waiting := time.AfterFunc(connectWarn, func() {
		s.cfg.Logger.Warn("collector does not answer; batches wait", "collector", s.cfg.Collector, "table", s.queue.table.Name)
	})
	put, err := s.client.DoPut(ctx, grpc.WaitForReady(true))
	waiting.Stop()
	if err != nil {
		return fmt.Errorf("open stream: %w", err)
	}
	if err := s.hello(put); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.receive(put) })
	group.Go(func() error {
		defer cancel() // ends receive
		return s.send(ctx, put)
	})
	return group.Wait()
}

// connectWarn is how long a collector may be out of reach before the log says so.
const connectWarn = 5 * time.Second

// hello opens with schema and identity, and waits to be welcomed: until then the collector may still
// be asking ClickHouse what it has of us.
func (s *stream) hello(put flight.FlightService_DoPutClient) error {
	oldest, waiting := s.queue.oldest()
	if !waiting {
		return errors.New("open stream: nothing to send")
	}
	hello := wire.Hello{Table: s.queue.table.ID, Epoch: s.cfg.Epoch, Oldest: oldest, Name: s.cfg.Node}
	first := &flight.FlightData{
		FlightDescriptor: &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{s.queue.table.Name}},
		DataHeader:       s.queue.table.SchemaMessage(),
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
	s.window.Store(answer.Window)
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

func (s *stream) receive(put flight.FlightService_DoPutClient) error {
	for {
		answer, err := receiveAnswer(put)
		if err != nil {
			return err
		}
		if answer.Window > 0 {
			s.window.Store(answer.Window)
		}
		s.queue.answer(answer)
	}
}

func (s *stream) send(ctx context.Context, put flight.FlightService_DoPutClient) error {
	for {
		b := s.queue.next(ctx, &s.window)
		if b == nil {
			return errors.Join(put.CloseSend(), ctx.Err())
		}
		data := &flight.FlightData{AppMetadata: b.Metadata, DataHeader: b.Header, DataBody: b.Body}
		if err := put.Send(data); err != nil {
			return fmt.Errorf("send batch %v: %w", b.Identity.Key(), err)
		}
	}
}
