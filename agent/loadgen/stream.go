// SPDX-License-Identifier: Apache-2.0

package loadgen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// fleetStream is one node's stream of one table. One goroutine sends, another receives.
type fleetStream struct {
	put      flight.FlightService_DoPutClient
	counts   *counts
	sequence uint64 // so far: the sending goroutine's

	mu       sync.Mutex // guards the fields below
	window   int64
	flying   map[uint64]*flown
	bytes    int64
	again    []*flown // the collector asks for them once more
	finished bool
	caught   bool
	changed  chan struct{} // closed at the next change
}

// flown is a batch that is sent and not settled.
type flown struct {
	batch    *wire.Batch
	due      time.Time
	template *template
}

func newFleetStream(c *counts, put flight.FlightService_DoPutClient) *fleetStream {
	return &fleetStream{put: put, counts: c, flying: make(map[uint64]*flown), changed: make(chan struct{})}
}

// next is the collector's next answer.
func (s *fleetStream) next() (wire.Answer, error) {
	result, err := s.put.Recv()
	if err != nil {
		return wire.Answer{}, err
	}
	return wire.ParseAnswer(result.GetAppMetadata())
}

// receive settles batches until the stream ends.
func (s *fleetStream) receive(ctx context.Context) error {
	for {
		answer, err := s.next()
		switch {
		case err == nil:
			s.settle(answer, time.Now())
		case errors.Is(err, io.EOF), s.over(), ctx.Err() != nil:
			return nil //nolint:nilerr // the run is over, one way or the other
		default:
			return fmt.Errorf("receive answer: %w", err)
		}
	}
}

func (s *fleetStream) settle(a wire.Answer, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.Window > 0 {
		s.window = int64(a.Window)
	}
	sent, ok := s.flying[a.Sequence]
	if ok && a.Kind != wire.Accepted {
		delete(s.flying, a.Sequence)
		s.bytes -= int64(sent.batch.Bytes())
		switch a.Kind {
		case wire.Stored:
			s.counts.store(sent, now)
			s.catchUpLocked(sent, now)
		case wire.Retry:
			s.counts.retried.Add(1)
			s.again = append(s.again, sent)
		default:
			s.counts.rejected.Add(1)
		}
	}
	s.notifyLocked()
}

// catchUpLocked counts the node once a batch of its samples is stored before the next is due.
func (s *fleetStream) catchUpLocked(sent *flown, now time.Time) {
	if !s.caught && sent.template.table == schema.SamplesID && now.Sub(sent.due) < sent.template.flush {
		s.caught = true
		s.counts.caught.Add(1)
	}
}

func (s *fleetStream) notifyLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// store counts a batch that is stored. Every row has an age of its own.
func (c *counts) store(sent *flown, now time.Time) {
	c.stored.Add(1)
	c.waits.Add(now.Sub(sent.due))
	if sent.template.table != schema.SamplesID {
		return
	}
	began := sent.due.Add(-sent.template.flush)
	for row := 0; row < len(sent.template.times); row += sent.template.gpus { // the GPUs of a tick are read together
		c.freshness.Add(now.Sub(began.Add(time.Duration(sent.template.times[row]) * time.Millisecond)))
	}
}

// send sends a batch as soon as there is credit, after those that are to be sent again.
func (s *fleetStream) send(ctx context.Context, f *flown) error {
	queue := append(s.takeAgain(), f)
	for len(queue) > 0 {
		changed, ok := s.start(queue[0])
		if !ok {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err := s.transmit(queue[0].batch); err != nil {
			return err
		}
		queue = queue[1:]
	}
	s.counts.batches.Add(1)
	s.counts.bytes.Add(int64(f.batch.Bytes()))
	if f.template.table == schema.SamplesID {
		s.counts.rows.Add(f.template.rows)
	}
	return nil
}

func (s *fleetStream) takeAgain() []*flown {
	s.mu.Lock()
	defer s.mu.Unlock()
	again := s.again
	s.again = nil
	return again
}

// start counts a batch as under way, if there is credit. One may always be.
func (s *fleetStream) start(f *flown) (changed <-chan struct{}, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := int64(f.batch.Bytes())
	if s.bytes > 0 && s.bytes+size > s.window {
		return s.changed, false
	}
	s.bytes += size
	s.flying[f.batch.Identity.Sequence] = f
	return nil, true
}

func (s *fleetStream) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.finished
}

// retryWait is how long a batch that the collector asks for again waits at the end, when no other follows it.
const retryWait = 200 * time.Millisecond

// finish waits until every batch is settled, and closes the stream.
func (s *fleetStream) finish(ctx context.Context) error {
	for {
		s.mu.Lock()
		changed, flying, again := s.changed, len(s.flying), len(s.again)
		s.finished = flying+again == 0
		s.mu.Unlock()
		if flying+again == 0 {
			return s.put.CloseSend()
		}
		if again > 0 {
			if err := s.resend(ctx); err != nil {
				return err
			}
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *fleetStream) resend(ctx context.Context) error {
	select {
	case <-time.After(retryWait):
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, f := range s.takeAgain() {
		if _, ok := s.start(f); !ok {
			s.mu.Lock()
			s.again = append(s.again, f)
			s.mu.Unlock()
			continue
		}
		if err := s.transmit(f.batch); err != nil {
			return err
		}
	}
	return nil
}

func (s *fleetStream) transmit(b *wire.Batch) error {
	if err := s.put.Send(&flight.FlightData{AppMetadata: b.Metadata, DataHeader: b.Header, DataBody: b.Body}); err != nil {
		return fmt.Errorf("send batch %v: %w", b.Identity.Key(), err)
	}
	return nil
}
