// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"runtime/metrics"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/klauspost/compress/zstd"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// maxAllocatedBytes is what one message may cost: its frame, what the decompressor grows it by when it
// notices that it is too long, and the columns.
const maxAllocatedBytes = 3 * wire.MaxFrameBytes

// reseal puts the checksum that belongs to the bytes into metadata.
func reseal(metadata, header, body []byte) []byte {
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	crc := crc32.Update(0, castagnoli, metadata[:40])
	crc = crc32.Update(crc, castagnoli, header)
	crc = crc32.Update(crc, castagnoli, body)
	binary.LittleEndian.PutUint32(metadata[40:], crc)
	return metadata
}

// allocated is how many bytes f allocates.
func allocated(f func()) uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	f()
	metrics.Read(sample)
	return sample[0].Value.Uint64() - before
}

func newCompressor(t testing.TB) *zstd.Encoder {
	t.Helper()
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// pack lays a header and a body out as the Zstd codec has it, and compresses them.
func pack(z *zstd.Encoder, header, body []byte) (frameBytes int, packed []byte) {
	frame := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	frame = append(frame, header...)
	frame = append(frame, make([]byte, (8-len(header)%8)%8)...)
	frame = append(frame, body...)
	return len(frame), z.EncodeAll(frame, nil)
}

// TestForgedHeadersCannotHarm mutates the header of a batch and gives it the right checksum. What is
// accepted must be a whole record; the next good batch must be read.
func TestForgedHeadersCannotHarm(t *testing.T) {
	random, z := rand.New(rand.NewPCG(1, 1)), newCompressor(t)
	for _, id := range []uint8{schema.EventsID, schema.SamplesID} {
		l := newLink(t, id)
		record := l.random(t, 9)
		good := l.encode(t, wire.Uncompressed, record)
		accepted := 0
		for i := range 6000 {
			header := bytes.Clone(good.Header)
			mutate(random, header)
			identity, h, b := good.Identity, header, good.Body
			if i%2 == 1 {
				size, packed := pack(z, header, good.Body)
				identity.Codec, identity.Size, h, b = wire.Zstd, uint32(size), nil, packed
			}
			var got arrow.RecordBatch
			var err error
			if n := allocated(func() { got, err = l.receiveSealed(identity, h, b) }); n > maxAllocatedBytes {
				t.Fatalf("mutation %d: %d bytes were allocated", i, n)
			}
			if err != nil {
				wantRefused(t, err, fmt.Sprintf("mutation %d", i))
				continue
			}
			accepted++
			wantWhole(t, l, got)
			got.Release()
		}
		t.Logf("%s: %d of 6000 mutations changed nothing that counts", l.table.Name, accepted)
		again, err := l.receive(good.Metadata, good.Header, good.Body)
		if err != nil {
			t.Fatalf("good batch after bad ones: %v", err)
		}
		wantRecord(t, again, record)
		again.Release()
	}
}

// mutate changes one to three places: a bit, a byte, or a number at its ends.
func mutate(random *rand.Rand, b []byte) {
	ends := []uint64{0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 1<<63 - 1, 1 << 63, 1<<64 - 1}
	for range 1 + random.IntN(3) {
		at := random.IntN(len(b))
		switch random.IntN(3) {
		case 0:
			b[at] ^= 1 << random.IntN(8)
		case 1:
			b[at] = byte(random.Uint32())
		default:
			end := binary.LittleEndian.AppendUint64(nil, ends[random.IntN(len(ends))])
			copy(b[at&^3:], end[:4<<random.IntN(2)])
		}
	}
}

// wantWhole fails unless every value of a record can be read and it can be sent on.
func wantWhole(t *testing.T, l link, record arrow.RecordBatch) {
	t.Helper()
	for i, c := range record.Columns() {
		if err := array.ValidateFull(c); err != nil {
			t.Errorf("column %s: %v", record.ColumnName(i), err)
		}
		for row := range c.Len() {
			_ = c.ValueStr(row)
		}
	}
	b := l.encode(t, wire.Zstd, record)
	again, err := l.receive(b.Metadata, b.Header, b.Body)
	if err != nil {
		t.Fatal(err)
	}
	wantRecord(t, again, record)
	again.Release()
}

func TestForgedBodiesCannotHarm(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 2))
	l := newLink(t, schema.NodeInventoryID)
	good := l.encode(t, wire.Uncompressed, l.random(t, 9))
	refused := 0
	for i := range 4000 {
		body := bytes.Clone(good.Body)
		mutate(random, body)
		got, err := l.receiveSealed(good.Identity, good.Header, body)
		if err != nil {
			wantRefused(t, err, fmt.Sprintf("mutation %d", i))
			refused++
			continue
		}
		wantWhole(t, l, got)
		got.Release()
	}
	if refused == 0 {
		t.Error("no mutation hit offsets, validity or UTF-8: the test has lost its point")
	}
}

