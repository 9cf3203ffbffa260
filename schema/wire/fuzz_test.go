// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"bytes"
	"errors"
	"testing"
	"unicode/utf8"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// The seeds of these targets are in testdata/fuzz; go generate ./schema/... makes them from the golden
// files.

func FuzzParseIdentity(f *testing.F) {
	f.Fuzz(func(t *testing.T, metadata, header, body []byte) {
		identity, err := wire.ParseIdentity(metadata, header, body)
		if err != nil {
			wantRefused(t, err, "identity")
			return
		}
		if identity.Rows == 0 || identity.Rows > wire.MaxRows || identity.Size > wire.MaxFrameBytes || identity.Sequence == 0 {
			t.Errorf("accepted %+v", identity)
		}
		crc := identity.CRC
		if again := identity.AppendTo(nil, header, body); !bytes.Equal(again, metadata) || identity.CRC != crc {
			t.Errorf("identity % x is written as % x", metadata, again)
		}
		if len(body) > 0 {
			body[0] ^= 1
			if _, err := wire.ParseIdentity(metadata, header, body); !errors.Is(err, wire.ErrChecksum) {
				t.Errorf("changed body: %v, want %v", err, wire.ErrChecksum)
			}
		}
	})
}

func FuzzParseHello(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := wire.ParseHello(b)
		if err != nil {
			wantMalformed(t, err, "hello")
			return
		}
		if again := h.Append(nil); !bytes.Equal(again, b) {
			t.Errorf("hello % x is written as % x", b, again)
		}
		if err := wire.CheckNodeName(h.Name); err != nil {
			t.Error(err)
		}
	})
}

func FuzzParseAnswer(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := wire.ParseAnswer(b)
		if err != nil {
			wantMalformed(t, err, "answer")
			return
		}
		if again := a.Append(nil); !bytes.Equal(again, b) {
			t.Errorf("answer % x is written as % x", b, again)
		}
		if !utf8.ValidString(a.Reason) {
			t.Errorf("reason %q", a.Reason)
		}
	})
}

// FuzzDecode gives the decoder whatever it likes under the right checksum.
func FuzzDecode(f *testing.F) {
	l := newLink(f, schema.EventsID)
	f.Fuzz(func(t *testing.T, packed bool, rows, size uint32, header, body []byte) {
		identity := l.identityOf(rows)
		if packed {
			identity.Codec, identity.Size = wire.Zstd, size
		}
		record, err := l.receiveSealed(identity, header, body)
		if err != nil {
			wantRefused(t, err, "batch")
			return
		}
		defer record.Release()
		if record.NumRows() != int64(rows) || !record.Schema().Equal(l.table.WireSchema()) {
			t.Errorf("%d rows of %v, announced %d", record.NumRows(), record.Schema(), rows)
		}
		wantWhole(t, l, record)
	})
}

// FuzzCheckSchema compares whatever it likes with the schema of a table. What Arrow's own reader makes of
// it cannot be asked: it does not survive this input.
func FuzzCheckSchema(f *testing.F) {
	l := newLink(f, schema.EventsID)
	want := l.table.WireSchema()
	f.Fuzz(func(t *testing.T, message []byte) {
		if err := wire.CheckSchema(message, want); err != nil {
			wantMalformed(t, err, "schema")
			return
		}
		for _, field := range want.Fields() {
			if !bytes.Contains(message, []byte(field.Name)) {
				t.Errorf("accepted a message in which %s does not occur", field.Name)
			}
		}
	})
}
