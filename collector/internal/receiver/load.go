// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"sync"
	"time"

	"github.com/gpufleet/gpufleet/schema"
)

// Load is what a receiver has at the moment. It is handed in, as the receiver itself only lives while it serves; it may
// be used by several goroutines.
type Load struct {
	mu       sync.Mutex         // guards the fields below
	shares   []map[uint8]*share // by shard
	nodes    map[uint64]int     // open streams, by node
	admitted map[int64]int      // batches that are not stored yet, by the second in which they were admitted
}

// NewLoad is that of a receiver that has nothing.
func NewLoad() *Load { return &Load{nodes: make(map[uint64]int), admitted: make(map[int64]int)} }

// TableLoad is the load of one table.
type TableLoad struct {
	Shard                          int // from 0 on
	Table                          string
	HeldBytes, LimitBytes, Streams int64
}

// Tables is the load of each table, shard by shard; nothing before the receiver serves.
func (l *Load) Tables() []TableLoad {
	l.mu.Lock()
	shares := l.shares
	l.mu.Unlock()
	var loads []TableLoad
	for shard, of := range shares {
		for _, t := range schema.Tables() {
			if s := of[t.ID]; s != nil {
				loads = append(loads, TableLoad{shard, t.Name, s.held.Load(), s.budget, s.open.Load()})
			}
		}
	}
	return loads
}

// Nodes is how many nodes have a stream open.
func (l *Load) Nodes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(len(l.nodes))
}

// Oldest is for how long the oldest batch has been here that is not stored, to the second; 0 if there is none.
func (l *Load) Oldest(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	first, found := int64(0), false
	for second := range l.admitted {
		if !found || second < first {
			first, found = second, true
		}
	}
	if !found {
		return 0
	}
	return max(now.Sub(time.Unix(first, 0)), 0)
}

func (l *Load) serve(shares []map[uint8]*share) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shares = shares
}

// opened counts a stream of a node until the returned function is called.
func (l *Load) opened(node uint64) (closed func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nodes[node]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.nodes[node]--; l.nodes[node] == 0 {
			delete(l.nodes, node)
		}
	}
}

// took counts a batch; left takes it out again.
func (l *Load) took(second int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.admitted[second]++
}

func (l *Load) left(second int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.admitted[second]--; l.admitted[second] == 0 {
		delete(l.admitted, second)
	}
}
