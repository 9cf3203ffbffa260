// SPDX-License-Identifier: Apache-2.0

package place

import (
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// Spread gives each node times of its own: the nodes of a fleet are often started at the same second, and must not ask
// at the same second ever after. What it gives follows from the node's name alone. It belongs to one goroutine.
type Spread struct {
	random *rand.Rand
	begun  bool
}

// NewSpread makes the times at which a node asks for one thing.
func NewSpread(node, what string) *Spread {
	h := fnv.New64a()
	h.Write([]byte(node))
	first := h.Sum64()
	h.Write([]byte{0})
	h.Write([]byte(what))
	return &Spread{random: rand.New(rand.NewPCG(first, h.Sum64()))}
}

// Regular is the wait between two questions: always the same, but for the first one, which is any time up to that.
func (s *Spread) Regular(every time.Duration) time.Duration {
	if s.begun {
		return every
	}
	s.begun = true
	return time.Duration(s.random.Int64N(int64(max(every, 1))))
}

// Retry is the wait after a question that all nodes may have asked at once, as they do when they start: between half of
// what is given and all of it.
func (s *Spread) Retry(wait time.Duration) time.Duration {
	return wait/2 + time.Duration(s.random.Int64N(int64(wait/2)+1))
}
