// SPDX-License-Identifier: Apache-2.0

package frames

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var (
	first  = Kind{'G', 'F', 'X', 1}
	second = Kind{'G', 'F', 'Y', 1}
	format = Format{Kinds: []Kind{first, second}, MaxMetadata: 64, MaxMessage: 256}
	noon   = time.UnixMilli(1_790_000_000_000)
)

// file is three records.
func file() []byte {
	b := Append(nil, first, noon, []byte("metadata"), nil, []byte("body"))
	b = Append(b, second, noon, nil, []byte("header"), []byte("another body"))
	return Append(b, first, noon, []byte("m"), []byte("h"), nil)
}

// scan gives all whole records, as they would be written again.
func scan(t *testing.T, content []byte) (whole [][]byte, s *Scanner) {
	t.Helper()
	s = format.NewScanner(NewWindow(bytes.NewReader(content), int64(len(content))), 0, nil)
	for {
		r, err := s.Scan()
		if errors.Is(err, io.EOF) {
			return whole, s
		}
		if err != nil {
			t.Fatal(err)
		}
		metadata, header, body := r.Head.Split(r.Content)
		again := Append(nil, r.Head.Kind, r.Head.TakenAt, metadata, header, body)
		if r.Offset%8 != 0 || !bytes.Equal(again[:HeadBytes+len(r.Content)], content[r.Offset:][:HeadBytes+len(r.Content)]) {
			t.Fatalf("record at %d is not what is made of it", r.Offset)
		}
		if at, err := format.ReadAt(bytes.NewReader(content), r.Offset); err != nil || !bytes.Equal(at.Content, r.Content) {
			t.Fatalf("record at %d, read alone: %v", r.Offset, err)
		}
		whole = append(whole, again)
	}
}

func TestFlippedBit(t *testing.T) {
	sound := file()
	if whole, s := scan(t, sound); len(whole) != 3 || !bytes.Equal(bytes.Join(whole, nil), sound) || len(s.Bad) > 0 || s.End != int64(len(sound)) {
		t.Fatalf("%d records, bad %v", len(whole), s.Bad)
	}
	for bit := range 8 * len(sound) {
		spoilt := bytes.Clone(sound)
		spoilt[bit/8] ^= 1 << (bit % 8)
		whole, s := scan(t, spoilt)
		padding := len(whole) == 3 // nothing is said of zeros that are none
		if !padding && (len(whole) != 2 || len(s.Bad) != 1) {
			t.Errorf("bit %d: %d records, bad %v", bit, len(whole), s.Bad)
		}
		if padding && !bytes.Equal(bytes.Join(whole, nil), sound) {
			t.Errorf("bit %d went unseen", bit)
		}
	}
}

func TestTornWrite(t *testing.T) {
	sound := file()
	for n := range sound {
		whole, s := scan(t, sound[:n])
		var got int64
		for _, w := range whole {
			got += int64(len(w))
		}
		tail, torn := s.Tail()
		if got != s.End || torn != (s.End < int64(n)) || torn && tail.From != s.End {
			t.Errorf("cut at %d: %d bytes are whole, %d found, tail %v", n, s.End, got, tail)
		}
	}
}

func TestLengthsAreBounded(t *testing.T) {
	for name, b := range map[string][]byte{
		"metadata": Append(nil, first, noon, make([]byte, 65), nil, nil),
		"message":  Append(nil, first, noon, nil, make([]byte, 128), make([]byte, 129)),
	} {
		if _, err := format.ParseHead(b); !errors.Is(err, ErrBad) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	lock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(dir); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "process ") {
		t.Errorf("locked twice: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
	taken := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(taken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(taken); err == nil {
		t.Error("a file was taken for a folder")
	}
}

// FuzzScanner: whatever a file holds, what comes out lies there, and the rest is told.
func FuzzScanner(f *testing.F) {
	f.Add(file())
	f.Add(file()[:70])
	f.Add(append([]byte{1, 2, 3}, file()...))
	f.Fuzz(func(t *testing.T, content []byte) {
		whole, s := scan(t, content)
		var sum int64
		for _, w := range whole {
			sum += int64(len(w))
		}
		for i, b := range s.Bad {
			if b.From >= b.To || b.To > int64(len(content)) || i > 0 && b.From <= s.Bad[i-1].To {
				t.Fatalf("bad stretches %v of %d bytes", s.Bad, len(content))
			}
			sum += b.To - b.From
		}
		if sum != int64(len(content)) {
			t.Fatalf("records and bad stretches have %d bytes of %d", sum, len(content))
		}
	})
}
