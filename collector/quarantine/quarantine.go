// SPDX-License-Identifier: Apache-2.0

// Package quarantine keeps batches that can never be stored, with the reason, so that nothing is
// lost and a person can look: `gpufleet replay` sends a file again once its reason is gone.
//
// A file is written beside its name, synced and renamed, so that no half file is ever found:
//
//	┌─────────┬────────┬──────────────┬───────────────────────────────┬────────┐
//	│ "GFQ" 1 │ length │ JSON (Entry) │ metadata, header, body: each  │ CRC32C │
//	│         │ u32    │              │ with its length as u32 before │ u32    │
//	└─────────┴────────┴──────────────┴───────────────────────────────┴────────┘
package quarantine

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gpufleet/gpufleet/schema/wire"
)

// Extension of a quarantined batch.
const Extension = ".gfq"

// ErrFull means that the quarantine has reached its limit.
var ErrFull = errors.New("quarantine is full")

var (
	magic      = []byte{'G', 'F', 'Q', 1}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// Entry says what a file holds and why.
type Entry struct {
	Table      string    `json:"table"`
	NodeName   string    `json:"node_name"`
	Node       uint64    `json:"node_id"`
	Epoch      uint64    `json:"epoch"`
	Sequence   uint64    `json:"seq"`
	Rows       uint32    `json:"rows"`
	Reason     string    `json:"reason"`
	ReceivedAt time.Time `json:"received_at"`
	Collector  string    `json:"collector"`
}

// Data is the batch as it was received.
type Data struct {
	Metadata, Header, Body []byte
}

// Store is the directory of quarantined batches.
type Store struct {
	dir      string
	maxBytes int64

	mu   sync.Mutex // guards used
	used int64
}

// Open counts what is there; the directory is made if it is missing.
func Open(dir string, maxBytes int64) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open quarantine: %w", err)
	}
	if err := removeHalfWritten(dir); err != nil {
		return nil, fmt.Errorf("open quarantine %s: %w", dir, err)
	}
	used, err := usedBytes(dir)
	if err != nil {
		return nil, fmt.Errorf("open quarantine %s: %w", dir, err)
	}
	return &Store{dir: dir, maxBytes: maxBytes, used: used}, nil
}

// removeHalfWritten removes what a crash has left of files that had no name yet: nobody was told that they
// are kept.
func removeHalfWritten(dir string) error {
	half, err := filepath.Glob(filepath.Join(dir, "*.tmp"))
	for _, path := range half {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

func usedBytes(dir string) (used int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // somebody has just deleted it
		}
		if err == nil {
			used += info.Size()
		}
		return err
	})
	return used, err
}

// Put keeps a batch. The same batch again takes the place of the one before.
func (s *Store) Put(e Entry, d Data) (path string, err error) {
	text, err := json.Marshal(e)
	if err != nil {
		return "", fmt.Errorf("quarantine batch: %w", err)
	}
	content := encode(text, d)
	key := wire.Key{Node: e.Node, Epoch: e.Epoch, Sequence: e.Sequence}
	path = filepath.Join(s.dir, fmt.Sprintf("%s-%016x-%d-%d%s", e.Table, key.Node, key.Epoch, key.Sequence, Extension))
	s.mu.Lock()
	defer s.mu.Unlock()
	more := int64(len(content)) - fileSize(path)
	if s.used+more > s.maxBytes {
		if s.used, err = usedBytes(s.dir); err != nil { // files were replayed or deleted since
			return "", fmt.Errorf("quarantine batch: %w", err)
		}
	}
	if s.used+more > s.maxBytes {
		return "", fmt.Errorf("quarantine batch of %d bytes beside %d of %d in %s: %w: replay or delete files there", len(content), s.used, s.maxBytes, s.dir, ErrFull)
	}
	if err := writeWhole(path, content); err != nil {
		return "", fmt.Errorf("quarantine batch: %w", err)
	}
	s.used += more
	return path, nil
}

// fileSize is 0 for a file that is not there.
func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

func encode(text []byte, d Data) []byte {
	b := append([]byte(nil), magic...)
	for _, part := range [][]byte{text, d.Metadata, d.Header, d.Body} {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func writeWhole(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path)) // or a crash could take the new name back
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Read reads a quarantined batch.
func Read(path string) (Entry, Data, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return Entry{}, Data{}, fmt.Errorf("read quarantined batch: %w", err)
	}
	e, d, err := decode(content)
	if err != nil {
		return Entry{}, Data{}, fmt.Errorf("read quarantined batch %s: %w", path, err)
	}
	return e, d, nil
}

func decode(content []byte) (Entry, Data, error) {
	if len(content) < len(magic)+4 || string(content[:len(magic)]) != string(magic) {
		return Entry{}, Data{}, errors.New("not a quarantined batch")
	}
	end := len(content) - 4
	if crc32.Checksum(content[:end], castagnoli) != binary.LittleEndian.Uint32(content[end:]) {
		return Entry{}, Data{}, errors.New("checksum does not match: the file is damaged")
	}
	rest := content[len(magic):end]
	var parts [4][]byte
	for i := range parts {
		if len(rest) < 4 || uint64(len(rest)-4) < uint64(binary.LittleEndian.Uint32(rest)) {
			return Entry{}, Data{}, errors.New("file is too short")
		}
		n := binary.LittleEndian.Uint32(rest)
		parts[i], rest = rest[4:4+n], rest[4+n:]
	}
	var e Entry
	if err := json.Unmarshal(parts[0], &e); err != nil {
		return Entry{}, Data{}, fmt.Errorf("entry: %w", err)
	}
	return e, Data{Metadata: parts[1], Header: parts[2], Body: parts[3]}, nil
}

// List finds the quarantined batches in a directory and those below it, by name. A file is its own list.
func List(path string) ([]string, error) {
	var paths []string
	err := filepath.WalkDir(path, func(found string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && (found == path || strings.HasSuffix(found, Extension)) {
			paths = append(paths, found)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list quarantine: %w", err)
	}
	return paths, nil
}
