// SPDX-License-Identifier: Apache-2.0

package rollups

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// share is a part of the GPUs: ids are hashes, so equal ranges have about equally many.
type share struct{ first, last uint64 }

func everyGPU() share { return share{0, math.MaxUint64} }

// divide makes n parts of it.
func (s share) divide(n uint64) []share {
	n = max(1, n)
	all := make([]share, n)
	first := s.first
	for i := range all {
		last := s.last
		if i+1 < len(all) {
			high, low := bits.Mul64(uint64(i+1), s.last-s.first)
			quotient, _ := bits.Div64(high, low, n)
			last = s.first + quotient
		}
		all[i] = share{first, last}
		first = last + 1
	}
	return all
}

// where is the condition for the ids in it.
func (s share) where(id string) string {
	if s == everyGPU() {
		return "true"
	}
	return fmt.Sprintf("%s BETWEEN %d AND %d", id, s.first, s.last)
}

// parts is into how many something is divided of which each part is to have at most limit, about.
func parts(all, limit uint64) uint64 { return (all + limit - 1) / limit }

// slices is into how many statements work is divided that reads so many samples and makes so many rows. At 1 Hz a minute is
// made of 60; of agents that read less often, and of other programs, there are more rows to as many samples.
func (l Limits) slices(samples, rows uint64) uint64 {
	return max(parts(samples, l.SliceSamples), parts(rows, max(1, l.SliceSamples/minute)))
}

// maxHalvings is how often a share is divided before it is given up.
const maxHalvings = 20

// each does something with every share, one after the other. One that is too much for ClickHouse is divided.
func (w *work) each(ctx context.Context, all []share, do func(context.Context, share) error) error {
	for _, s := range all {
		if err := w.halving(ctx, s, maxHalvings, do); err != nil {
			return err
		}
	}
	return nil
}

func (w *work) halving(ctx context.Context, s share, left int, do func(context.Context, share) error) error {
	err := do(ctx, s)
	if err == nil && w.between != nil {
		return w.between(ctx)
	}
	if !isTooMuch(err) || left == 0 || s.first == s.last {
		return err
	}
	for _, half := range s.divide(2) {
		if err := w.halving(ctx, half, left-1, do); err != nil {
			return err
		}
	}
	return nil
}

// isTooMuch tells that it was given up on the amount: memory, time, rows or bytes.
func isTooMuch(err error) bool {
	exception, ok := errors.AsType[*clickhouse.Exception](err)
	if !ok {
		return errors.Is(err, errTooLong)
	}
	switch exception.Code {
	case 158, 159, 160, 241, 307, 396:
		return true
	default:
		return false
	}
}
