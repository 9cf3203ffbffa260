// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/agent/internal/sampler"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// slowBurster takes a while for each order, as without a driver.
type slowBurster struct {
	takes time.Duration
	made  []string // reasons
}

func (b *slowBurster) Burst(_ context.Context, o sampler.Order) (sampler.Outcome, error) {
	b.made = append(b.made, o.Reason)
	<-time.After(b.takes)
	return sampler.Outcome{}, sampler.ErrNotSampling
}

// countedRows counts rows.
type countedRows struct{ n int }

func (c *countedRows) Append(uint8, []batch.Cell) error { c.n++; return nil }
func (c *countedRows) FlushTable(uint8) error           { return nil }

func ordering(b burster) (*Agent, *countedRows) {
	rows := &countedRows{}
	return &Agent{
		cfg:    Config{Logger: slog.New(slog.DiscardHandler), Bursts: Bursts{On: true}},
		bursts: b, orders: make(chan waitingOrder, maxOrders), journal: event.NewJournal(rows),
	}, rows
}

// TestOrdersThatHaveWaitedAreDropped: none of them becomes a burst minutes after what it was for. Who asked from afar is told.
func TestOrdersThatHaveWaitedAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &slowBurster{takes: 4 * time.Second}
		a, rows := ordering(b)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		for _, reason := range []string{"first", "second", "third", "fourth"} {
			a.order(sampler.Order{Reason: reason, Asked: reason == "fourth"})
		}
		go func() { done <- a.obeyOrders(ctx) }()
		<-time.After(time.Minute)
		a.order(sampler.Order{Reason: "fifth"})
		<-time.After(time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if want := []string{"first", "second", "fifth"}; !slices.Equal(b.made, want) || rows.n != 1 {
			t.Errorf("orders %v reached the driver, want %v; %d events, want one", b.made, want, rows.n)
		}
	})
}

// TestOrdersFromAfarAreBounded by a clock that goes on when the machine's is set back.
func TestOrdersFromAfarAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := ordering(&slowBurster{})
		order := wire.Order{Burst: &wire.Burst{}}
		for range 3 {
			for range 10 {
				a.ordered(order)
			}
			<-time.After(orderEvery)
		}
		if got := len(a.orders); got != 3 {
			t.Errorf("%d orders in three seconds, want three", got)
		}
	})
	a, _ := ordering(&slowBurster{}) // in a bubble there is but one clock
	a.ordered(wire.Order{Burst: &wire.Burst{}})
	if last := a.lastOrder.Load(); *last == last.Round(0) {
		t.Error("the time of the latest order is the wall clock's")
	}
}
