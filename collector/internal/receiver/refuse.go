// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"errors"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gpufleet/gpufleet/collector/internal/aside"
	"github.com/gpufleet/gpufleet/collector/internal/index"
	"github.com/gpufleet/gpufleet/internal/batchtrace"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// reject ends a batch that can never be stored. An error means that it could not be kept: the agent
// then keeps it.
func (s *stream) reject(ctx context.Context, identity wire.Identity, data *flight.FlightData, reason error, span *batchtrace.Span) error {
	if err := s.quarantine(ctx, identity, data, reason); err != nil {
		return err
	}
	s.hold.Done(identity.Sequence, index.Rejected, reason.Error())
	span.Lap("quarantine", nil)
	span.End(reason)
	return nil
}

// quarantine keeps a batch that can never be stored, and records it.
func (s *stream) quarantine(ctx context.Context, identity wire.Identity, data *flight.FlightData, reason error) error {
	s.metrics.quarantined(ctx, s.table.Name, reasonOf(reason))
	return unkept(s.aside().Put(ctx, s.hello.Name, s.refused(identity, data, reason), reason))
}

// keep keeps what is no batch of anybody's: there is nothing to record.
func (s *stream) keep(identity wire.Identity, data *flight.FlightData, reason error) error {
	return unkept(s.aside().Keep(s.hello.Name, s.refused(identity, data, reason), reason))
}

func (s *stream) aside() aside.Aside {
	return aside.Aside{Collector: s.cfg.Name, Files: s.cfg.Quarantine, Ledger: s.cfg.Store, Logger: s.cfg.Logger, Now: s.cfg.now}
}

// unkept is how a batch is answered that could not be put aside: the agent keeps it.
func unkept(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, aside.ErrNotKept):
		return status.Errorf(codes.ResourceExhausted, "%v", err)
	default:
		return status.Errorf(codes.Unavailable, "%v", err)
	}
}

// refused is the batch as the quarantine keeps it. Rows of before the node was the tenant's are somebody else's.
func (s *stream) refused(identity wire.Identity, data *flight.FlightData, reason error) *wire.Batch {
	b := s.batch(identity, data)
	if errors.Is(reason, errSince) {
		b.Scope.Tenant = ""
	}
	return b
}
