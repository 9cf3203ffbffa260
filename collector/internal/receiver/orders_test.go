// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gpufleet/gpufleet/schema/wire"
)

var aBurst = wire.Order{Burst: &wire.Burst{GPU: "GPU-1", Seconds: 10, Reason: "slow"}}

// taker opens a stream that takes orders.
func (f *fixture) taker(t *testing.T, words string) *agent {
	t.Helper()
	a := f.newAgent(t, f.dial(t), wire.NodeHeader, "node-1", wire.OrdersHeader, words)
	a.hello()
	a.want(wire.Welcome, 0)
	return a
}

func (a *agent) wantOrder(want wire.Order) {
	a.t.Helper()
	got, err := wire.ParseOrder(a.want(wire.Ordered, 0).Reason)
	if err != nil {
		a.t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		a.t.Errorf("order (-want +got):\n%s", diff)
	}
}

// shortly is a context that ends before an order could wait for long.
func shortly(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// TestOrders: an agent gets them between answers, over its newest stream, and goes on.
func TestOrders(t *testing.T) {
	orders := NewOrders()
	f := serve(t, func(c *Config) { c.Orders = orders })
	first := f.taker(t, "burst")
	if err := orders.Send(t.Context(), "node-1", aBurst); err != nil {
		t.Fatal(err)
	}
	first.wantOrder(aBurst)
	first.send(first.batch(1))
	first.want(wire.Stored, 1)

	second := f.taker(t, "later burst")
	if err := orders.Send(t.Context(), "node-1", aBurst); err != nil {
		t.Fatal(err)
	}
	second.wantOrder(aBurst)
	if err := orders.Send(shortly(t), "node-2", aBurst); err == nil || !strings.Contains(err.Error(), "node node-2") {
		t.Errorf("an order to another node: %v", err)
	}
	for _, bad := range []error{orders.Send(t.Context(), "node-1", wire.Order{}), orders.Send(t.Context(), "no/node", aBurst)} {
		if bad == nil {
			t.Error("an order that cannot be is sent")
		}
	}
}

// TestAnOrderWaits for the agent to connect, and no longer than whoever gives it.
func TestAnOrderWaits(t *testing.T) {
	orders := NewOrders()
	f := serve(t, func(c *Config) { c.Orders = orders })
	a := f.taker(t, "burst")
	a.leave()
	deadline := time.After(limitless)
	for { // until the stream is forgotten
		orders.mu.Lock()
		left := len(orders.streams)
		orders.mu.Unlock()
		if left == 0 {
			break
		}
		select {
		case <-deadline:
			t.Fatal("the stream is not forgotten")
		case <-time.After(time.Millisecond):
		}
	}
	if err := orders.Send(shortly(t), "node-1", aBurst); err == nil {
		t.Error("an order to an agent that is gone is sent")
	}
	sent := make(chan error, 1)
	go func() { sent <- orders.Send(context.WithoutCancel(t.Context()), "node-1", aBurst) }()
	again := f.taker(t, "burst")
	again.wantOrder(aBurst)
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// TestAnAgentThatTakesNoOrders gets none: it would not know what that is, and end its stream.
func TestAnAgentThatTakesNoOrders(t *testing.T) {
	orders := NewOrders()
	f := serve(t, func(c *Config) { c.Orders = orders })
	old, other := f.agent(t, nil), f.taker(t, "reset bursts")
	err := orders.Send(shortly(t), "node-1", aBurst)
	if err == nil || errors.Is(err, wire.ErrMalformed) {
		t.Errorf("sent: %v", err)
	}
	for _, a := range []*agent{old, other} {
		a.send(a.batch(1))
	}
	old.want(wire.Stored, 1) // nothing came before it
	other.want(wire.Stored, 1)
}
