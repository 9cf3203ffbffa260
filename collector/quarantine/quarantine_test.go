// SPDX-License-Identifier: Apache-2.0

package quarantine

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	entry = Entry{
		Table: "gpu_samples", NodeName: "anna", Node: 0xdeadbeef, Epoch: 1700000000000, Sequence: 42, Rows: 80,
		Reason: "rows are too old", ReceivedAt: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Collector: "c1",
	}
	batch = Data{Metadata: []byte("who"), Header: []byte{}, Body: bytes.Repeat([]byte("rows"), 100)}
)

func open(t *testing.T, maxBytes int64) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "quarantine"), maxBytes)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t *testing.T, s *Store, sequence uint64) string {
	t.Helper()
	e := entry
	e.Sequence = sequence
	path, err := s.Put(e, batch)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPutAndRead(t *testing.T) {
	s := open(t, 1<<20)
	path := put(t, s, 42)
	if want := "gpu_samples-00000000deadbeef-1700000000000-42.gfq"; filepath.Base(path) != want {
		t.Errorf("file %s, want %s", filepath.Base(path), want)
	}
	e, d, err := Read(path)
	if diff := cmp.Diff(entry, e) + cmp.Diff(batch, d); err != nil || diff != "" {
		t.Errorf("read: %v\n%s", err, diff)
	}
	used := s.used.all
	put(t, s, 42)
	if s.used.all != used || used != blockBytes {
		t.Errorf("%d bytes, %d after the same batch again", used, s.used.all)
	}
	if left, err := filepath.Glob(filepath.Join(s.dir, "*.tmp")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	again, err := Open(s.dir, 1<<20)
	if err != nil || again.used.all != used {
		t.Errorf("opened again: %d bytes, want %d: %v", again.used.all, used, err)
	}
}

// TestFull: a full quarantine takes nothing, until a file is deleted, by whomever.
func TestFull(t *testing.T) {
	s := open(t, 8*2*blockBytes) // room for two of each of eight nodes
	clock := time.Now()
	s.now = func() time.Time { return clock }
	first := put(t, s, 1)
	put(t, s, 2)
	if _, err := s.Put(entry, batch); !errors.Is(err, ErrFull) {
		t.Fatalf("third batch of a node beside %d bytes: %v", s.used.all, err)
	}
	for node := range uint64(7) {
		for sequence := range uint64(2) {
			e := entry
			e.Node, e.Sequence = node, sequence+1
			if _, err := s.Put(e, batch); err != nil {
				t.Fatalf("node %d: %v", node, err)
			}
		}
	}
	e := entry
	e.Node = 8
	if _, err := s.Put(e, batch); !errors.Is(err, ErrFull) {
		t.Fatalf("batch of a ninth node beside %d bytes: %v", s.used.all, err)
	}
	put(t, s, 2) // takes no more room than it has
	if err := os.Remove(first); err != nil {
		t.Fatal(err)
	}
	e = entry
	e.Sequence = 3
	if _, err := s.Put(e, batch); !errors.Is(err, ErrFull) {
		t.Errorf("files were counted again at once: %v", err)
	}
	clock = clock.Add(countEvery)
	put(t, s, 3)
	if paths, err := List(s.dir); err != nil || len(paths) != 16 {
		t.Errorf("holds %v: %v", paths, err)
	}
}

// TestUnknownBatches: bytes of which nobody knows what they are take no batch's place, nor each other's.
func TestUnknownBatches(t *testing.T) {
	s := open(t, 1<<20)
	paths := map[string]bool{put(t, s, 1): true}
	for _, d := range []Data{batch, {Metadata: []byte("who"), Body: []byte("r")}, {Metadata: []byte("wh"), Body: []byte("or")}, batch} {
		e := entry
		e.Sequence = 0
		path, err := s.Put(e, d)
		if err != nil {
			t.Fatal(err)
		}
		paths[path] = true
	}
	if len(paths) != 4 {
		t.Errorf("files %v", paths)
	}
}

// TestDamage changes each byte of a file, and cuts it at each length.
func TestDamage(t *testing.T) {
	path := put(t, open(t, 1<<20), 1)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, at int, content []byte) {
		t.Helper()
		if _, _, err := decode(content); err == nil {
			t.Errorf("%s %d: read without an error", what, at)
		}
	}
	for i := range whole {
		changed := slices.Clone(whole)
		changed[i] ^= 0x20
		refused("byte", i, changed)
		refused("length", i, whole[:i])
	}
	if _, _, err := Read(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode([]byte(`{"table":"gpu_samples"}`), batch))
	f.Add([]byte("GFQ\x01\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, content []byte) {
		e, d, err := decode(content)
		if err != nil {
			return
		}
		if n := len(d.Metadata) + len(d.Header) + len(d.Body); n > len(content) {
			t.Errorf("%d bytes from %d: %+v", n, len(content), e)
		}
	})
}

func TestList(t *testing.T) {
	s := open(t, 1<<20)
	first, second := put(t, s, 1), put(t, s, 2)
	if err := os.WriteFile(filepath.Join(s.dir, "note.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{s.dir, filepath.Dir(s.dir)} {
		if paths, err := List(from); err != nil || !slices.Equal(paths, []string{first, second}) {
			t.Errorf("%s: %v: %v", from, paths, err)
		}
	}
	if paths, err := List(first); err != nil || !slices.Equal(paths, []string{first}) {
		t.Errorf("one file: %v: %v", paths, err)
	}
	if _, err := List(filepath.Join(s.dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
}
