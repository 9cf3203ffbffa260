// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/gpufleet/gpufleet/internal/frames"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// storeAll settles what is given out of a table.
func (f *fixture) storeAll(table uint8) {
	f.t.Helper()
	for _, k := range f.given(table) {
		f.Queue(table).Stored(k.Epoch, k.Sequence)
	}
}

// TestDamageWhileItWaits: a batch that was whole at the start and is no more costs itself alone. Its file is kept for a
// person to look at, over restarts, until the room is needed.
func TestDamageWhileItWaits(t *testing.T) {
	disk := newFakeDisk()
	f := open(t, disk, nil)
	f.put(schema.SamplesID, 1, 20, 400)
	f.work()
	name := disk.segments()[0]
	spoilt := disk.bytes(name)
	spoilt[f.Queue(schema.SamplesID).segments[0].places[1].offset+frames.HeadBytes+100] ^= 1
	disk.change(name, spoilt)
	if got := sequences(f.given(schema.SamplesID)); !slices.Equal(got, append([]uint64{1}, upTo(20)[2:]...)) {
		t.Errorf("got %v", got)
	}
	want := Loss{Kind: Damaged, Batches: 1, Rows: 2, Last: f.Queue(schema.SamplesID).key(f.Epoch(), 2)}
	if len(f.losses) != 1 || f.losses[0].Reason == "" {
		t.Fatalf("losses %+v", f.losses)
	}
	want.Reason = f.losses[0].Reason
	if f.losses[0] != want {
		t.Errorf("loss %+v, want %+v", f.losses[0], want)
	}
	f.storeAll(schema.SamplesID)
	f.work()
	f.Close()
	if left, aside := disk.segments(), disk.aside(); len(left) != 0 || !slices.Equal(aside, []string{name + damagedSuffix}) || f.Stats().SetAside != 1 {
		t.Fatalf("segments %v and %v are left, %+v", left, aside, f.Stats())
	}

	after := open(t, disk, func(c *Config) { c.MaxBytes = 64 << 10 })
	if s := after.Stats(); s.SetAside != 1 || s.Recovered != 0 || s.DiskBytes == 0 {
		t.Errorf("stats %+v", s)
	}
	for s := uint64(1); s < 200 && len(after.losses) == 0; s++ {
		after.put(schema.SamplesID, s, s, 400)
		after.work()
	}
	if len(after.losses) == 0 || len(disk.aside()) != 0 || after.Stats().SetAside != 0 {
		t.Errorf("losses %v, aside %v: what was set aside goes first", after.losses, disk.aside())
	}
}

// TestAFileIsRemovedByAPerson: what was in it is told, its room is free again, and what comes after is safe.
func TestAFileIsRemovedByAPerson(t *testing.T) {
	disk := newFakeDisk()
	f := open(t, disk, func(c *Config) { c.limits.segmentBytes = 8 << 10 })
	f.put(schema.SamplesID, 1, 20, 400)
	f.work()
	for _, name := range disk.segments() { // the one that is appended to, too
		if err := disk.remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.given(schema.SamplesID); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	var lost uint64
	for _, l := range f.losses {
		if l.Kind != Damaged || l.Rows == 0 {
			t.Errorf("loss %+v", l)
		}
		lost += l.Batches
	}
	if s := f.Stats(); lost != 20 || s.Damaged != 20 || s.DiskBytes != 0 || s.WaitingBatches != 0 {
		t.Errorf("%d batches were told, %+v", lost, s)
	}
	f.put(schema.SamplesID, 21, 22, 400)
	f.work()
	disk.crash(rand.New(rand.NewPCG(1, 1)))
	if got := sequences(open(t, disk, nil).given(schema.SamplesID)); !slices.Equal(got, []uint64{21, 22}) {
		t.Errorf("after a crash: %v", got)
	}
}

// TestABatchThatCannotBeReadNow is skipped, and tried again later: nothing is lost with it.
func TestABatchThatCannotBeReadNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newFakeDisk()
		f := open(t, disk, nil)
		f.put(schema.SamplesID, 1, 20, 400)
		f.work()
		first := disk.segments()[0]
		disk.set(func(operation, name string) error { return when(operation == "read" && name == first, syscall.EIO) })
		q := f.Queue(schema.SamplesID)
		got := sequences(f.given(schema.SamplesID))
		if len(got) == 0 || len(got) == 20 || got[len(got)-1] != 20 {
			t.Errorf("got %v", got)
		}
		if oldest, ok := q.Oldest(f.Epoch()); !ok || oldest != 1 {
			t.Errorf("oldest %d, %v: it is still to be sent", oldest, ok)
		}
		disk.set(nil)
		if again := sequences(f.given(schema.SamplesID)); !slices.Equal(again, got) {
			t.Errorf("at once %v, want %v", again, got)
		}
		<-time.After(ReadAgain)
		if later := sequences(f.given(schema.SamplesID)); !slices.Equal(later, upTo(20)) || len(f.losses) > 0 {
			t.Errorf("later %v, losses %v", later, f.losses)
		}
	})
}

