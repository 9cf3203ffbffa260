// SPDX-License-Identifier: Apache-2.0

package recording

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/gpufleet/gpufleet/schema/wire"
)

// Writer writes a recording. It belongs to one goroutine. Each batch is one call of the underlying
// writer, so that what a crash leaves is cut within the last batch at worst.
type Writer struct {
	out    io.Writer
	node   uint64
	name   string
	buffer []byte
	err    error

	// Batches, Rows and Bytes count what was written so far, the head in Bytes.
	Batches, Rows uint64
	Bytes         int64
}

// NewWriter writes the head.
func NewWriter(out io.Writer, p Provenance) (*Writer, error) {
	p.RecordedAt = p.RecordedAt.UTC()
	h, err := newHead(p)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("write head of recording: %w", err)
	}
	if len(text) > MaxHeadBytes {
		return nil, fmt.Errorf("head of recording of %d bytes, at most %d: %w", len(text), MaxHeadBytes, wire.ErrTooLarge)
	}
	w := &Writer{out: out, node: wire.NodeID(p.Node), name: p.Node}
	return w, w.put(framed(text))
}

// framed is the head as it stands in a file.
func framed(text []byte) []byte {
	b := append(make([]byte, 0, prefixBytes+len(text)), magic[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(text, castagnoli))
	return append(b, text...)
}

// Write appends a batch of the node. After an error the recording takes no more: what follows a batch
// of which only a part was written could not be read.
func (w *Writer) Write(b *wire.Batch) error {
	switch {
	case w.err != nil:
		return w.err
	case b.Identity.Node != w.node:
		return fmt.Errorf("record batch %v: it is not of node %s", b.Identity.Key(), w.name)
	case b.Identity.Codec != wire.Zstd || len(b.Header) != 0 || len(b.Metadata) != identityBytes:
		return fmt.Errorf("record batch %v: only batches of the agent's encoder can be recorded", b.Identity.Key())
	}
	w.buffer = binary.LittleEndian.AppendUint32(w.buffer[:0], uint32(len(b.Metadata)+len(b.Body)))
	w.buffer = append(w.buffer, b.Metadata...)
	w.buffer = append(w.buffer, b.Body...)
	if err := w.put(w.buffer); err != nil {
		return err
	}
	w.Batches++
	w.Rows += uint64(b.Identity.Rows)
	return nil
}

func (w *Writer) put(b []byte) error {
	n, err := w.out.Write(b)
	w.Bytes += int64(n)
	if err != nil {
		w.err = fmt.Errorf("write recording of node %s after %d batches: %w", w.name, w.Batches, err)
	}
	return w.err
}
