// SPDX-License-Identifier: Apache-2.0

package recording

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// ends are the places in a recording of the batches at which it may end: after the head and after each
// batch.
func ends(file []byte, made batches) []int {
	at := prefixBytes + int(binary.LittleEndian.Uint32(file[4:]))
	found := []int{at}
	for _, b := range made {
		at += lengthBytes + b.Bytes()
		found = append(found, at)
	}
	return found
}

func TestACutRecordingIsReadAsFarAsItIsWhole(t *testing.T) {
	file, made := recordEvents(t)
	whole := ends(file, made)
	for n := range file {
		read, err := readAll(t, file[:n])
		batches, exact := slices.BinarySearch(whole, n)
		switch {
		case exact && (err != nil || len(read) != batches):
			t.Errorf("cut at %d, behind batch %d: read %d and %v", n, batches, len(read), err)
		case !exact && (!errors.Is(err, ErrCut) || len(read) != max(batches-1, 0)):
			t.Errorf("cut at %d, within batch %d: read %d and %v", n, batches, len(read), err)
		case !exact && batches > 0 && !strings.Contains(err.Error(), "recording of node node-1, batch "):
			t.Errorf("cut at %d: %q does not say where", n, err)
		}
	}
}

// recordEvents is a small recording: of two batches of events, and of no other table.
func recordEvents(t *testing.T) ([]byte, batches) {
	t.Helper()
	all := makeBatches(t, "node-1")
	made := batches{all[schema.EventsID-1], all[len(schema.Tables())+int(schema.EventsID)-1]}
	return headed(t, func(h map[string]any) {
		columns := h["columns"].(map[string]any)
		h["columns"] = map[string]any{"gpu_events": columns["gpu_events"]}
	}, made...), made
}