// TestSettledWhileItIsRead: what became of a batch meanwhile is neither damage nor a loss.
func TestSettledWhileItIsRead(t *testing.T) {
	for name, failure := range map[string]error{"damaged": errBad, "unreadable": syscall.EIO} {
		disk := newFakeDisk()
		f := open(t, disk, nil)
		f.put(schema.SamplesID, 1, 3, 200)
		f.work()
		q := f.Queue(schema.SamplesID)
		r := q.NewReader()
		item, _, _ := q.Next(f.Epoch(), 1)
		disk.set(func(operation, _ string) error {
			if operation != "read" {
				return nil
			}
			q.Stored(f.Epoch(), 2)
			return failure
		})
		if b := r.Read(item); b != nil || len(f.losses) > 0 || f.Stats().Stored != 1 {
			t.Errorf("%s: got %v, losses %v, %+v", name, b, f.losses, f.Stats())
		}
		r.Close()
	}
}

// earlier makes a batch of three rows as a version of the table made it that lacked a column.
func earlier(t *testing.T, table schema.Table, lacking string, sequence uint64) (columns string, made *wire.Batch) {
	t.Helper()
	var fields []arrow.Field
	var names []string
	for _, f := range table.WireSchema().Fields() {
		if f.Name != lacking {
			fields, names = append(fields, f), append(names, f.Name)
		}
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
	defer b.Release()
	for i := range fields {
		for range 3 {
			b.Field(i).AppendEmptyValue()
		}
	}
	record := b.NewRecordBatch()
	defer record.Release()
	encoder, err := wire.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	made, err = encoder.Encode(record, wire.Identity{Table: table.ID, Node: wire.NodeID(nodeName), Epoch: 9, Sequence: sequence})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, "\n"), made
}

// TestBatchesOfAnEarlierVersion come out as batches of this one: the collector takes no other. What their table has
// gained since is NULL, or 0 where that may not be.
func TestBatchesOfAnEarlierVersion(t *testing.T) {
	table, _ := schema.TableByID(schema.SamplesID)
	for _, column := range table.WireColumns() {
		columns, old := earlier(t, table, column.Name, 3)
		at := time.UnixMilli(1_790_000_000_000)
		file := header{table: table.ID, node: wire.NodeID(nodeName), epoch: 9, madeAt: at, columns: columns}.appendTo(nil)
		file = appendRecord(file, old, at)
		disk := newFakeDisk()
		disk.now[segmentName(1, table)] = &inode{content: file}
		f := open(t, disk, nil)
		q := f.Queue(table.ID)
		item, _, ok := q.Next(9, 0)
		if !ok || item.Sequence != 3 {
			t.Fatalf("lacking %s: next is %+v, %v", column.Name, item, ok)
		}
		r := q.NewReader()
		renewed := r.Read(item)
		r.Close()
		if renewed == nil || renewed.Identity.Key() != old.Identity.Key() || renewed.Identity.Rows != 3 {
			t.Fatalf("lacking %s: got %+v", column.Name, renewed)
		}
		if _, err := wire.ParseIdentity(renewed.Metadata, renewed.Header, renewed.Body); err != nil {
			t.Errorf("lacking %s: %v", column.Name, err)
		}
		wantAbsent(t, table, column, renewed)
	}
}

// wantAbsent looks for a column that nobody has measured.
func wantAbsent(t *testing.T, table schema.Table, column schema.Column, b *wire.Batch) {
	t.Helper()
	z, err := wire.NewDecompressor()
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	record, err := wire.NewDecoder(table.WireSchema(), z).Decode(b.Identity, b.Header, b.Body)
	if err != nil {
		t.Fatalf("lacking %s: %v", column.Name, err)
	}
	defer record.Release()
	for i, f := range record.Schema().Fields() {
		switch got := record.Column(i); {
		case f.Name == column.Name && f.Nullable && got.NullN() != 3, f.Name == column.Name && !f.Nullable && got.String() != "[0 0 0]":
			t.Errorf("lacking %s: it is %v", f.Name, got)
		case f.Name != column.Name && got.NullN() > 0:
			t.Errorf("lacking %s: %s is %v", column.Name, f.Name, got)
		}
	}
}

