// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"

	"github.com/gpufleet/gpufleet/schema"
)

// siftFormer settles those of a unit's doubtful batches that have landed on a shard which had their node before, and returns
// the unit of the rest; nil if nothing is left, or the context has ended. Their ledger is the one of the shard where they
// are.
func (l *lane) siftFormer(ctx context.Context, u *unit) *unit {
	if l.cfg.Shard == nil || l.cfg.Shard.Former == nil {
		return u
	}
	there := make(map[*Store][]Item)
	for _, i := range u.doubtful() {
		for _, s := range l.cfg.Shard.Former(i.Key.Node, i.Key.Epoch) {
			there[s] = append(there[s], i)
		}
	}
	for s, items := range there {
		other := s.lanes[l.table.ID]
		landed, err := insist(ctx, l, u, func() (landedRows, error) { return other.counted(ctx, u.part(items)) })
		if err != nil {
			return nil
		}
		if len(landed) == 0 {
			continue
		}
		if u, err = other.divide(ctx, u, schema.ReconciledUnit, landed); err != nil || len(u.items) == 0 {
			return nil
		}
	}
	return u
}
