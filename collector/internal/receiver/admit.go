// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gpufleet/gpufleet/collector/internal/index"
	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/collector/quarantine"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// maxDamaged is how often a batch may arrive with a wrong checksum before it is given up.
const maxDamaged = 3

// take deals with one batch. An error ends the stream; a batch that is merely bad does not.
func (s *stream) take(ctx context.Context, data *flight.FlightData) error {
	if err := s.reading(); err != nil {
		return err
	}
	identity, err := wire.ParseIdentity(data.GetAppMetadata(), data.GetDataHeader(), data.GetDataBody())
	if err == nil {
		err = s.owns(identity)
	}
	if err != nil {
		return s.bad(ctx, identity, data, err)
	}
	key := identity.Key()
	s.highest = max(s.highest, key.Sequence)
	s.expect()
	switch s.cfg.Index.Claim(key, func(end index.End, reason string) { s.settled(key, end, reason) }) {
	case index.Known:
		s.metrics.duplicate(ctx, s.table.Name)
		s.settled(key, index.Stored, "")
		return nil
	case index.Flying:
		s.metrics.duplicate(ctx, s.table.Name)
		return nil
	case index.Fresh:
	}
	if err := s.admit(ctx, identity, data); err != nil {
		s.cfg.Index.Done(key, index.Again, err.Error())
		return err
	}
	return nil
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
	s.answered()
}

// owns refuses batches that this stream's agent may not send.
func (s *stream) owns(i wire.Identity) error {
	switch {
	case i.Node != s.node || i.Epoch != s.hello.Epoch || i.Table != s.table.ID:
		return fmt.Errorf("batch %v in the stream of node %s (%016x), epoch %d, table %s: %w",
			i.Key(), s.hello.Name, s.node, s.hello.Epoch, s.table.Name, errForeign)
	case i.Sequence > s.highest && i.Sequence-s.highest > index.MaxJump:
		return fmt.Errorf("batch %v: sequence is more than %d ahead of %d: %w", i.Key(), index.MaxJump, s.highest, wire.ErrMalformed)
	default:
		return nil
	}
}

var errForeign = errors.New("identity is not the agent's own")

// bad deals with a batch whose identity cannot be trusted. Damaged bytes may be whole when they are
// sent again; anything else ends the stream, for the agent and we do not speak the same language.
func (s *stream) bad(ctx context.Context, identity wire.Identity, data *flight.FlightData, err error) error {
	own := identity
	own.Node, own.Epoch, own.Table = s.node, s.hello.Epoch, s.table.ID // the stream's, which is proved
	if errors.Is(err, wire.ErrChecksum) {
		return s.damagedAgain(ctx, own, data, err)
	}
	s.metrics.quarantined(ctx, s.table.Name, reasonOf(err))
	if keepErr := s.keep(own, data, err); keepErr != nil {
		return keepErr
	}
	if errors.Is(err, errForeign) {
		return status.Errorf(codes.PermissionDenied, "%v", err)
	}
	return status.Errorf(codes.InvalidArgument, "%v", err)
}

// damagedAgain has a batch with a wrong checksum sent again, and gives it up when that does not help.
func (s *stream) damagedAgain(ctx context.Context, own wire.Identity, data *flight.FlightData, err error) error {
	s.damaged[own.Sequence]++
	switch {
	case len(s.damaged) > s.cfg.limits.maxDamagedBatches:
		return status.Errorf(codes.DataLoss, "%d batches arrived damaged, the last: %v", len(s.damaged), err)
	case s.damaged[own.Sequence] < maxDamaged:
		s.cfg.Logger.Warn("batch arrived damaged", "node", s.hello.Name, "table", s.table.Name, "seq", own.Sequence, "error", err)
		s.answer(wire.Answer{Kind: wire.Retry, Sequence: own.Sequence, Reason: err.Error()})
		return nil
	}
	delete(s.damaged, own.Sequence)
	if err := s.quarantine(ctx, own, data, err); err != nil {
		return err
	}
	s.answer(wire.Answer{Kind: wire.Rejected, Sequence: own.Sequence, Reason: err.Error()})
	return nil
}

// admit checks a batch that nobody has stored yet, and hands it to the store.
func (s *stream) admit(ctx context.Context, identity wire.Identity, data *flight.FlightData) error {
	size := int64(max(int(identity.Size), len(data.GetDataBody()))) + int64(len(data.GetDataHeader()))
	size = min(size, s.cfg.MaxMemoryBytes)
	if err := s.memory.Acquire(ctx, size); err != nil {
		return err
	}
	s.streams.held.Add(size)
	release := func() {
		s.streams.held.Add(-size)
		s.memory.Release(size)
	}
	record, err := s.decoder.Decode(identity, data.GetDataHeader(), data.GetDataBody())
	if err != nil {
		release()
		return s.reject(ctx, identity, data, err)
	}
	from, to, err := s.span(record)
	if err != nil {
		record.Release()
		release()
		return s.reject(ctx, identity, data, err)
	}
	s.metrics.admitted(ctx, s.table.Name, record.NumRows(), int64(len(data.GetDataBody())+len(data.GetDataHeader())+len(data.GetAppMetadata())))
	item := store.Item{Key: identity.Key(), Record: record, From: from, To: to, Done: func(err error) {
		release()
		s.stored(identity, data, err)
	}}
	if err := s.cfg.Store.Submit(ctx, item); err != nil {
		record.Release()
		release()
		return err
	}
	return nil
}

