// SPDX-License-Identifier: Apache-2.0

package batchlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/gpufleet/gpufleet/collector/internal/batchtest"
	"github.com/gpufleet/gpufleet/internal/frames"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// written is a segment of three batches, of which the first two are a unit and the last is settled.
func written(t testing.TB, all []*wire.Batch) []byte {
	t.Helper()
	m := &memory{map[string][]byte{}}
	n, err := openLane(configOf(""), batchtest.Table(t, schema.EventsID), m)
	if err != nil {
		t.Fatal(err)
	}
	var group []*entry
	for _, b := range all {
		group = append(group, &entry{batch: b})
	}
	n.writeGroup(append(group, &entry{unit: &Unit{"unit", keysOf(all[:2]...)}}, &entry{settled: keysOf(all[2])}))
	return m.files[segmentName(1)]
}

// reopen opens a lane over one file.
func reopen(t testing.TB, content []byte) (n *lane, m *memory) {
	t.Helper()
	m = &memory{map[string][]byte{segmentName(1): content}}
	n, err := openLane(configOf(""), batchtest.Table(t, schema.EventsID), m)
	if err != nil {
		t.Fatal(err)
	}
	return n, m
}

// aside is what lies in the file that was set aside; nil if none was.
func (m *memory) aside() []byte { return m.files[segmentName(1)+damagedSuffix] }

// check reads what is pending: it must be whole, and what was appended.
func check(t *testing.T, n *lane, all []*wire.Batch) (pending int) {
	t.Helper()
	for _, u := range n.pending() {
		for _, k := range u.Keys {
			pending++
			b, err := n.read(k)
			if err != nil {
				t.Fatal(err)
			}
			if want := all[k.Sequence-1]; !bytes.Equal(b.Body, want.Body) || !bytes.Equal(b.Metadata, want.Metadata) {
				t.Fatalf("batch %v has other bytes", k)
			}
		}
	}
	return pending
}

// place is where a record lies, with its keys.
type place struct {
	kind              frames.Kind
	keys              []wire.Key
	from, padding, to int
}

// places are the records of a segment.
func places(t *testing.T, content []byte) (all []place) {
	t.Helper()
	s := records.NewScanner(frames.NewWindow(bytes.NewReader(content), int64(len(content))), 0, nil)
	for r, err := s.Scan(); !errors.Is(err, io.EOF); r, err = s.Scan() {
		if err != nil {
			t.Fatal(err)
		}
		said, err := parse(batchtest.Table(t, schema.EventsID), r)
		if err != nil {
			t.Fatal(err)
		}
		from := int(r.Offset)
		all = append(all, place{r.Head.Kind, said.keys, from, from + frames.HeadBytes + len(r.Content), from + int(r.Head.Size())})
	}
	return all
}

// pendingOf is what must be pending if just these records are whole.
func pendingOf(whole []place) (units []Unit) {
	if len(whole) == 0 || whole[0].kind != opening {
		return nil
	}
	var loose []wire.Key
	has := func(k wire.Key) bool { return slices.Contains(loose, k) }
	for _, p := range whole[1:] {
		switch p.kind {
		case batch:
			loose = append(loose, p.keys...)
			continue
		case unit:
			if !has(p.keys[0]) || !has(p.keys[1]) {
				continue
			}
			units = append(units, Unit{"unit", p.keys})
		}
		loose = slices.DeleteFunc(loose, func(k wire.Key) bool { return slices.Contains(p.keys, k) })
	}
	if len(loose) > 0 {
		units = append(units, Unit{Keys: loose})
	}
	return units
}

// find opens a file, before another one if it is not to be the newest, and compares what is pending, and whether the file
// is set aside once all of it is settled.
func find(t *testing.T, what string, content []byte, newest bool, all []*wire.Batch, whole []place, aside bool) {
	t.Helper()
	m := &memory{map[string][]byte{segmentName(1): bytes.Clone(content)}}
	table := batchtest.Table(t, schema.EventsID)
	if !newest {
		m.files[segmentName(2)] = frames.Append(nil, opening, noon, []byte(table.Name), nil, []byte(columnsOf(table)))
	}
	n, err := openLane(configOf(""), table, m)
	if err != nil {
		t.Fatal(err)
	}
	check(t, n, all)
	same := func(a, b Unit) bool { return a.Token == b.Token && slices.Equal(a.Keys, b.Keys) }
	if got, wanted := n.pending(), pendingOf(whole); !slices.EqualFunc(got, wanted, same) {
		t.Errorf("%s: pending %v, want %v", what, got, wanted)
	}
	n.writeGroup([]*entry{{settled: keysOf(all...)}})
	if aside != (m.aside() != nil) || aside && !bytes.Equal(m.aside(), content) {
		t.Errorf("%s: %d bytes were set aside, want that: %t", what, len(m.aside()), aside)
	}
}

