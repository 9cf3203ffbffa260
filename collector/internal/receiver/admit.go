// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gpufleet/gpufleet/collector/internal/aside"
	"github.com/gpufleet/gpufleet/collector/internal/index"
	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/internal/batchtrace"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// take deals with one batch. An error ends the stream; a batch that is merely bad does not.
func (s *stream) take(ctx context.Context, data *flight.FlightData) error {
	came := time.Now()
	if err := s.reading(); err != nil {
		return err
	}
	identity, err := wire.ParseIdentity(data.GetAppMetadata(), data.GetDataHeader(), data.GetDataBody())
	if errors.Is(err, wire.ErrChecksum) {
		return s.damaged(ctx, data, err)
	}
	if err != nil {
		identity.Sequence = 0 // nothing in it was found right
	} else {
		err = s.owns(identity)
	}
	if err != nil {
		return s.bad(ctx, identity, data, err)
	}
	key := identity.Key()
	s.highest = max(s.highest, key.Sequence)
	if !s.expect(key.Sequence) {
		s.metrics.duplicate(ctx, s.table.Name)
		return nil
	}
	if err := s.guest.send(s.cfg.Agents, len(data.GetDataHeader())+len(data.GetDataBody()), s.cfg.now()); err != nil {
		s.metrics.sentAgain(ctx, s.table.Name, whyAgain(err))
		s.settled(key, index.Again, err.Error())
		return nil
	}
	switch s.hold.Claim(key.Sequence, func(end index.End, reason string) { s.settled(key, end, reason) }) {
	case index.Known:
		s.metrics.duplicate(ctx, s.table.Name)
		s.settled(key, index.Stored, "")
		return nil
	case index.Flying:
		s.metrics.duplicate(ctx, s.table.Name)
		return nil
	case index.Gone:
		return status.Error(codes.Aborted, errMoved.Error())
	case index.Fresh:
	}
	span := s.cfg.Trace.Of(key).Collect("collect", came, s.traces)
	if err := s.admit(ctx, identity, data, span); err != nil {
		span.End(err)
		s.again(ctx, key, err)
		return err
	}
	return nil
}

// again has a batch sent once more: it is neither stored nor kept.
func (s *stream) again(ctx context.Context, k wire.Key, err error) {
	s.metrics.sentAgain(ctx, s.table.Name, whyAgain(err))
	s.hold.Done(k.Sequence, index.Again, err.Error())
}

// settled answers a batch that has come to an end. It may have been another stream of the agent that
// brought it there; what that one could not finish is to be sent again on this one.
func (s *stream) settled(k wire.Key, end index.End, reason string) {
	kind := wire.Stored
	switch end {
	case index.Stored:
	case index.Rejected:
		kind = wire.Rejected
	case index.Again:
		kind = wire.Retry
	}
	s.answer(wire.Answer{Kind: kind, Sequence: k.Sequence, Reason: reason})
}

// owns refuses batches that this stream's agent may not send.
func (s *stream) owns(i wire.Identity) error {
	switch {
	case i.Node != s.node || i.Epoch != s.hello.Epoch || i.Table != s.table.ID:
		return fmt.Errorf("batch %v in the stream of node %s (%016x), epoch %d, table %s: %w",
			i.Key(), s.hello.Name, s.node, s.hello.Epoch, s.table.Name, errForeign)
	case i.Sequence < s.hello.Oldest: // the index knows nothing of it, and would take it for stored
		return fmt.Errorf("batch %v: the stream was opened with %d as its oldest: %w", i.Key(), s.hello.Oldest, wire.ErrMalformed)
	case i.Sequence > s.highest && i.Sequence-s.highest > index.MaxJump:
		return fmt.Errorf("batch %v: sequence is more than %d ahead of %d: %w", i.Key(), index.MaxJump, s.highest, wire.ErrMalformed)
	default:
		return nil
	}
}

var errForeign = errors.New("identity is not the agent's own")

