// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc/codes"

	"github.com/gpufleet/gpufleet/schema/wire"
)

// AgentLimits are what one agent may do, so that none slows the others. 0 is no limit.
type AgentLimits struct {
	BatchesPerSecond float64 // on average; ten seconds' worth at once
	BytesPerSecond   float64 // the same, over the wire
	Streams          int     // at the same time
	BatchRows        int     // in one batch
	GPUs             int     // distinct ids of GPUs and MIG instances in about a day
	EpochsPerHour    int     // distinct lives of the agent that send
}

// DefaultAgentLimits are far above what an agent of sixteen GPUs sends, also when it catches up on a day.
func DefaultAgentLimits() AgentLimits {
	return AgentLimits{BatchesPerSecond: 500, BytesPerSecond: 64 << 20, Streams: 64, BatchRows: wire.MaxRows, GPUs: 2048, EpochsPerHour: 600}
}

// burst is how many seconds of its rate an agent may use at once.
const burst = 10

// bucket lets a rate through, with a burst.
type bucket struct {
	left float64
	at   time.Time
}

// take takes so much, or tells how long to wait until there is as much. What is larger than a burst is let through when
// the bucket is full, and counts for what it is.
func (b *bucket) take(rate, n float64, now time.Time) (wait time.Duration) {
	if rate <= 0 {
		return 0
	}
	most := rate * burst
	if b.at.IsZero() {
		b.left = most
	} else {
		b.left = min(b.left+rate*max(now.Sub(b.at).Seconds(), 0), most)
	}
	b.at = now
	if need := min(n, most); b.left < need {
		return time.Duration((need - b.left) / rate * float64(time.Second))
	}
	b.left -= n
	return 0
}

// guest is what is known of one node's agents.
type guest struct {
	mu      sync.Mutex // guards the fields below
	streams int
	left    time.Time // when the last stream ended
	batches bucket
	bytes   bucket
	epochs  map[uint64]time.Time // when each came first, within the hour
	gpus    map[uint64]struct{}
	gpusAt  time.Time                     // since when they are counted
	parts   map[uint8]*semaphore.Weighted // of the memory, by table
	held    int                           // batches that have memory, or wait for it
}

// guests are all nodes whose agents are here or were lately.
type guests struct {
	limits AgentLimits
	mu     sync.Mutex // guards nodes
	nodes  map[uint64]*guest
}

// maxGuests bounds the memory for agents that have gone: past it they are forgotten at once.
const maxGuests = 1 << 17

// keepGuests is how long an agent that has gone is remembered.
const keepGuests = time.Hour

// enter lets a stream in, or tells why not. A stream that was let in must leave.
func (g *guests) enter(node uint64, name string, epoch uint64, now time.Time) (*guest, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	one := g.nodes[node]
	if one == nil {
		if len(g.nodes) >= maxGuests {
			g.forgetLocked(now)
		}
		one = &guest{epochs: map[uint64]time.Time{}, gpus: map[uint64]struct{}{}, gpusAt: now, parts: map[uint8]*semaphore.Weighted{}}
		g.nodes[node] = one
	}
	one.mu.Lock()
	defer one.mu.Unlock()
	if g.limits.Streams > 0 && one.streams >= g.limits.Streams {
		return nil, refuse(codes.ResourceExhausted, "agent_streams", "node %s has %d streams open, at most %d (--agent-streams): do several agents run as it?", name, one.streams, g.limits.Streams).after(10 * time.Second)
	}
	if err := one.lifeLocked(g.limits, name, epoch, now); err != nil {
		return nil, err
	}
	one.streams++
	return one, nil
}