// TestForgedCountOfMetadata is the case that ends a process which uses Arrow's own reader: a vector
// in the header that says it has four billion elements.
func TestForgedCountOfMetadata(t *testing.T) {
	l := newLink(t, schema.SamplesID)
	record := l.random(t, 8)
	marked := array.NewRecordBatchWithMetadata(record.Schema(), record.Columns(), record.NumRows(),
		arrow.NewMetadata([]string{"key"}, []string{"value"}))
	defer marked.Release()
	b := l.encode(t, wire.Uncompressed, marked)
	got, err := l.receive(b.Metadata, b.Header, b.Body)
	if err != nil {
		t.Fatalf("batch with custom metadata, which is not read: %v", err)
	}
	got.Release()
	for at := 0; at+4 <= len(b.Header); at += 4 {
		header := bytes.Clone(b.Header)
		binary.LittleEndian.PutUint32(header[at:], 0xffffffff)
		n := allocated(func() {
			if got, err := l.receiveSealed(b.Identity, header, b.Body); err == nil {
				got.Release()
			} else {
				wantRefused(t, err, fmt.Sprintf("count at %d", at))
			}
		})
		if n > maxAllocatedBytes {
			t.Fatalf("count at %d: %d bytes were allocated", at, n)
		}
	}
}

func TestForgedSchemasAreNotParsed(t *testing.T) {
	l := newLink(t, schema.EventsID)
	fields := make([]arrow.Field, 100_000)
	for i := range fields {
		fields[i] = arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int8}
	}
	payload := ipc.GetSchemaPayload(arrow.NewSchema(fields, nil), memory.DefaultAllocator)
	defer payload.Release()
	meta := payload.Meta()
	defer meta.Release()
	wide := bytes.Clone(meta.Bytes())
	// The same with a count of ten million: its vector of fields is the only 100,000 in the message.
	forged := bytes.Replace(wide, binary.LittleEndian.AppendUint32(nil, 100_000), binary.LittleEndian.AppendUint32(nil, 10_000_000), 1)
	for _, message := range [][]byte{wide, forged} {
		n := allocated(func() {
			wantRefused(t, wire.CheckSchema(message, l.table.WireSchema()), "as the schema of a stream")
			_, err := l.receiveSealed(l.identityOf(9), message, nil)
			wantRefused(t, err, "as a batch")
		})
		if n > 1<<20 {
			t.Errorf("%d bytes were allocated for a schema of many columns", n)
		}
	}
}

// identityOf is the identity of an uncompressed batch that an attacker makes up.
func (l link) identityOf(rows uint32) wire.Identity {
	identity := l.identity()
	identity.Rows = rows
	return identity
}

func TestZstdBombsAreRefused(t *testing.T) {
	l := newLink(t, schema.EventsID)
	var bomb bytes.Buffer // 1 GiB of zeros
	z, err := zstd.NewWriter(&bomb, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(z, zeros{}, 1<<30); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	lying := z.EncodeAll(make([]byte, 100), nil)
	// Frame header with an 8-byte content size of 1 EiB, then a last RLE block of 128 KiB.
	huge := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0}, binary.LittleEndian.AppendUint64(nil, 1<<60)...)
	huge = append(huge, 0x03, 0x00, 0x10, 'x')
	// One GiB window and no content size.
	window := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 20 << 3, 0x03, 0x00, 0x10, 'x'}
	for name, body := range map[string][]byte{"1 GiB of zeros": bomb.Bytes(), "lies about its size": lying, "1 EiB": huge, "1 GiB window": window} {
		for _, size := range []uint32{0, 1, 8, 99, 4096, wire.MaxFrameBytes, wire.MaxFrameBytes + 1, 1<<32 - 1} {
			identity := l.identityOf(9)
			identity.Codec, identity.Size = wire.Zstd, size
			n := allocated(func() {
				_, err := l.receiveSealed(identity, nil, body)
				wantRefused(t, err, fmt.Sprintf("%s said to be %d bytes", name, size))
			})
			if n > maxAllocatedBytes {
				t.Errorf("%s said to be %d bytes: %d bytes were allocated", name, size, n)
			}
		}
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
