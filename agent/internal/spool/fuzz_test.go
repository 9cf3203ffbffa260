// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/internal/frames"
	"github.com/gpufleet/gpufleet/schema"
)

// FuzzSegment: whatever a file holds, what is taken out of it is a whole record that lies there, records come in the
// order of their places, and what is between them was told.
func FuzzSegment(f *testing.F) {
	table, _ := schema.TableByID(schema.SamplesID)
	at := time.UnixMilli(1_790_000_000_000)
	whole := header{table: table.ID, node: 7, epoch: 9, madeAt: at, columns: columnNames(table)}.appendTo(nil)
	for s := uint64(1); s <= 3; s++ {
		whole = appendRecord(whole, makeBatch(table.ID, 9, s, 40), at)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-7])
	f.Add(append([]byte{1, 2, 3}, whole...))
	f.Fuzz(func(t *testing.T, file []byte) {
		s, err := newScanner(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			t.Fatal(err)
		}
		end := s.End
		for {
			r, err := s.scan()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.offset < end || r.offset%8 != 0 {
				t.Fatalf("record at %d, behind one that ends at %d", r.offset, end)
			}
			end = r.offset + r.head.Size()
			got := appendRecord(nil, r.batch, r.head.TakenAt)
			content := frames.HeadBytes + r.head.Content()
			if !bytes.Equal(got[:content], file[r.offset:][:content]) {
				t.Fatalf("record at %d is not what is made of it", r.offset)
			}
		}
		for i, b := range s.Bad {
			if b.From >= b.To || b.To > int64(len(file)) || i > 0 && b.From <= s.Bad[i-1].To {
				t.Fatalf("bad stretches %v of %d bytes", s.Bad, len(file))
			}
		}
	})
}

// FuzzLife: what is read of a life is what was written, and nothing else is taken for one.
func FuzzLife(f *testing.F) {
	whole := life{epoch: 1_790_000_000_000, node: nodeName}.appendTo(nil)
	f.Add(whole)
	f.Add(whole[:lifeBytes])
	f.Add(append(whole, '/'))
	f.Fuzz(func(t *testing.T, file []byte) {
		l, err := parseLife(file)
		switch {
		case err != nil && !errors.Is(err, errBad):
			t.Errorf("%v is not said to be damage", err)
		case err == nil && !bytes.Equal(l.appendTo(nil), file):
			t.Errorf("%+v is not what the file holds", l)
		}
	})
}
