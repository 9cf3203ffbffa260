// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/gpufleet/gpufleet/schema"
)

// TestCutAnywhere cuts inserts at places of every part of their stream: once as a connection that breaks there, once as
// a body that ends there. The next try is whole.
func TestCutAnywhere(t *testing.T) {
	const count = 22
	places := func(body []byte) (at [count]int) {
		for i := range at {
			at[i] = i // columns, rows, and the first column's name and type
			if i >= count/2 {
				at[i] = len(body) * (i - count/2 + 1) / (count/2 + 1) // the columns
			}
		}
		at[count-1], at[count-2] = len(body)-1, len(body)-9
		return at
	}
	r, p, db := through(t, nil)
	var batches []*sent
	for sequence := uint64(1); sequence <= 2*count; sequence++ {
		place, breaks, cut := int(sequence-1)/2, sequence%2 == 0, false
		p.set(func(request *http.Request, body []byte) fault {
			if cut || kindOf(request, body) != toTable {
				return pass
			}
			cut = true
			at := places(body)[place]
			if breaks {
				return func(p *proxy, w http.ResponseWriter, r *http.Request, body []byte) {
					_, _ = p.ask(r, io.MultiReader(bytes.NewReader(body[:at]), brokenReader{}))
					hangUp(w)
				}
			}
			return func(p *proxy, w http.ResponseWriter, r *http.Request, body []byte) { pass(p, w, r, body[:at]) }
		})
		b := r.submit(schema.EventsID, sequence, 5)
		if err := b.wait(t); err != nil || !cut {
			t.Fatalf("cut at place %d (breaks: %v): %v", place, breaks, err)
		}
		batches = append(batches, b)
	}
	p.set(nil)
	wantRows(t, db, batches...)
}