// bad deals with a batch whose identity cannot be right although its checksum is: the agent and we do not
// speak the same language. It ends the stream.
func (s *stream) bad(ctx context.Context, identity wire.Identity, data *flight.FlightData, err error) error {
	own := identity
	own.Node, own.Epoch, own.Table = s.node, s.hello.Epoch, s.table.ID // the stream's, which is proved
	s.metrics.quarantined(ctx, s.table.Name, reasonOf(err))
	if keepErr := s.keep(own, data, err); keepErr != nil {
		return keepErr
	}
	if errors.Is(err, errForeign) {
		return status.Errorf(codes.PermissionDenied, "%v", err)
	}
	return status.Errorf(codes.InvalidArgument, "%v", err)
}

// damaged ends the stream because of a message with a wrong checksum. Which batch it was cannot be told, its
// sequence may be what is wrong: so the agent is to send all again that has no answer, as it does after
// any stream that broke. The bytes are kept under a name of their own, for the first few of a life.
func (s *stream) damaged(ctx context.Context, data *flight.FlightData, err error) error {
	count := s.damage.add(s.life())
	if count > s.cfg.limits.maxDamaged {
		return status.Errorf(codes.DataLoss, "%d messages of node %s arrived damaged: look at its memory and network: %v", count, s.hello.Name, err)
	}
	s.metrics.quarantined(ctx, s.table.Name, reasonOf(err))
	own := wire.Identity{Table: s.table.ID, Node: s.node, Epoch: s.hello.Epoch}
	if keepErr := s.keep(own, data, err); keepErr != nil {
		s.cfg.Logger.Error("keep damaged bytes", "node", s.hello.Name, "table", s.table.Name, "error", keepErr)
	}
	return status.Errorf(codes.DataLoss, "a message arrived damaged: send again what has no answer: %v", err)
}

// room waits until there is memory for a batch: the agent's, then the table's.
func (s *stream) room(ctx context.Context, identity wire.Identity, data *flight.FlightData) (release func(), err error) {
	came := int64(len(data.GetDataBody()) + len(data.GetDataHeader()))
	becomes := int64(identity.Size) + int64(len(data.GetDataHeader()))
	let, err := s.guest.hold(ctx, s.table.ID, max(came, becomes), s.share.budget)
	if err != nil {
		return nil, err
	}
	free, err := s.share.take(ctx, came, becomes)
	if err != nil {
		let()
		return nil, err
	}
	return func() {
		let()
		free()
	}, nil
}

// check reads a batch and looks at all that it says. It is nil if that is all right for the store.
func (s *stream) check(columns *wire.Columns) (from, to time.Time, err error) {
	if from, to, err = s.span(columns); err != nil {
		return from, to, err
	}
	if err := s.ownFacts(columns); err != nil {
		return from, to, err
	}
	return from, to, s.countGPUs(columns)
}

// admit checks a batch that nobody has stored yet, and hands it to the store.
func (s *stream) admit(ctx context.Context, identity wire.Identity, data *flight.FlightData, span *batchtrace.Span) error {
	if most := s.cfg.Agents.BatchRows; most > 0 && int(identity.Rows) > most {
		return s.reject(ctx, identity, data, fmt.Errorf("%d rows, and a batch of an agent may have %d (--agent-rows): %w", identity.Rows, most, wire.ErrTooLarge), span)
	}
	free, err := s.room(ctx, identity, data)
	if err != nil {
		return err
	}
	second := s.cfg.now().Unix()
	s.cfg.Load.took(second)
	release := func() {
		s.cfg.Load.left(second)
		free()
	}
	columns, err := s.decoder.Columns(identity, data.GetDataHeader(), data.GetDataBody())
	if err != nil {
		release()
		span.Lap("check", err)
		return s.reject(ctx, identity, data, err, span)
	}
	from, to, err := s.check(columns)
	if err != nil {
		columns.Release()
		release()
		span.Lap("check", err)
		if _, ok := errors.AsType[limited](err); ok {
			s.again(ctx, identity.Key(), err)
			span.End(err)
			return nil
		}
		return s.reject(ctx, identity, data, err, span)
	}
	span.Lap("check", nil, attribute.Int("gpufleet.rows", columns.Rows()))
	came := int64(len(data.GetDataBody()) + len(data.GetDataHeader()))
	s.metrics.admitted(ctx, s.table.Name, int64(columns.Rows()), came+int64(len(data.GetAppMetadata())))
	item := store.Item{Key: identity.Key(), Scope: s.proof.scope, Columns: columns, From: from, To: to, Tenure: s.hold.Tenure(), Doubtful: s.doubtful(identity.Sequence), Span: span, Done: func(err error) { //nolint:contextcheck // the stream may have ended by then
		release()
		if err == nil {
			s.metrics.fresh(s.table.Name, s.cfg.now().Sub(to))
		}
		s.stored(identity, data, err)
		span.End(err)
	}}
	if s.cfg.Log == nil {
		return s.submit(ctx, item, release)
	}
	s.cfg.Log.Append(s.batch(identity, data), func(err error) { s.accepted(item, release, err) }) //nolint:contextcheck // the stream may have ended by then
	return nil
}

