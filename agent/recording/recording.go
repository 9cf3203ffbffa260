// SPDX-License-Identifier: Apache-2.0

// Package recording keeps the rows that an agent made of real GPUs in a file, with where they come
// from, so that they can be played again where there is no GPU. A recording is the agent's own
// batches, one after the other, behind a head that says whose they are:
//
//	 0         4        8       12
//	┌─────────┬────────┬───────┬───────────┐
//	│ "GFR" 1 │ length │ crc   │ head      │
//	│         │ uint32 │ u32   │ JSON      │
//	└─────────┴────────┴───────┴───────────┘
//
// and for each batch, as often as there are batches
//
//	 0        4            48
//	┌────────┬────────────┬──────────────────┐
//	│ length │ identity   │ one zstd frame   │
//	│ uint32 │ wire: 44 B │ length − 44 B    │
//	└────────┴────────────┴──────────────────┘
//
// Little endian. The first length is that of the JSON, and crc the CRC-32C of the JSON. The other
// lengths are those of identity and frame together; what these two hold, and the checksum over them,
// is drawn at wire.Identity and wire.Zstd.
//
// The head is a Provenance and the names of the columns of each table in the order in which the
// batches hold them. Columns are never renamed or retyped, so a later version still reads a recording:
// a column that it has gained since is NULL.
//
// A recording belongs to one node. There is nothing at its end: an agent that was killed leaves one
// that is whole up to its last batch or the one before.
package recording

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Limits of a recording. They bound what a file can make a reader allocate.
const (
	MaxHeadBytes = 1 << 20             // of the JSON
	MaxLoadBytes = 1 << 30             // of rows that Load holds in memory
	MaxSpan      = 31 * 24 * time.Hour // from the first row that Load holds to the last
)

const (
	prefixBytes   = 12 // before the JSON
	lengthBytes   = 4  // before a batch
	identityBytes = 44 // of a batch
	maxBatchBytes = wire.MaxMessageBytes
)

var (
	magic      = [4]byte{'G', 'F', 'R', 1}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// ErrCut means that a recording ends in the middle of a batch or of its head: what is before is whole.
var ErrCut = errors.New("recording is cut off")

// Provenance says where the rows of a recording come from.
type Provenance struct {
	Node       string    `json:"node"`              // name of the node that the rows belong to
	Machine    string    `json:"machine"`           // what it is: instance type, operating system, kernel
	GPUs       []string  `json:"gpus"`              // model of each GPU
	Driver     string    `json:"driver"`            // version of the GPU driver
	RecordedAt time.Time `json:"recorded_at"`       // when the GPUs were first read, UTC
	Program    string    `json:"program"`           // that read them
	Version    string    `json:"version"`           // of that program
	Source     string    `json:"source,omitempty"`  // where the readings were published, if this project did not take them
	Licence    string    `json:"licence,omitempty"` // of that source
	Notes      []string  `json:"notes,omitempty"`   // what else a reader must know, such as the load on the GPUs
}

// String names the recording in a line.
func (p Provenance) String() string {
	text := fmt.Sprintf("%s: %s, driver %s, read by %s %s at %s",
		p.Node, models(p.GPUs), p.Driver, p.Program, p.Version, p.RecordedAt.UTC().Format(time.RFC3339))
	if p.Source != "" {
		text += ", from " + p.Source
	}
	return text
}

// models counts equal names: 8 × NVIDIA H100 80GB HBM3.
func models(names []string) string {
	if len(names) == 0 {
		return "no GPU"
	}
	for _, name := range names[1:] {
		if name != names[0] {
			return fmt.Sprintf("%d GPUs", len(names))
		}
	}
	return fmt.Sprintf("%d × %s", len(names), names[0])
}

// head is the JSON.
type head struct {
	Provenance
	Columns map[string][]string `json:"columns"` // of each table, in the order of its batches
}

// newHead is the head of a recording that this version writes.
func newHead(p Provenance) (head, error) {
	h := head{Provenance: p, Columns: make(map[string][]string)}
	for _, t := range schema.Tables() {
		for _, c := range t.WireColumns() {
			h.Columns[t.Name] = append(h.Columns[t.Name], c.Name)
		}
	}
	return h, h.check()
}

// check refuses a head that says too little for its rows to be of use.
func (h head) check() error {
	if err := wire.CheckNodeName(h.Node); err != nil {
		return fmt.Errorf("recording: %w: %w", err, wire.ErrMalformed)
	}
	if h.RecordedAt.IsZero() || h.Program == "" {
		return fmt.Errorf("recording of node %s does not say when and by which program: %w", h.Node, wire.ErrMalformed)
	}
	return nil
}

// parseHead reads the JSON.
func parseHead(text []byte) (head, error) {
	var h head
	if err := json.Unmarshal(text, &h); err != nil {
		return head{}, fmt.Errorf("read head of recording: %w: %w", err, wire.ErrMalformed)
	}
	return h, h.check()
}

// tables lists the tables that the head describes, in the order of their ids.
func (h head) tables() ([]schema.Table, error) {
	var tables []schema.Table
	for name := range h.Columns {
		t, ok := schema.TableByName(name)
		if !ok {
			return nil, fmt.Errorf("recording of node %s has table %q, which this version does not know: %w", h.Node, name, wire.ErrMalformed)
		}
		tables = append(tables, t)
	}
	slices.SortFunc(tables, func(a, b schema.Table) int { return int(a.ID) - int(b.ID) })
	return tables, nil
}
