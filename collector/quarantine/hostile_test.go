// SPDX-License-Identifier: Apache-2.0

package quarantine

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestPutAtOnce puts the same few batches from many sides.
func TestPutAtOnce(t *testing.T) {
	s := open(t, 1<<20)
	var group sync.WaitGroup
	for n := range uint64(8) {
		group.Go(func() {
			for i := range uint64(20) {
				e := entry
				e.Sequence = 1 + (n+i)%5
				if _, err := s.Put(e, batch); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	paths, err := List(s.dir)
	if err != nil || len(paths) != 5 {
		t.Errorf("holds %v: %v", paths, err)
	}
	for _, path := range paths {
		if _, d, err := Read(path); err != nil || cmp.Diff(batch, d) != "" {
			t.Errorf("%s: %v", path, err)
		}
	}
	if used, err := usedBytes(s.dir); err != nil || cmp.Diff(used.all, s.used.all)+cmp.Diff(used.nodes, s.used.nodes) != "" {
		t.Errorf("%d bytes are used, %d counted: %v", used.all, s.used.all, err)
	}
}

// TestHalfWritten is what a crash leaves.
func TestHalfWritten(t *testing.T) {
	s := open(t, 1<<20)
	path := put(t, s, 1)
	half := filepath.Join(s.dir, "123.tmp")
	if err := os.WriteFile(half, make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := Open(s.dir, 1<<20)
	if err != nil || again.used.all != s.used.all {
		t.Errorf("opened with %d bytes, want %d: %v", again.used.all, s.used.all, err)
	}
	if _, err := os.Stat(half); !os.IsNotExist(err) {
		t.Errorf("the half file is still there: %v", err)
	}
	if _, _, err := Read(path); err != nil {
		t.Error(err)
	}
}

// TestNowhereToWrite: nobody may be told that a batch is kept when it is not.
func TestNowhereToWrite(t *testing.T) {
	s := open(t, 1<<20)
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	if path, err := s.Put(entry, batch); err == nil || s.used.all != 0 {
		t.Errorf("kept as %s, %d bytes", path, s.used.all)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file, 1<<20); err == nil {
		t.Error("a file was opened as a directory")
	}
}

// FuzzRead reads files whose checksum is right whatever else is wrong. What can be read can be written again.
func FuzzRead(f *testing.F) {
	whole := encode([]byte(`{"table":"gpu_samples","seq":7}`), batch)
	f.Add(whole[:len(whole)-4])
	f.Add(encode(nil, Data{}))
	f.Add([]byte("GFQ\x01\xff\xff\xff\xff"))
	f.Add([]byte("GFQ\x01\x02\x00\x00\x00{}\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\x7f"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(dir, "fuzzed"+Extension)
		content = binary.LittleEndian.AppendUint32(content, crc32.Checksum(content, castagnoli))
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		e, d, err := Read(path)
		if err != nil {
			return
		}
		s, err := Open(t.TempDir(), 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		e.Table = "fuzzed"
		kept, err := s.Put(e, d)
		if err != nil {
			t.Fatal(err)
		}
		again, data, err := Read(kept)
		if err != nil || cmp.Diff(e, again) != "" || !bytes.Equal(d.Metadata, data.Metadata) || !bytes.Equal(d.Header, data.Header) || !bytes.Equal(d.Body, data.Body) {
			t.Errorf("read %+v, then %+v: %v", e, again, err)
		}
	})
}
