// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/metadata"

	"github.com/gpufleet/gpufleet/schema/wire"
)

// Orders brings orders to agents, over the streams that these have open. Nothing is kept of an order: whoever gives it
// waits until a stream is there, or gives it up. It may be used by several goroutines.
type Orders struct {
	mu      sync.Mutex           // guards the fields below
	streams map[string][]*stream // that take orders, by name of the node
	changed chan struct{}        // closed and renewed when one comes
}

// NewOrders knows no agent yet.
func NewOrders() *Orders {
	return &Orders{streams: make(map[string][]*stream), changed: make(chan struct{})}
}

// Send sends an order to a node's agent, and waits for the agent as long as the context lasts. It tells nothing of what
// the agent does about it, nor whether the connection lasted until it arrived.
func (o *Orders) Send(ctx context.Context, node string, order wire.Order) error {
	answer, err := order.Answer()
	if err != nil {
		return err
	}
	if err := wire.CheckNodeName(node); err != nil {
		return err
	}
	for {
		sent, changed := o.try(node, answer)
		if sent {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("order to node %s: no agent of it that takes orders is connected to this collector", node)
		}
	}
}

// try sends an order over the stream that came last; the others may be about to end.
func (o *Orders) try(node string, answer wire.Answer) (sent bool, changed <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	streams := o.streams[node]
	if len(streams) == 0 {
		return false, o.changed
	}
	streams[len(streams)-1].answer(answer)
	return true, nil
}

// add notes a stream, if its agent takes orders. It returns what forgets it.
func (o *Orders) add(s *stream) (forget func()) {
	if o == nil || !takesOrders(s.put.Context()) {
		return func() {}
	}
	node := s.hello.Name
	o.mu.Lock()
	defer o.mu.Unlock()
	o.streams[node] = append(o.streams[node], s)
	close(o.changed)
	o.changed = make(chan struct{})
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.streams[node] = slices.DeleteFunc(o.streams[node], func(other *stream) bool { return other == s })
		if len(o.streams[node]) == 0 {
			delete(o.streams, node)
		}
	}
}

// takesOrders tells that the agent of a stream says that it takes orders of a burst. Another list of words may follow
// from a newer one.
func takesOrders(ctx context.Context) bool {
	md, _ := metadata.FromIncomingContext(ctx)
	return slices.ContainsFunc(md.Get(wire.OrdersHeader), func(words string) bool {
		return slices.Contains(strings.Fields(words), wire.OrderBurst)
	})
}