func TestLoadKeepsWhatIsWhole(t *testing.T) {
	made := makeBatches(t, "node-1")
	file := record(t, made)
	whole, err := Load(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	cut, err := Load(bytes.NewReader(file[:len(file)-1]))
	if err != nil {
		t.Fatal(err)
	}
	if whole.Cut != nil || !errors.Is(cut.Cut, ErrCut) {
		t.Errorf("whole says %v, cut says %v", whole.Cut, cut.Cut)
	}
	last := schema.Tables()[len(schema.Tables())-1] // its second batch is the last one
	if got := whole.Rows(last.ID); got != 10 {
		t.Errorf("whole has %d rows of %s, want 10", got, last.Name)
	}
	if got := cut.Rows(last.ID); got != 5 {
		t.Errorf("cut has %d rows of %s, want 5", got, last.Name)
	}
	if got := len(whole.Records(schema.SubsecondID)); got != 2 {
		t.Errorf("%d records of gpu_subsecond, want 2", got)
	}
	from, to := time.UnixMilli(startMilliseconds), time.UnixMilli(startMilliseconds+4000)
	if !whole.First.Equal(from) || !whole.Last.Equal(to) {
		t.Errorf("rows from %v to %v, want %v to %v", whole.First, whole.Last, from, to)
	}
}

func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.gfr")
	if _, err := Open(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(path, []byte("no recording at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "this is no recording") {
		t.Errorf("another file: %v", err)
	}
	if err := os.WriteFile(path, record(t, makeBatches(t, "node-1")), 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := Open(path); err != nil || r.Provenance.Node != "node-1" {
		t.Errorf("recording: %+v, %v", r, err)
	}
}

// TestDamageIsFound flips one bit in each byte.
func TestDamageIsFound(t *testing.T) {
	file, made := recordEvents(t)
	whole := ends(file, made)
	for at := range file {
		damaged := bytes.Clone(file)
		damaged[at] ^= 1 << (at % 8)
		read, err := readAll(t, damaged)
		if !errors.Is(err, wire.ErrChecksum) && !errors.Is(err, wire.ErrMalformed) && !errors.Is(err, wire.ErrTooLarge) && !errors.Is(err, ErrCut) {
			t.Errorf("byte %d changed: %v", at, err)
		}
		before, _ := slices.BinarySearch(whole, at+1)
		if want := max(before-1, 0); len(read) != want {
			t.Errorf("byte %d changed, in batch %d: read %d batches, want the %d before it", at, before, len(read), want)
		}
	}
}

// headed is a recording with a head that a test made up, sealed with the right checksum.
func headed(t *testing.T, change func(h map[string]any), frames ...*wire.Batch) []byte {
	t.Helper()
	h, err := newHead(testProvenance)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	var loose map[string]any
	if err := json.Unmarshal(text, &loose); err != nil {
		t.Fatal(err)
	}
	change(loose)
	if text, err = json.Marshal(loose); err != nil {
		t.Fatal(err)
	}
	file := framed(text)
	for _, b := range frames {
		file = appendBatch(file, b.Metadata, b.Body)
	}
	return file
}

func appendBatch(file, metadata, frame []byte) []byte {
	file = binary.LittleEndian.AppendUint32(file, uint32(len(metadata)+len(frame)))
	return append(append(file, metadata...), frame...)
}

func TestErrorsSayWhatIsWrong(t *testing.T) {
	made := makeBatches(t, "node-1")
	good := record(t, nil)
	columns := func(h map[string]any) map[string]any { return h["columns"].(map[string]any) }
	events := func(names ...any) func(map[string]any) {
		return func(h map[string]any) { columns(h)["gpu_events"] = names }
	}
	same := func(map[string]any) {}
	tests := []struct {
		name string
		file []byte
		kind error
		want string
	}{
		{"empty", nil, ErrCut, "it has 0 bytes"},
		{"another file", []byte("PK\x03\x04 and much more than twelve bytes"), wire.ErrMalformed, "this is no recording"},
		{"later format", append([]byte("GFR\x02"), good[4:]...), wire.ErrMalformed, `starts with "GFR\x02"`},
		{"huge head", []byte("GFR\x01\xff\xff\xff\xff\x00\x00\x00\x00"), wire.ErrTooLarge, "head of recording of 4294967295 bytes"},
		{"no JSON", framed([]byte("{")), wire.ErrMalformed, "unexpected end of JSON"},
		{"no node", framed([]byte(`{"program":"p","recorded_at":"2026-01-01T00:00:00Z"}`)), wire.ErrMalformed, "node name of 0 bytes"},
		{"no time", framed([]byte(`{"node":"n","program":"p"}`)), wire.ErrMalformed, "does not say when"},
		{"later table", headed(t, func(h map[string]any) { columns(h)["gpu_dreams"] = []any{"ts"} }), wire.ErrMalformed, `table "gpu_dreams", which this version does not know`},
		{"later column", headed(t, events("ts", "kind", "source", "message", "mood")), wire.ErrMalformed, `column "mood", which this version does not know: was it recorded by a later one?`},
		{"a column twice", headed(t, events("ts", "kind", "source", "message", "kind")), wire.ErrMalformed, `column "kind" twice`},
		{"no time column", headed(t, events("kind", "source", "message")), wire.ErrMalformed, "lacks column ts, without which"},
		{"table without columns", headed(t, func(h map[string]any) { delete(columns(h), "gpu_events") }, made[3]), wire.ErrMalformed, "the head does not describe its table"},
		{"another node", headed(t, same, makeBatches(t, "node-2")[0]), wire.ErrMalformed, "is not of this node"},
		{"short batch", append(bytes.Clone(good), 43, 0, 0, 0), wire.ErrMalformed, "43 bytes, at least 44"},
		{"huge batch", append(bytes.Clone(good), 0, 0, 0, 0x7f), wire.ErrTooLarge, "2130706432 bytes, at most"},
		{"other columns than it says", headed(t, events("ts", "kind", "source", "message"), made[3]), wire.ErrMalformed, "batch 1 at byte"},
	}
	for _, tt := range tests {
		_, err := readAll(t, tt.file)
		if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q and that it is a %q", tt.name, err, tt.want, tt.kind)
		}
	}
}

func TestABatchOfAnotherCodecIsRefused(t *testing.T) {
	b := makeBatches(t, "node-1")[3]
	identity := b.Identity
	identity.Codec = wire.Uncompressed
	file := appendBatch(record(t, nil), identity.AppendTo(nil, nil, b.Body), b.Body)
	if _, err := readAll(t, file); !errors.Is(err, wire.ErrMalformed) || !strings.Contains(err.Error(), "codec 0") {
		t.Errorf("got %v", err)
	}
}

func TestErrorsOfTheDiskAreNotDamage(t *testing.T) {
	broken := errors.New("input/output error")
	file := record(t, makeBatches(t, "node-1"))
	_, err := Load(io.MultiReader(bytes.NewReader(file[:len(file)-3]), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

// TestColumnsThatAreNewAreNull reads a recording of a version whose table had fewer columns, in another
// order.
func TestColumnsThatAreNewAreNull(t *testing.T) {
	events, _ := schema.TableByID(schema.EventsID)
	byName := map[string]schema.Column{}
	for _, c := range events.WireColumns() {
		byName[c.Name] = c
	}
	names := []string{"message", "ts", "source", "kind"}
	var columns []schema.Column
	for _, name := range names {
		columns = append(columns, byName[name])
	}
	rb := array.NewRecordBuilder(memory.DefaultAllocator, schema.Table{Columns: columns}.WireSchema())
	defer rb.Release()
	rb.Field(0).(*array.StringBuilder).Append("hot")
	rb.Field(1).(*array.TimestampBuilder).Append(startMilliseconds)
	rb.Field(2).(*array.StringBuilder).Append("nvml")
	rb.Field(3).(*array.StringBuilder).Append("xid")
	old := rb.NewRecordBatch()
	defer old.Release()
	encoder, err := wire.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	b, err := encoder.Encode(old, wire.Identity{Table: schema.EventsID, Node: wire.NodeID("node-1"), Epoch: 1, Sequence: 1})
	if err != nil {
		t.Fatal(err)
	}
	file := headed(t, func(h map[string]any) { h["columns"] = map[string]any{"gpu_events": names} }, b)
	read, err := readAll(t, file)
	if err != nil || len(read) != 1 {
		t.Fatalf("read %d batches, %v", len(read), err)
	}
	got := map[string]string{}
	for i, c := range read[0].Record.Columns() {
		got[read[0].Record.ColumnName(i)] = c.ValueStr(0)
		if err := array.ValidateFull(c); err != nil {
			t.Errorf("column %s: %v", read[0].Record.ColumnName(i), err)
		}
	}
	want := map[string]string{"message": "hot", "ts": got["ts"], "source": "nvml", "kind": "xid"}
	for name := range byName {
		if _, recorded := want[name]; !recorded {
			want[name] = array.NullValueStr
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestLoadRefusesWhatItCannotHold(t *testing.T) {
	made := makeBatches(t, "node-1")
	if _, err := Load(bytes.NewReader(record(t, nil))); !errors.Is(err, wire.ErrMalformed) || !strings.Contains(err.Error(), "holds no rows") {
		t.Errorf("no rows: %v", err)
	}
	cut := record(t, made[:1])
	if _, err := Load(bytes.NewReader(cut[:len(cut)-1])); !errors.Is(err, ErrCut) {
		t.Errorf("no whole batch: %v", err)
	}
	if _, err := load(bytes.NewReader(record(t, made)), 1000); !errors.Is(err, wire.ErrTooLarge) || !strings.Contains(err.Error(), "more than 1000 bytes") {
		t.Errorf("too many bytes: %v", err)
	}
	for _, tt := range []struct {
		milliseconds int64
		kind         error
	}{
		{startMilliseconds + MaxSpan.Milliseconds() + 4001, wire.ErrTooLarge},
		{0, wire.ErrMalformed},
		{1 << 60, wire.ErrMalformed},
		{-1, wire.ErrMalformed},
	} {
		if _, err := Load(bytes.NewReader(record(t, append(made[:3:3], at(t, tt.milliseconds))))); !errors.Is(err, tt.kind) {
			t.Errorf("a row at %d: %v, want %v", tt.milliseconds, err, tt.kind)
		}
	}
}

// at is a batch of five events at a time.
func at(t *testing.T, milliseconds int64) *wire.Batch {
	t.Helper()
	var made batches
	b, err := batch.New(batch.Config{Node: wire.NodeID("node-1"), Epoch: startMilliseconds, MaxRows: 10}, &made)
	if err != nil {
		t.Fatal(err)
	}
	table, _ := schema.TableByID(schema.EventsID)
	for i := range 5 {
		cells := makeRow(table, i)
		cells[0].Int = milliseconds
		if err := b.Append(table.ID, cells); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.FlushAll(); err != nil {
		t.Fatal(err)
	}
	return made[0]
}

// FuzzReader reads whatever it likes, with the right checksums where seal is set. What is read can be
// written again, and is then read as the same.
func FuzzReader(f *testing.F) {
	made := makeBatches(f, "n")
	small := framed([]byte(`{"node":"n","program":"p","recorded_at":"2026-01-01T00:00:00Z","columns":{
		"gpu_subsecond":["ts","gpu_id","signal","driver_time_microseconds","value"],
		"gpu_events":["ts","gpu_id","kind","source","xid","gpu_instance","compute_instance","count","message"]}}`))
	f.Add(true, bytes.Clone(small))
	for _, id := range []uint8{schema.SubsecondID, schema.EventsID} {
		small = appendBatch(small, made[id-1].Metadata, made[id-1].Body)
	}
	f.Add(false, bytes.Clone(small))
	f.Add(true, small)
	f.Fuzz(func(t *testing.T, seal bool, file []byte) {
		if seal {
			sealAll(file)
		}
		read, err := readAll(t, file)
		if err != nil && !errors.Is(err, wire.ErrChecksum) && !errors.Is(err, wire.ErrMalformed) && !errors.Is(err, wire.ErrTooLarge) && !errors.Is(err, ErrCut) {
			t.Fatalf("%v is none of this package's errors", err)
		}
		if err != nil && strings.Contains(err.Error(), "panic") {
			t.Fatal(err)
		}
		if len(read) > 0 {
			writtenAgain(t, file, read)
		}
	})
}

// sealAll sets the checksums of a recording, as far as its lengths lead.
func sealAll(file []byte) {
	if len(file) < prefixBytes {
		return
	}
	copy(file, magic[:])
	at := prefixBytes + int(binary.LittleEndian.Uint32(file[4:]))
	if at > len(file) {
		return
	}
	binary.LittleEndian.PutUint32(file[8:], crc32.Checksum(file[prefixBytes:at], castagnoli))
	for at+lengthBytes <= len(file) {
		n := int(binary.LittleEndian.Uint32(file[at:]))
		at += lengthBytes
		if n < identityBytes || at+n > len(file) {
			return
		}
		b := file[at : at+n]
		crc := crc32.Update(crc32.Checksum(b[:40], castagnoli), castagnoli, b[identityBytes:])
		binary.LittleEndian.PutUint32(b[40:], crc)
		at += n
	}
}

// writtenAgain writes what was read, and reads it.
func writtenAgain(t *testing.T, file []byte, read []Batch) {
	t.Helper()
	r, err := NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	encoder, err := wire.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	w, err := NewWriter(&again, r.Provenance())
	if errors.Is(err, wire.ErrTooLarge) {
		return // its head named fewer columns, and so had more room
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range read {
		encoded, err := encoder.Encode(b.Record, b.Identity)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(encoded); err != nil {
			t.Fatal(err)
		}
	}
	same, err := readAll(t, again.Bytes())
	if err != nil || len(same) != len(read) {
		t.Fatalf("read %d batches and %v, wrote %d", len(same), err, len(read))
	}
	for i := range read {
		if same[i].Identity.Key() != read[i].Identity.Key() || !array.RecordEqual(same[i].Record, read[i].Record) {
			t.Errorf("batch %d: got %v\nwant %v", i, same[i].Record, read[i].Record)
		}
	}
}
