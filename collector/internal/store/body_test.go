// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/gpufleet/gpufleet/collector/internal/batchtest"
	"github.com/gpufleet/gpufleet/schema"
)

// large is a unit of some pieces.
func large(t *testing.T) *unit {
	t.Helper()
	u := &unit{table: batchtest.Table(t, schema.SamplesID)}
	record := batchtest.Record(u.table, 1, 500, today())
	for s := range uint64(5) {
		u.add(Item{Key: key(schema.SamplesID, s), Columns: batchtest.Columns(t, u.table, record), From: today(), To: today()})
	}
	return u
}

// TestBodyIsTheUnit however it is read.
func TestBodyIsTheUnit(t *testing.T) {
	u := large(t)
	n := newNative(u.table)
	want := layOut(n, u, nil)
	if len(want) < 5*pieceBytes {
		t.Fatalf("%d bytes are not many pieces", len(want))
	}
	var written bytes.Buffer
	if count, err := newBody(n, u).WriteTo(&written); err != nil || count != int64(len(want)) || !bytes.Equal(written.Bytes(), want) {
		t.Errorf("%d bytes written, want %d: %v", count, len(want), err)
	}
	for name, read := range map[string]io.Reader{"as it comes": newBody(n, u), "byte by byte": iotest.OneByteReader(newBody(n, u))} {
		if got, err := io.ReadAll(read); err != nil || !bytes.Equal(got, want) {
			t.Errorf("read %s: %d bytes, want %d: %v", name, len(got), len(want), err)
		}
	}
}

// TestBodyEnds: of a unit that was given up nothing more is read, for its batches' memory is another's.
func TestBodyEnds(t *testing.T) {
	u := large(t)
	b := newBody(newNative(u.table), u)
	if _, err := b.next(); err != nil {
		t.Fatal(err)
	}
	b.end()
	u.items = nil // would panic
	if n, err := b.WriteTo(io.Discard); n != 0 || !errors.Is(err, errUnitEnded) {
		t.Errorf("%d bytes written: %v", n, err)
	}
	if n, err := b.Read(make([]byte, 10)); n != 0 || !errors.Is(err, errUnitEnded) {
		t.Errorf("%d bytes read: %v", n, err)
	}
}

// TestBodyOfADeadConnection stops at once.
func TestBodyOfADeadConnection(t *testing.T) {
	u := large(t)
	if n, err := newBody(newNative(u.table), u).WriteTo(failing{}); n != 0 || !errors.Is(err, errCut) {
		t.Errorf("%d bytes written: %v", n, err)
	}
}

type failing struct{}

var errCut = errors.New("cut")

func (failing) Write([]byte) (int, error) { return 0, errCut }