// TestTornWrite cuts a segment at every byte: what is whole before the cut is found, and nothing else. In the newest file
// that is what a crash leaves, in any other it is damage.
func TestTornWrite(t *testing.T) {
	all := events(t, 3)
	content := written(t, all)
	records := places(t, content)
	for n := range len(content) + 1 {
		var whole []place
		torn := n > 0
		for _, p := range records {
			if p.to <= n {
				whole = append(whole, p)
			}
			torn = torn && p.to != n
		}
		find(t, fmt.Sprintf("cut at %d of %d", n, len(content)), content[:n], true, all, whole, false)
		find(t, fmt.Sprintf("not the newest, cut at %d", n), content[:n], false, all, whole, torn)
	}
}

// TestFlippedBit flips one bit in every byte of a segment: all but the record that is hit is found.
func TestFlippedBit(t *testing.T) {
	all := events(t, 3)
	content := written(t, all)
	records := places(t, content)
	for at := range content {
		spoilt := bytes.Clone(content)
		spoilt[at] ^= 1 << (at % 8)
		hit := func(p place) bool { return p.from <= at && at < p.padding } // what pads a record says nothing
		whole := slices.DeleteFunc(slices.Clone(records), hit)
		find(t, fmt.Sprintf("byte %d", at), spoilt, false, all, whole, len(whole) < len(records))
	}
}

// TestDamageIsKept for a person to look at, and makes room when that is needed.
func TestDamageIsKept(t *testing.T) {
	all := events(t, 3)
	content := written(t, all)
	content[len(content)/3] ^= 1 // in a batch
	n, m := reopen(t, bytes.Clone(content))
	if pending := check(t, n, all); pending != 1 {
		t.Errorf("%d batches pending", pending)
	}
	n.writeGroup([]*entry{{settled: keysOf(all...)}})
	if !bytes.Equal(m.aside(), content) {
		t.Error("the damaged file was not kept as it was")
	}
	n.cfg.MaxBytes = n.bytes()
	n.writeGroup([]*entry{{batch: all[0]}})
	if len(n.aside) > 0 || len(n.batches) != 1 {
		t.Errorf("a batch was refused for a file that nobody needs: %d batches", len(n.batches))
	}
}

// earlier is a table before it had its last column.
func earlier(t schema.Table) schema.Table {
	return schema.Table{ID: t.ID, Name: t.Name, Columns: t.Columns[:len(t.Columns)-1]}
}

// TestEarlierVersion: what an earlier version accepted is there, and says which columns it has.
func TestEarlierVersion(t *testing.T) {
	all := events(t, 3)
	table := batchtest.Table(t, schema.EventsID)
	older := earlier(table)
	m := &memory{map[string][]byte{}}
	n, err := openLane(configOf(""), older, m)
	if err != nil {
		t.Fatal(err)
	}
	n.writeGroup([]*entry{{batch: all[0]}})
	if n, err = openLane(configOf(""), table, m); err != nil {
		t.Fatal(err)
	}
	if pending := check(t, n, all); pending != 1 || m.aside() != nil {
		t.Fatalf("%d batches pending, %d bytes set aside", pending, len(m.aside()))
	}
	b, err := n.read(all[0].Identity.Key())
	if err != nil || strings.Join(b.Columns, "\n") != columnsOf(older) {
		t.Errorf("columns %v: %v", b.Columns, err)
	}
}

// TestOtherVersion sets a file aside whose columns the table does not know.
func TestOtherVersion(t *testing.T) {
	all := events(t, 3)
	other := earlier(batchtest.Table(t, schema.EventsID))
	content := written(t, all)
	m := &memory{map[string][]byte{segmentName(1): content}}
	n, err := openLane(configOf(""), other, m)
	if err != nil || len(n.pending()) > 0 || !bytes.Equal(m.aside(), content) {
		t.Errorf("%d units of other columns, aside %d bytes: %v", len(n.pending()), len(m.aside()), err)
	}
}

// TestDamaged: a batch of which the bytes turn out to be lost is settled, and its file kept.
func TestDamaged(t *testing.T) {
	dir, all := t.TempDir(), events(t, 2)
	r := start(t, configOf(dir))
	r.mustAppend(all...)
	r.Damaged(all[0].Identity.Key())
	r.settle(all[1])
	r.stop()
	if left := files(t, dir); len(left) != 1 || !strings.HasSuffix(left[0], damagedSuffix) {
		t.Errorf("%v is left", left)
	}
}

// FuzzSegment: whatever lies in a file, what is pending can be read and is a whole batch of the table.
func FuzzSegment(f *testing.F) {
	all := events(f, 3)
	content := written(f, all)
	f.Add(content)
	f.Add(content[:len(content)-9])
	f.Add(append([]byte{1, 2, 3, 4, 5, 6, 7, 8}, content...))
	f.Fuzz(func(t *testing.T, content []byte) {
		n, _ := reopen(t, bytes.Clone(content))
		seen := map[wire.Key]bool{}
		for _, u := range n.pending() {
			for _, k := range u.Keys {
				if seen[k] {
					t.Fatalf("batch %v is pending twice", k)
				}
				seen[k] = true
				if b, err := n.read(k); err != nil || b.Identity.Key() != k {
					t.Fatalf("batch %v: %v", k, err)
				}
			}
		}
	})
}
