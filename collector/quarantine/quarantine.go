// SPDX-License-Identifier: Apache-2.0

// Package quarantine keeps batches that can never be stored, with the reason, so that nothing is
// lost and a person can look: `gpufleet quarantine replay` sends a file again once its reason is gone.
//
// A file is written beside its name, synced and renamed, so that no half file is ever found:
//
//	┌─────────┬────────┬──────────────┬───────────────────────────────┬────────┐
//	│ "GFQ" 1 │ length │ JSON (Entry) │ metadata, header, body: each  │ CRC32C │
//	│         │ u32    │              │ with its length as u32 before │ u32    │
//	└─────────┴────────┴──────────────┴───────────────────────────────┴────────┘
package quarantine

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
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
	// Tenant and Residency are what the agent had proved.
	Tenant    string `json:"tenant,omitempty"`
	Residency string `json:"residency,omitempty"`
}

// Data is the batch as it was received.
type Data struct {
	Metadata, Header, Body []byte
}

const (
	// blockBytes is what a file takes at least, with its name: many small ones fill a disk, too.
	blockBytes = 4 << 10
	// nodeShare is the part of the quarantine that one node may fill: one of so many.
	nodeShare = 8
	// countEvery is how often files are counted again at most: whoever fills the quarantine must not have
	// us walk through it for each batch.
	countEvery = time.Minute
)

// Store is the directory of quarantined batches.
type Store struct {
	dir      string
	maxBytes int64
	now      func() time.Time

	mu      sync.Mutex // guards the fields below
	used    usage
	counted time.Time // when files were last counted because there was no room
}

// usage is how many bytes files take: of each node, by the id in their names as text, and of all.
type usage struct {
	all   int64
	nodes map[string]int64
}

func (u *usage) add(node string, bytes int64) {
	u.all += bytes
	u.nodes[node] += bytes
}

// blocks is what a file takes.
func blocks(size int64) int64 { return max((size+blockBytes-1)/blockBytes, 1) * blockBytes }

// nodeOf is the node's id in a file's name; "" if the name is not one of ours.
func nodeOf(path string) string {
	parts := strings.Split(filepath.Base(path), "-")
	if len(parts) < 3 {
		return ""
	}
	return parts[1]
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
	return &Store{dir: dir, maxBytes: maxBytes, now: time.Now, used: used}, nil
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

func usedBytes(dir string) (usage, error) {
	used := usage{nodes: make(map[string]int64)}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // somebody has just deleted it
		}
		if err == nil {
			used.add(nodeOf(path), blocks(info.Size()))
		}
		return err
	})
	return used, err
}

// Put keeps a batch. The same batch again takes the place of the one before. An entry of sequence 0 holds
// bytes of which nobody knows what batch they are: they are named by their checksum.
func (s *Store) Put(e Entry, d Data) (path string, err error) {
	text, err := json.Marshal(e)
	if err != nil {
		return "", fmt.Errorf("quarantine batch: %w", err)
	}
	content := encode(text, d)
	path = filepath.Join(s.dir, fileName(e, d))
	s.mu.Lock()
	defer s.mu.Unlock()
	more := blocks(int64(len(content))) - taken(path)
	node := nodeOf(path)
	err = s.room(node, more)
	if err != nil && s.now().Sub(s.counted) >= countEvery { // files may have been replayed or deleted since
		s.counted = s.now()
		if s.used, err = usedBytes(s.dir); err != nil {
			return "", fmt.Errorf("quarantine batch: %w", err)
		}
		err = s.room(node, more)
	}
	if err != nil {
		return "", fmt.Errorf("quarantine batch of %d bytes in %s: %w: replay or delete files there", len(content), s.dir, err)
	}
	if err := writeWhole(path, content); err != nil {
		return "", fmt.Errorf("quarantine batch: %w", err)
	}
	s.used.add(node, more)
	return path, nil
}

func fileName(e Entry, d Data) string {
	which := strconv.FormatUint(e.Sequence, 10)
	if e.Sequence == 0 {
		sum := sha256.New()
		for _, part := range [][]byte{d.Metadata, d.Header, d.Body} {
			fmt.Fprintf(sum, "%d ", len(part))
			sum.Write(part)
		}
		which = fmt.Sprintf("unknown-%x", sum.Sum(nil)[:8])
	}
	return fmt.Sprintf("%s-%016x-%d-%s%s", e.Table, e.Node, e.Epoch, which, Extension)
}

// Used is how many bytes the files take, and may take. What was deleted since is noticed when there is no room.
func (s *Store) Used() (bytes, limit int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used.all, s.maxBytes
}

// room tells whether a node may fill so many bytes more.
func (s *Store) room(node string, more int64) error {
	share := max(s.maxBytes/nodeShare, blockBytes)
	switch {
	case s.used.all+more > s.maxBytes:
		return fmt.Errorf("%w: %d of %d bytes are used", ErrFull, s.used.all, s.maxBytes)
	case s.used.nodes[node]+more > share:
		return fmt.Errorf("%w for this node: %d of its %d bytes are used", ErrFull, s.used.nodes[node], share)
	default:
		return nil
	}
}

// taken is what a file takes; 0 if it is not there.
func taken(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return blocks(info.Size())
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