// doubtful tells that a batch may have been sent to the collector that had the agent before.
func (s *stream) doubtful(sequence uint64) bool { return s.hold.Doubtful() && sequence <= s.sentBefore }

// submit hands a batch to the store.
func (s *stream) submit(ctx context.Context, i store.Item, release func()) error {
	err := s.cfg.Store.Submit(ctx, i)
	if err != nil {
		i.Columns.Release()
		release()
	}
	return err
}

// accepted is told that a batch is durable, or why it is not. At a stop it may be that the store does not take it: then
// the next life of the collector finds it in the log.
func (s *stream) accepted(i store.Item, release func(), err error) {
	i.Span.Lap("log", err)
	if err != nil {
		i.Span.End(err)
		i.Columns.Release()
		release()
		s.metrics.notKept(s.put.Context(), s.table.Name, whyAgain(err))
		s.again(s.put.Context(), i.Key, err)
		return
	}
	s.answer(wire.Answer{Kind: wire.Accepted, Sequence: i.Key.Sequence})
	if err := s.submit(s.stop, i, release); err != nil {
		i.Span.End(err)
		s.again(s.put.Context(), i.Key, err)
	}
}

// stored is told by the store how a batch ended.
func (s *stream) stored(identity wire.Identity, data *flight.FlightData, err error) {
	if err == nil {
		s.forget(identity.Key())
		s.hold.Done(identity.Sequence, index.Stored, "")
		return
	}
	if store.HasMoved(err) {
		s.hold.Over()
		if s.cfg.Left != nil {
			s.cfg.Left(identity.Key())
		}
		return
	}
	ctx, cancel := aside.Outlast(s.put.Context())
	defer cancel()
	if errors.Is(err, store.ErrFormerAway) {
		s.again(ctx, identity.Key(), err)
		if s.cfg.Left != nil {
			s.cfg.Left(identity.Key()) // its agent may be gone by now
		}
		return
	}
	if err := s.quarantine(ctx, identity, data, err); err != nil {
		s.cfg.Logger.Error("quarantine a refused batch", "batch", identity.Key().String(), "error", err)
		s.again(ctx, identity.Key(), err)
		return
	}
	s.forget(identity.Key()) // before it may be claimed again: what came anew under its key would be forgotten, too
	s.hold.Done(identity.Sequence, index.Rejected, err.Error())
}

// forget takes a batch out of the log.
func (s *stream) forget(k wire.Key) {
	if s.cfg.Log != nil {
		s.cfg.Log.Settle(k)
	}
}

// batch is a message as log and quarantine keep it.
func (s *stream) batch(identity wire.Identity, data *flight.FlightData) *wire.Batch {
	return &wire.Batch{Identity: identity, Metadata: data.GetAppMetadata(), Header: data.GetDataHeader(), Body: data.GetDataBody(), Scope: s.proof.scope}
}
