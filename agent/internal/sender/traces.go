// SPDX-License-Identifier: Apache-2.0

package sender

import (
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/gpufleet/gpufleet/internal/batchtrace"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// spans are those of the traced batches on one stream.
type spans struct {
	tracer *batchtrace.Tracer // nil: nothing is traced

	mu     sync.Mutex // guards flying
	flying map[wire.Key]trip
}

// trip is when a batch was sent on the stream, and accepted; zero: it was not.
type trip struct{ sent, accepted time.Time }

func (s *spans) sent(k wire.Key) {
	if s.tracer.Of(k) == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flying == nil {
		s.flying = make(map[wire.Key]trip)
	}
	s.flying[k] = trip{sent: time.Now()}
}

// answered ends the span of a batch, and with what settles it that of its whole way.
func (s *spans) answered(k wire.Key, a wire.Answer) {
	if s.tracer == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f, traced := s.flying[k]
	if !traced {
		return
	}
	var err error
	switch a.Kind {
	case wire.Accepted:
		f.accepted = time.Now()
		s.flying[k] = f
		return
	case wire.Retry:
		err = errors.New("to be sent again: " + a.Reason)
	case wire.Rejected:
		err = errors.New("rejected: " + a.Reason)
	case wire.Stored:
	case wire.Welcome, wire.Ordered:
		return
	}
	delete(s.flying, k)
	way, now := s.tracer.Of(k), time.Now()
	way.Step("send", f.sent, now, err, f.attributes()...)
	if a.Kind != wire.Retry {
		way.End(f.sent, now, err)
	}
}

// broke ends the spans of what has no answer.
func (s *spans) broke(err error) {
	if s.tracer == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		err = errors.New("the stream ended")
	}
	for k, f := range s.flying {
		s.tracer.Of(k).Step("send", f.sent, time.Now(), err, f.attributes()...)
	}
	clear(s.flying)
}

// attributes tell how long the collector took to accept the batch, if it did.
func (f trip) attributes() []attribute.KeyValue {
	if f.accepted.IsZero() {
		return nil
	}
	return []attribute.KeyValue{attribute.Float64("gpufleet.accepted.seconds", f.accepted.Sub(f.sent).Seconds())}
}
