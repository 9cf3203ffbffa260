// SPDX-License-Identifier: Apache-2.0

package store

import "sync"

// body is the memory of a unit that is laid out.
type body struct{ bytes []byte }

// bodies keeps it for the next unit: at full load, clearing fresh memory would take longer than filling it.
type bodies struct{ free sync.Pool }

func (b *bodies) get() *body {
	if kept, ok := b.free.Get().(*body); ok {
		return kept
	}
	return &body{}
}

func (b *bodies) put(used *body) { b.free.Put(used) }
