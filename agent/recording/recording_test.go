// SPDX-License-Identifier: Apache-2.0

package recording

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/google/go-cmp/cmp"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

const startMilliseconds = 1_790_000_000_000

var testProvenance = Provenance{
	Node: "node-1", Machine: "p5.48xlarge, Ubuntu 22.04.5 LTS", GPUs: []string{"NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3"},
	Driver: "590.48.01", RecordedAt: time.UnixMilli(startMilliseconds).UTC(), Program: "gpufleet-agent", Version: "v1",
	Notes: []string{"idle, then gpu-burn"},
}

// batches collects what a batch.Builder makes.
type batches []*wire.Batch

func (b *batches) Push(one *wire.Batch) { *b = append(*b, one) }

// makeBatches makes two batches of each table; row i of each is i seconds after the start, and its
// columns are NULL wherever they can be in every third.
func makeBatches(t testing.TB, node string) batches {
	t.Helper()
	var made batches
	b, err := batch.New(batch.Config{Node: wire.NodeID(node), Epoch: startMilliseconds, Flush: time.Hour, MaxRows: 100}, &made)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, table := range schema.Tables() {
			for i := range 5 {
				if err := b.Append(table.ID, makeRow(table, i)); err != nil {
					t.Fatal(err)
				}
			}
			if err := b.FlushTable(table.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	return made
}

func makeRow(table schema.Table, i int) []batch.Cell {
	var cells []batch.Cell
	for j, c := range table.WireColumns() {
		cell := batch.Cell{Int: int64(i + j), Text: strings.Repeat("x", i+j), OK: !c.Nullable || (i+j)%3 != 0}
		switch c.Type {
		case schema.TimeMilliseconds:
			cell.Int = startMilliseconds + int64(i)*1000
		case schema.TimeMicroseconds:
			cell.Int = (startMilliseconds + int64(i)*1000) * 1000
		default:
		}
		cells = append(cells, cell)
	}
	return cells
}

func record(t testing.TB, made batches) []byte {
	t.Helper()
	var file bytes.Buffer
	w, err := NewWriter(&file, testProvenance)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range made {
		if err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if int(w.Batches) != len(made) || int(w.Rows) != 5*len(made) || w.Bytes != int64(file.Len()) {
		t.Errorf("writer counted %d batches, %d rows, %d bytes; want %d, %d, %d", w.Batches, w.Rows, w.Bytes, len(made), 5*len(made), file.Len())
	}
	return file.Bytes()
}

// readAll reads until the recording ends.
func readAll(t testing.TB, file []byte) (read []Batch, err error) {
	t.Helper()
	r, err := NewReader(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			return read, nil
		}
		if err != nil {
			if _, again := r.Next(); again.Error() != err.Error() {
				t.Errorf("after %q came %v", err, again)
			}
			return read, err
		}
		read = append(read, b)
	}
}

// decoded is the record of a batch as a collector reads it.
func decoded(t testing.TB, b *wire.Batch) arrow.RecordBatch {
	t.Helper()
	table, _ := schema.TableByID(b.Identity.Table)
	z, err := wire.NewDecompressor()
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	r, err := wire.NewDecoder(table.WireSchema(), z).Decode(b.Identity, b.Header, b.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	made := makeBatches(t, "node-1")
	file := record(t, made)
	reader, err := NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if diff := cmp.Diff(testProvenance, reader.Provenance()); diff != "" {
		t.Errorf("provenance (-written +read):\n%s", diff)
	}
	read, err := readAll(t, file)
	if err != nil {
		t.Fatal(err)
	}
	if len(read) != len(made) {
		t.Fatalf("read %d batches, wrote %d", len(read), len(made))
	}
	for i, b := range read {
		if diff := cmp.Diff(made[i].Identity, b.Identity); diff != "" {
			t.Errorf("batch %d (-written +read):\n%s", i, diff)
		}
		if want := decoded(t, made[i]); !array.RecordEqual(b.Record, want) || !b.Record.Schema().Equal(want.Schema()) {
			t.Errorf("batch %d of %s: got %v\nwant %v", i, b.Table.Name, b.Record, want)
		}
	}
}

// TestTheDrawingIsRight takes a recording apart by the drawing in the package comment alone.
func TestTheDrawingIsRight(t *testing.T) {
	made := makeBatches(t, "node-1")
	file := record(t, made)
	if string(file[:3]) != "GFR" || file[3] != 1 {
		t.Fatalf("it starts with % x", file[:4])
	}
	length := int(binary.LittleEndian.Uint32(file[4:]))
	text := file[12 : 12+length]
	if got, want := binary.LittleEndian.Uint32(file[8:]), crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli)); got != want {
		t.Errorf("checksum %08x, want %08x", got, want)
	}
	var head struct {
		Node    string
		Columns map[string][]string
	}
	if err := json.Unmarshal(text, &head); err != nil {
		t.Fatal(err)
	}
	if head.Node != "node-1" || len(head.Columns) != len(schema.Tables()) || head.Columns["gpu_samples"][0] != "ts" {
		t.Errorf("head %s", text)
	}
	rest := file[12+length:]
	for i, b := range made {
		n := int(binary.LittleEndian.Uint32(rest))
		if want := append(bytes.Clone(b.Metadata), b.Body...); !bytes.Equal(rest[4:4+n], want) {
			t.Fatalf("batch %d: %d bytes, want the %d of its identity and frame", i, n, len(want))
		}
		rest = rest[4+n:]
	}
	if len(rest) > 0 {
		t.Errorf("%d bytes are left", len(rest))
	}
}

// TestAnEarlierRecordingIsRead reads a file as the first version wrote it. It must never be written anew:
// recordings of machines that nobody has any more look like it.
func TestAnEarlierRecordingIsRead(t *testing.T) {
	file, err := os.ReadFile("testdata/first.gfr")
	if err != nil {
		t.Fatal(err)
	}
	read, err := readAll(t, file)
	if err != nil {
		t.Fatal(err)
	}
	if len(read) != 12 {
		t.Fatalf("read %d batches, want two of each of the six tables", len(read))
	}
	for i, b := range read {
		if b.Record.NumRows() != 5 || b.Identity.Table != uint8(i%6+1) {
			t.Errorf("batch %d: %d rows of table %d", i, b.Record.NumRows(), b.Identity.Table)
		}
		times := b.Record.Column(0).(*array.Timestamp)
		if got := times.Value(4).ToTime(times.DataType().(*arrow.TimestampType).Unit).UnixMilli(); got != startMilliseconds+4000 {
			t.Errorf("batch %d: last row at %d", i, got)
		}
	}
	watts := read[0].Record.Column(read[0].Record.Schema().FieldIndices("power_average_watts")[0])
	if want := "[17 (null) 19 20 (null)]"; watts.String() != want {
		t.Errorf("power_average_watts %v, want %s", watts, want)
	}
}

func TestProvenanceInALine(t *testing.T) {
	tests := []struct {
		gpus   []string
		source string
		want   string
	}{
		{[]string{"A", "A"}, "", "n: 2 × A, driver 5, read by p 1 at 2026-09-21T14:13:20Z"},
		{[]string{"A", "B"}, "", "n: 2 GPUs, driver 5, read by p 1 at 2026-09-21T14:13:20Z"},
		{nil, "https://example.com", "n: no GPU, driver 5, read by p 1 at 2026-09-21T14:13:20Z, from https://example.com"},
	}
	for _, tt := range tests {
		p := Provenance{Node: "n", GPUs: tt.gpus, Driver: "5", Program: "p", Version: "1", RecordedAt: time.UnixMilli(startMilliseconds), Source: tt.source}
		if got := p.String(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestWriterRefusesWhatCouldNotBeRead(t *testing.T) {
	w, err := NewWriter(io.Discard, testProvenance)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(makeBatches(t, "node-2")[0]); err == nil || !strings.Contains(err.Error(), "not of node node-1") {
		t.Errorf("batch of another node: %v", err)
	}
	good := makeBatches(t, "node-1")[0]
	plain, err := wire.EncodePlain(decoded(t, good), good.Identity)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(plain); err == nil || !strings.Contains(err.Error(), "only batches of the agent's encoder") {
		t.Errorf("plain batch: %v", err)
	}
	if err := w.Write(good); err != nil {
		t.Errorf("after what was refused: %v", err)
	}
	for _, p := range []Provenance{{}, {Node: "a b"}, {Node: "n"}, {Node: "n", Program: "p"}} {
		if _, err := NewWriter(io.Discard, p); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("provenance %+v: %v", p, err)
		}
	}
	long := testProvenance
	long.Notes = []string{strings.Repeat("x", MaxHeadBytes)}
	if _, err := NewWriter(io.Discard, long); !errors.Is(err, wire.ErrTooLarge) {
		t.Errorf("long head: %v", err)
	}
}

// fullDisk takes so many bytes and then no more.
type fullDisk struct {
	bytes.Buffer
	room int
}

var errFull = errors.New("no space left on device")

func (d *fullDisk) Write(b []byte) (int, error) {
	n := min(len(b), d.room)
	d.room -= n
	d.Buffer.Write(b[:n])
	if n < len(b) {
		return n, errFull
	}
	return n, nil
}

func TestAWriterThatBrokeWritesNoMore(t *testing.T) {
	made := makeBatches(t, "node-1")
	whole := len(record(t, made[:2]))
	disk := &fullDisk{room: whole + 10}
	w, err := NewWriter(disk, testProvenance)
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range made {
		if i == 3 {
			disk.room = 1 << 20 // there is space again, too late
		}
		err := w.Write(b)
		if i < 2 && err != nil || i >= 2 && !errors.Is(err, errFull) {
			t.Errorf("batch %d: %v", i, err)
		}
	}
	read, err := readAll(t, disk.Bytes())
	if len(read) != 2 || !errors.Is(err, ErrCut) {
		t.Errorf("read %d batches and %v, want 2 and that it is cut", len(read), err)
	}
}
