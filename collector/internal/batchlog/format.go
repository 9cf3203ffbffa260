// SPDX-License-Identifier: Apache-2.0

package batchlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gpufleet/gpufleet/internal/frames"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// FormatVersion is the last byte of every kind below.
const FormatVersion = 1

// A segment is records of package frames, one behind the other. The first tells what the others are of.
//
//	┌─────────┬────────────────────┬──────────────────────────────────┐
//	│ kind    │ metadata           │ body                             │
//	├─────────┼────────────────────┼──────────────────────────────────┤
//	│ "GFL" 1 │ name of the table  │ its columns' names, one a line   │
//	│ "GFE" 1 │ wire.Identity,     │ header and body as they came     │
//	│         │ wire.AppendScope   │                                  │
//	│ "GFU" 1 │ token of a unit    │ keys of its batches, in order    │
//	│ "GFD" 1 │                    │ keys of batches that are settled │
//	└─────────┴────────────────────┴──────────────────────────────────┘
//
// The scope is what the agent had proved when the batch was accepted; without one nothing follows the identity.
//
// A key is three numbers, little endian: node, epoch and sequence, 24 bytes. Its table is the segment's.
var (
	opening = frames.Kind{'G', 'F', 'L', FormatVersion}
	batch   = frames.Kind{'G', 'F', 'E', FormatVersion}
	unit    = frames.Kind{'G', 'F', 'U', FormatVersion}
	settled = frames.Kind{'G', 'F', 'D', FormatVersion}

	records = frames.Format{Kinds: []frames.Kind{opening, batch, unit, settled}, MaxMetadata: 1 << 10, MaxMessage: wire.MaxMessageBytes}
)

const (
	keyBytes   = 24
	scopeBytes = 128 // a scope takes no more
)

func appendKeys(b []byte, keys []wire.Key) []byte {
	for _, k := range keys {
		b = binary.LittleEndian.AppendUint64(b, k.Node)
		b = binary.LittleEndian.AppendUint64(b, k.Epoch)
		b = binary.LittleEndian.AppendUint64(b, k.Sequence)
	}
	return b
}

func parseKeys(table uint8, b []byte) ([]wire.Key, error) {
	if len(b)%keyBytes != 0 {
		return nil, fmt.Errorf("keys in %d bytes: %w", len(b), frames.ErrBad)
	}
	var keys []wire.Key
	for ; len(b) > 0; b = b[keyBytes:] {
		keys = append(keys, wire.Key{
			Table: table, Node: binary.LittleEndian.Uint64(b), Epoch: binary.LittleEndian.Uint64(b[8:]), Sequence: binary.LittleEndian.Uint64(b[16:]),
		})
	}
	return keys, nil
}

// columnsOf are the names of a table's columns in the order in which its batches hold them.
func columnsOf(t schema.Table) string {
	var names []string
	for _, c := range t.WireColumns() {
		names = append(names, c.Name)
	}
	return strings.Join(names, "\n")
}

// content is what a record says. Of a batch it is the identity alone.
type content struct {
	columns string // of an opening
	token   string // of a unit
	keys    []wire.Key
}

// parse reads a record of a table. Every error is an ErrBad.
func parse(t schema.Table, r frames.Record) (c content, err error) {
	metadata, header, body := r.Head.Split(r.Content)
	switch r.Head.Kind {
	case opening:
		if string(metadata) != t.Name {
			return c, fmt.Errorf("segment of table %q among those of %s: %w", metadata, t.Name, frames.ErrBad)
		}
		c.columns = string(body)
	case batch:
		identity, _, err := parseBatch(metadata, header, body)
		if err != nil {
			return c, err
		}
		if identity.Table != t.ID {
			return c, fmt.Errorf("batch %v among those of %s: %w", identity.Key(), t.Name, frames.ErrBad)
		}
		c.keys = []wire.Key{identity.Key()}
	default:
		c.token = string(metadata)
		c.keys, err = parseKeys(t.ID, body)
	}
	return c, err
}

// parseBatch reads what a record says of its batch. Every error is an ErrBad.
func parseBatch(metadata, header, body []byte) (i wire.Identity, s wire.Scope, err error) {
	n := min(len(metadata), wire.IdentityBytes)
	if i, err = wire.ParseIdentity(metadata[:n], header, body); err != nil {
		return i, s, fmt.Errorf("%w: %w", err, frames.ErrBad)
	}
	if n == len(metadata) {
		return i, s, nil
	}
	s, rest, err := wire.ParseScope(metadata[n:])
	if err != nil || len(rest) > 0 {
		return i, s, fmt.Errorf("batch %v: scope in %d bytes: %w: %w", i.Key(), len(metadata)-n, errors.Join(err), frames.ErrBad)
	}
	return i, s, nil
}

const (
	segmentSuffix = ".gfl"
	damagedSuffix = ".damaged"
)

func segmentName(number uint64) string { return fmt.Sprintf("%016d%s", number, segmentSuffix) }

// parseName reads a segment's name.
func parseName(name string) (number uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	number, err := strconv.ParseUint(digits, 10, 64)
	return number, ok && err == nil && segmentName(number) == name
}

// appendTo appends what an entry says.
func (e *entry) appendTo(b []byte, at time.Time) []byte {
	switch {
	case e.batch != nil:
		metadata := e.batch.Metadata
		if e.batch.Scope != (wire.Scope{}) {
			metadata = wire.AppendScope(slices.Clone(metadata), e.batch.Scope)
		}
		return frames.Append(b, batch, at, metadata, e.batch.Header, e.batch.Body)
	case e.unit != nil:
		return frames.Append(b, unit, at, []byte(e.unit.Token), nil, appendKeys(nil, e.unit.Keys))
	default:
		return frames.Append(b, settled, at, nil, nil, appendKeys(nil, e.settled))
	}
}
