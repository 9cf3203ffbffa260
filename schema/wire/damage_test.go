// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestEveryFlippedBitIsNoticed(t *testing.T) {
	l := newLink(t, schema.EventsID)
	for _, codec := range codecs {
		b := l.encode(t, codec, l.random(t, 9))
		for name, part := range map[string][]byte{"metadata": b.Metadata, "header": b.Header, "body": b.Body} {
			for bit := range 8 * len(part) {
				part[bit/8] ^= 1 << (bit % 8)
				_, err := l.receive(b.Metadata, b.Header, b.Body)
				if !errors.Is(err, wire.ErrChecksum) && !errors.Is(err, wire.ErrMalformed) {
					t.Errorf("codec %d, bit %d of %s: %v", codec, bit, name, err)
				}
				part[bit/8] ^= 1 << (bit % 8)
			}
		}
		if _, err := l.receive(b.Metadata, b.Header, b.Body); err != nil {
			t.Errorf("codec %d: mended batch is refused: %v", codec, err)
		}
	}
}

func TestCutBatchesAreRefused(t *testing.T) {
	l := newLink(t, schema.EventsID)
	for _, codec := range codecs {
		record := l.random(t, 9)
		b := l.encode(t, codec, record)
		for n := range b.Metadata {
			_, err := l.receive(b.Metadata[:n], b.Header, b.Body)
			wantRefused(t, err, fmt.Sprintf("codec %d, %d bytes of metadata", codec, n))
		}
		for n := range b.Body {
			_, err := l.receive(b.Metadata, b.Header, b.Body[:n])
			wantRefused(t, err, fmt.Sprintf("codec %d, %d bytes of body", codec, n))
			_, err = l.receiveSealed(b.Identity, b.Header, b.Body[:n])
			wantRefused(t, err, fmt.Sprintf("codec %d, %d bytes of body, sealed", codec, n))
		}
		for n := range b.Header {
			_, err := l.receive(b.Metadata, b.Header[:n], b.Body)
			wantRefused(t, err, fmt.Sprintf("codec %d, %d bytes of header", codec, n))
			got, err := l.receiveSealed(b.Identity, b.Header[:n], b.Body)
			if err == nil && array.RecordEqual(got, record) { // only padding was cut
				continue
			}
			wantRefused(t, err, fmt.Sprintf("codec %d, %d bytes of header, sealed", codec, n))
		}
	}
}

func TestMixedUpBatchesAreRefused(t *testing.T) {
	l := newLink(t, schema.EventsID)
	plain, packed := l.encode(t, wire.Uncompressed, l.random(t, 9)), l.encode(t, wire.Zstd, l.random(t, 9))
	other := l.encode(t, wire.Uncompressed, l.random(t, 8))
	foreign := newLink(t, schema.NodeInventoryID)
	inventory := foreign.encode(t, wire.Uncompressed, foreign.random(t, 9))
	tests := []struct {
		name         string
		identity     wire.Identity
		header, body []byte
	}{
		{"header and body swapped", plain.Identity, plain.Body, plain.Header},
		{"compressed body as header", packed.Identity, packed.Body, nil},
		{"header beside a compressed body", packed.Identity, plain.Header, packed.Body},
		{"compressed body said to be plain", plain.Identity, nil, packed.Body},
		{"plain body said to be compressed", packed.Identity, nil, plain.Body},
		{"nothing", plain.Identity, nil, nil},
		{"nothing, compressed", packed.Identity, nil, nil},
		{"body of another batch", plain.Identity, plain.Header, other.Body},
		{"header of another batch", plain.Identity, other.Header, plain.Body},
		{"fewer rows than announced", plain.Identity, other.Header, other.Body},
		{"batch of another table", plain.Identity, inventory.Header, inventory.Body},
		{"schema in place of a batch", plain.Identity, l.table.SchemaMessage(), nil},
	}
	for _, tt := range tests {
		_, err := l.receive(plain.Metadata, tt.header, tt.body)
		wantRefused(t, err, tt.name)
		_, err = l.receiveSealed(tt.identity, tt.header, tt.body)
		wantRefused(t, err, tt.name+", sealed")
	}
	for _, change := range []func(*wire.Identity){
		func(i *wire.Identity) { i.Rows++ },
		func(i *wire.Identity) { i.Rows = 0 },
		func(i *wire.Identity) { i.Rows = wire.MaxRows + 1 },
		func(i *wire.Identity) { i.Sequence = 0 },
		func(i *wire.Identity) { i.Codec = 2 },
		func(i *wire.Identity) { i.Size = wire.MaxFrameBytes + 1 },
	} {
		identity := plain.Identity
		change(&identity)
		_, err := l.receiveSealed(identity, plain.Header, plain.Body)
		wantRefused(t, err, fmt.Sprintf("identity %+v", identity))
	}
	for _, at := range []int{6, 7} { // reserved bytes under a right checksum: a later version's batch
		metadata := bytes.Clone(plain.Metadata)
		metadata[at] = 1
		_, err := l.receive(reseal(metadata, plain.Header, plain.Body), plain.Header, plain.Body)
		wantRefused(t, err, "reserved bytes")
	}
}