// lifeLocked counts an epoch.
func (o *guest) lifeLocked(l AgentLimits, name string, epoch uint64, now time.Time) error {
	oldest := now
	for e, first := range o.epochs {
		if now.Sub(first) >= time.Hour {
			delete(o.epochs, e)
		} else if first.Before(oldest) {
			oldest = first
		}
	}
	if _, ok := o.epochs[epoch]; ok {
		return nil
	}
	if l.EpochsPerHour > 0 && len(o.epochs) >= l.EpochsPerHour {
		wait := max(oldest.Add(time.Hour).Sub(now), time.Second)
		return refuse(codes.ResourceExhausted, "agent_epochs", "node %s sends for %d lives of its agent within an hour, at most %d (--agent-epochs): does it start again and again?", name, len(o.epochs)+1, l.EpochsPerHour).after(wait)
	}
	o.epochs[epoch] = now
	return nil
}

// leave ends an enter.
func (g *guests) leave(node uint64, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	one := g.nodes[node]
	one.mu.Lock()
	defer one.mu.Unlock()
	one.streams--
	one.left = now
}

// forget drops those who have been gone for long.
func (g *guests) forget(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.nodes) < maxGuests {
		now = now.Add(-keepGuests)
	}
	g.forgetLocked(now)
}

// forgetLocked drops those who were gone by then, and hold nothing.
func (g *guests) forgetLocked(by time.Time) {
	for node, one := range g.nodes {
		one.mu.Lock()
		gone := one.streams == 0 && !one.left.After(by) && one.held == 0
		one.mu.Unlock()
		if gone {
			delete(g.nodes, node)
		}
	}
}

// limited is why one batch is not taken now. The agent keeps it, and sends it again.
type limited struct{ reason, text string }

// Error implements error.
func (l limited) Error() string { return l.text }

// send counts a batch that came.
func (o *guest) send(l AgentLimits, bytes int, now time.Time) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if wait := o.batches.take(l.BatchesPerSecond, 1, now); wait > 0 {
		return limited{"agent_batches", fmt.Sprintf("more than %g batches a second of this agent (--agent-batches): again in %s", l.BatchesPerSecond, wait.Round(time.Millisecond))}
	}
	if wait := o.bytes.take(l.BytesPerSecond, float64(bytes), now); wait > 0 {
		return limited{"agent_bytes", fmt.Sprintf("more than %g bytes a second of this agent (--agent-bytes): again in %s", l.BytesPerSecond, wait.Round(time.Millisecond))}
	}
	return nil
}

// hold waits until an agent holds so little of a table's memory that a batch may come. It may hold half of it: one that
// sends more than its window lets it waits for itself, and nobody else for it. One batch it may always have.
func (o *guest) hold(ctx context.Context, table uint8, bytes, budget int64) (release func(), err error) {
	half := max(budget/2, 1)
	bytes = min(bytes, half)
	o.mu.Lock()
	part := o.parts[table]
	if part == nil {
		part = semaphore.NewWeighted(half)
		o.parts[table] = part
	}
	o.held++
	o.mu.Unlock()
	if err := part.Acquire(ctx, bytes); err != nil {
		o.letGo()
		return nil, err
	}
	return func() {
		part.Release(bytes)
		o.letGo()
	}, nil
}

func (o *guest) letGo() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held--
}

// keepGPUs is how long ids are counted together.
const keepGPUs = 24 * time.Hour

// count counts the GPUs of a batch.
func (o *guest) count(l AgentLimits, ids wire.Column, rows int, now time.Time) error {
	if l.GPUs <= 0 {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if now.Sub(o.gpusAt) >= keepGPUs {
		clear(o.gpus)
		o.gpusAt = now
	}
	var fresh []uint64
	for row := range rows {
		id := ids.Uint64(row)
		if _, ok := o.gpus[id]; ok {
			continue
		}
		if len(o.gpus) >= l.GPUs {
			for _, id := range fresh { // a batch that is not taken leaves nothing
				delete(o.gpus, id)
			}
			return limited{"agent_gpus", fmt.Sprintf("more than %d GPUs and MIG instances of this agent within a day (--agent-gpus): are its ids made up?", l.GPUs)}
		}
		o.gpus[id] = struct{}{}
		fresh = append(fresh, id)
	}
	return nil
}