// sealed is a file with the checksum that its header should have.
func sealed(file []byte) []byte {
	columns := file[headerBytes:][:binary.LittleEndian.Uint32(file[44:])]
	crc := crc32.Update(crc32.Checksum(file[:headerCovered], castagnoli), castagnoli, columns)
	binary.LittleEndian.PutUint32(file[headerCovered:], crc)
	return file
}

// TestFilesThatAreLeftAlone: this version can do nothing with them, and another may. Nothing else suffers.
func TestFilesThatAreLeftAlone(t *testing.T) {
	table, _ := schema.TableByID(schema.SamplesID)
	at := time.UnixMilli(1_790_000_000_000)
	good := header{table: table.ID, node: wire.NodeID(nodeName), epoch: 9, madeAt: at, columns: columnNames(table)}
	segment := func(h header) []byte { return appendRecord(h.appendTo(nil), makeBatch(table.ID, 9, 1, 40), at) }
	newer := segment(good)
	newer[3]++ // and its checksum
	ofEvents, withMore := good, good
	ofEvents.table, withMore.columns = schema.EventsID, good.columns+"\nmass_kilograms"
	unreadable := segmentName(5, table)
	files := map[string][]byte{
		segmentName(1, table):             sealed(newer),
		"0000000000000002-gpu_dreams.gfs": segment(good),
		segmentName(3, table):             segment(ofEvents),
		segmentName(4, table):             segment(withMore),
		unreadable:                        segment(good),
	}
	disk := newFakeDisk()
	for name, content := range files {
		disk.now[name] = &inode{content: content}
	}
	disk.set(func(operation, name string) error {
		return when(operation == "read" && name == unreadable, syscall.EIO)
	})
	f := open(t, disk, nil)
	f.put(schema.SamplesID, 1, 2, 100)
	f.work()
	if got := f.given(schema.SamplesID); len(got) != 2 {
		t.Errorf("got %v", got)
	}
	if len(f.losses) != 1 || f.losses[0].Kind != Damaged || !strings.Contains(f.losses[0].Reason, unreadable) {
		t.Errorf("losses %+v: only the disk is at fault", f.losses)
	}
	f.storeAll(schema.SamplesID)
	f.work()
	f.Close()
	if left := disk.segments(); len(left) != len(files) {
		t.Errorf("%v are left", left)
	}
	disk.set(nil)
	if got := open(t, disk, nil).given(schema.SamplesID); len(got) != 1 {
		t.Errorf("once it can be read: %v", got)
	}
}

// TestAFileOfGarbage holds nothing that could be sent: it is set aside at once, and told.
func TestAFileOfGarbage(t *testing.T) {
	table, _ := schema.TableByID(schema.SamplesID)
	garbage := header{table: table.ID, node: wire.NodeID(nodeName), epoch: 9, columns: columnNames(table)}.appendTo(nil)
	garbage = append(garbage, bytes.Repeat([]byte("garbage "), 100)...)
	next := header{table: table.ID, node: wire.NodeID(nodeName), epoch: 9, columns: columnNames(table), before: predecessor{1, uint32(len(garbage))}}
	disk := newFakeDisk()
	disk.now[segmentName(1, table)] = &inode{content: garbage}
	disk.now[segmentName(2, table)] = &inode{content: appendRecord(next.appendTo(nil), makeBatch(table.ID, 9, 1, 40), time.Now())}
	disk.now[segmentName(3, table)+damagedSuffix] = &inode{content: garbage} // by an earlier start
	disk.now["notes.txt"] = &inode{content: []byte("hands off")}
	f := open(t, disk, nil)
	f.work()
	if got := f.given(table.ID); len(got) != 1 || len(f.losses) != 1 || f.losses[0].Kind != Damaged {
		t.Errorf("got %v, losses %+v", got, f.losses)
	}
	if aside := disk.aside(); len(aside) != 2 || f.Stats().SetAside != 2 || disk.now["notes.txt"] == nil {
		t.Errorf("aside %v, %+v", aside, f.Stats())
	}
}