// stored is told by the store how a batch ended.
func (s *stream) stored(identity wire.Identity, data *flight.FlightData, err error) {
	if err == nil {
		s.cfg.Index.Done(identity.Key(), index.Stored, "")
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.put.Context()), rejectWait)
	defer cancel()
	if err := s.reject(ctx, identity, data, err); err != nil {
		s.cfg.Logger.Error("quarantine a refused batch", "batch", identity.Key().String(), "error", err)
		s.cfg.Index.Done(identity.Key(), index.Again, err.Error())
	}
}

// rejectWait bounds the ledger entry of a batch that the store refused.
const rejectWait = 30 * time.Second

// reject ends a batch that can never be stored. An error means that it could not be kept: the agent
// then keeps it.
func (s *stream) reject(ctx context.Context, identity wire.Identity, data *flight.FlightData, reason error) error {
	if err := s.quarantine(ctx, identity, data, reason); err != nil {
		return err
	}
	s.cfg.Index.Done(identity.Key(), index.Rejected, reason.Error())
	return nil
}

// quarantine keeps a batch that can never be stored, and records it.
func (s *stream) quarantine(ctx context.Context, identity wire.Identity, data *flight.FlightData, reason error) error {
	s.metrics.quarantined(ctx, s.table.Name, reasonOf(reason))
	if err := s.keep(identity, data, reason); err != nil {
		return err
	}
	if err := s.cfg.Store.Quarantined(ctx, identity.Key(), int64(identity.Rows), reason.Error()); err != nil {
		return status.Errorf(codes.Unavailable, "%v", err)
	}
	return nil
}

func (s *stream) keep(identity wire.Identity, data *flight.FlightData, reason error) error {
	path, err := s.cfg.Quarantine.Put(quarantine.Entry{
		Table: s.table.Name, NodeName: s.hello.Name, Node: identity.Node, Epoch: identity.Epoch, Sequence: identity.Sequence,
		Rows: identity.Rows, Reason: reason.Error(), ReceivedAt: s.cfg.now().UTC(), Collector: s.cfg.Name,
	}, quarantine.Data{Metadata: data.GetAppMetadata(), Header: data.GetDataHeader(), Body: data.GetDataBody()})
	if err != nil {
		return status.Errorf(codes.ResourceExhausted, "%v", err)
	}
	s.cfg.Logger.Warn("batch quarantined", "node", s.hello.Name, "table", s.table.Name, "seq", identity.Sequence, "reason", reason, "file", path)
	return nil
}

// span finds the earliest and latest time of a batch and refuses what cannot be: rows far from now,
// and batches over more than one UTC day, which would not land whole.
func (s *stream) span(record arrow.RecordBatch) (from, to time.Time, err error) {
	times := record.Column(0).(*array.Timestamp).TimestampValues()
	low, high := times[0], times[0]
	for _, t := range times[1:] {
		low, high = min(low, t), max(high, t)
	}
	unit := arrow.Millisecond
	if s.table.Columns[0].Type == schema.TimeMicroseconds {
		unit = arrow.Microsecond
	}
	from, to = low.ToTime(unit), high.ToTime(unit)
	now := s.cfg.now()
	switch {
	case from.Before(now.Add(-s.cfg.MaxAge)):
		return from, to, fmt.Errorf("rows from %s, more than %s old: %w: is the clock of node %s right?", from.Format(time.RFC3339), s.cfg.MaxAge, errTime, s.hello.Name)
	case to.After(now.Add(s.cfg.MaxAhead)):
		return from, to, fmt.Errorf("rows from %s, more than %s ahead: %w: is the clock of node %s right?", to.Format(time.RFC3339), s.cfg.MaxAhead, errTime, s.hello.Name)
	case !from.Truncate(24 * time.Hour).Equal(to.Truncate(24 * time.Hour)):
		return from, to, fmt.Errorf("rows from %s to %s are not of one UTC day: %w", from.Format(time.RFC3339), to.Format(time.RFC3339), errTime)
	default:
		return from, to, nil
	}
}

var errTime = errors.New("time is out of bounds")

// reasonOf names the kind of an error for the metrics.
func reasonOf(err error) string {
	for reason, target := range map[string]error{
		"checksum": wire.ErrChecksum, "too_large": wire.ErrTooLarge, "malformed": wire.ErrMalformed,
		"time": errTime, "foreign_identity": errForeign,
	} {
		if errors.Is(err, target) {
			return reason
		}
	}
	var refused store.Refused
	if errors.As(err, &refused) {
		return "refused_by_clickhouse"
	}
	return "other"
}
