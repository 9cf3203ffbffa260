// SPDX-License-Identifier: Apache-2.0

package recording

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/klauspost/compress/zstd"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Stand-ins for what names a machine.
const (
	// MaskedNode is the name of the node of every recording that is masked.
	MaskedNode    = "recorded-node"
	maskedGPU     = "GPU-00000000-0000-0000-0000-%012d" // numbered as they come; MIG instances too
	maskedProcess = "process"
)

// Mask takes out of batches what names the machine that they were made on, as recordings are given to others: UUIDs,
// serial numbers, the node, its place within a cloud, its processes, and the release of its kernel. Each is replaced by
// a stand-in, the same one throughout the recording, so that rows still belong together; gpu_id becomes the one that
// belongs to the UUID's stand-in. What a stand-in stands for cannot be found from it. Models, versions, PCI addresses,
// the region and all readings stay. It belongs to one goroutine.
type Mask struct {
	node     string
	encoder  *wire.Encoder
	zstd     *zstd.Decoder
	decoders map[uint8]*wire.Decoder
	gpus     map[uint64]int               // their numbers, by gpu_id
	hashes   map[uint64]uint64            // of content_hash
	names    map[string]map[string]string // stand-ins of texts by column
}

// NewMask makes a mask for the recording of a node.
func NewMask(node string) (*Mask, error) {
	encoder, err := wire.NewEncoder()
	if err != nil {
		return nil, fmt.Errorf("make mask: %w", err)
	}
	z, err := wire.NewDecompressor()
	if err != nil {
		return nil, fmt.Errorf("make mask: %w", err)
	}
	return &Mask{
		node: node, encoder: encoder, zstd: z, decoders: make(map[uint8]*wire.Decoder),
		gpus: make(map[uint64]int), hashes: make(map[uint64]uint64), names: make(map[string]map[string]string),
	}, nil
}

// Close releases the mask's memory.
func (m *Mask) Close() { m.zstd.Close() }

// Provenance masks what a recording says of itself. Its notes are the words of whoever made it, and stay.
func (m *Mask) Provenance(p Provenance) Provenance {
	p.Node, p.Machine = MaskedNode, maskKernel(p.Machine)
	return p
}

// Batch masks a batch of the agent's encoder.
func (m *Mask) Batch(b *wire.Batch) (*wire.Batch, error) {
	d := m.decoders[b.Identity.Table]
	if d == nil {
		t, ok := schema.TableByID(b.Identity.Table)
		if !ok {
			return nil, fmt.Errorf("mask batch %v: no such table", b.Identity.Key())
		}
		d = wire.NewDecoder(t.WireSchema(), m.zstd)
		m.decoders[b.Identity.Table] = d
	}
	record, err := d.Decode(b.Identity, b.Header, b.Body)
	if err != nil {
		return nil, fmt.Errorf("mask batch: %w", err)
	}
	defer record.Release()
	return m.encode(record, b.Identity)
}

// encode masks a record and makes a batch of it with the identity of the one that it comes from.
func (m *Mask) encode(record arrow.RecordBatch, of wire.Identity) (*wire.Batch, error) {
	columns := make([]arrow.Array, record.NumCols())
	for i := range columns {
		columns[i] = m.column(record.ColumnName(i), record.Column(i))
		defer columns[i].Release()
	}
	masked := array.NewRecordBatch(record.Schema(), columns, record.NumRows())
	defer masked.Release()
	b, err := m.encoder.Encode(masked, wire.Identity{Table: of.Table, Node: wire.NodeID(MaskedNode), Epoch: of.Epoch, Sequence: of.Sequence})
	if err != nil {
		return nil, fmt.Errorf("mask batch: %w", err)
	}
	return b, nil
}

// numberedColumns hold names that belong to one machine or one customer: <column>-1, and so on.
var numberedColumns = map[string]bool{
	"serial_number": true, "chassis_serial_number": true, "fabric_cluster_uuid": true, "boot_id": true, "instance_id": true,
	"account_id": true, "image_id": true, "capacity_reservation_id": true, "physical_host": true, "accelerator_domain": true,
	"topology_tier_0": true, "topology_tier_1": true, "topology_tier_2": true, "topology_tier_3": true,
	"cluster": true, "rack": true, "placement_group": true, "fault_domain": true, "notice_id": true,
}

// column is a column without what names the machine. The caller releases it.
func (m *Mask) column(name string, column arrow.Array) arrow.Array {
	switch values := column.(type) {
	case *array.Uint64:
		switch name {
		case schema.ColumnGPU:
			return maskNumbers(values, func(id uint64) uint64 { return wire.GPUID(m.gpu(id)) })
		case "content_hash":
			return maskNumbers(values, m.hash)
		}
	case *array.String:
		if replace := m.replacement(name); replace != nil {
			return maskTexts(values, replace)
		}
	}
	column.Retain()
	return column
}

// replacement is what becomes of the texts of a column; nil if they stay.
func (m *Mask) replacement(column string) func(string) string {
	switch column {
	case "gpu_uuid", "parent_gpu_uuid":
		return func(uuid string) string { return m.gpu(wire.GPUID(uuid)) }
	case "node_name", "kubernetes_node":
		return func(string) string { return MaskedNode }
	case "process_name":
		return func(string) string { return maskedProcess }
	case "kernel_version":
		return maskKernel
	case "message", "evidence":
		return m.text
	}
	if numberedColumns[column] {
		return func(name string) string { return m.name(column, name) }
	}
	return nil
}

// gpu is the stand-in for the UUID of a GPU. Rows of a GPU may come before the one with its UUID, so it goes by gpu_id.
func (m *Mask) gpu(id uint64) string {
	n, known := m.gpus[id]
	if !known {
		n = len(m.gpus) + 1
		m.gpus[id] = n
	}
	return fmt.Sprintf(maskedGPU, n)
}

// hash numbers hashes: equal ones are still equal.
func (m *Mask) hash(of uint64) uint64 {
	n, known := m.hashes[of]
	if !known {
		n = uint64(len(m.hashes) + 1)
		m.hashes[of] = n
	}
	return n
}

func (m *Mask) name(column, name string) string {
	if m.names[column] == nil {
		m.names[column] = make(map[string]string)
	}
	standIn, known := m.names[column][name]
	if !known {
		standIn = fmt.Sprintf("%s-%d", column, len(m.names[column])+1)
		m.names[column][name] = standIn
	}
	return standIn
}

var (
	gpuNames    = regexp.MustCompile(`(GPU|MIG)-[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`)
	anyUUID     = regexp.MustCompile(`\b[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b`)
	processName = regexp.MustCompile(`\bname=[^,"\\]+`) // as the driver writes it into the kernel's log
	kernel      = regexp.MustCompile(`(\d+\.\d+)\.\d+-\S+`)
)

// leastName is the shortest name that is looked for in texts: a shorter one is part of many words.
const leastName = 6

// text masks what is written in words: UUIDs, processes, the node, and names that were seen in columns.
func (m *Mask) text(s string) string {
	s = gpuNames.ReplaceAllStringFunc(s, func(uuid string) string { return m.gpu(wire.GPUID(uuid)) })
	s = processName.ReplaceAllLiteralString(s, "name="+maskedProcess)
	if len(m.node) >= leastName {
		s = strings.ReplaceAll(s, m.node, MaskedNode)
	}
	for _, seen := range m.seen() {
		s = strings.ReplaceAll(s, seen.name, seen.standIn)
	}
	return anyUUID.ReplaceAllStringFunc(s, func(uuid string) string {
		if strings.HasPrefix(uuid, "00000000-0000-0000-0000-") { // of a GPU's stand-in
			return uuid
		}
		return m.name("uuid", uuid)
	})
}

// seenName is a name that was in a column.
type seenName struct{ name, standIn string }

// seen are the names that are looked for in texts, the longest first: one may be the beginning of another.
func (m *Mask) seen() (all []seenName) {
	for _, names := range m.names {
		for name, standIn := range names {
			if len(name) >= leastName {
				all = append(all, seenName{name, standIn})
			}
		}
	}
	slices.SortFunc(all, func(a, b seenName) int {
		return cmp.Or(cmp.Compare(len(b.name), len(a.name)), cmp.Compare(a.name, b.name), cmp.Compare(a.standIn, b.standIn))
	})
	return all
}

// maskKernel keeps the version of a kernel and drops its build, which may be that of one provider.
func maskKernel(s string) string { return kernel.ReplaceAllString(s, "$1") }

func maskNumbers(values *array.Uint64, replace func(uint64) uint64) arrow.Array {
	b := array.NewUint64Builder(memory.DefaultAllocator)
	defer b.Release()
	for i := range values.Len() {
		if values.IsNull(i) {
			b.AppendNull()
			continue
		}
		b.Append(replace(values.Value(i)))
	}
	return b.NewArray()
}

func maskTexts(values *array.String, replace func(string) string) arrow.Array {
	b := array.NewStringBuilder(memory.DefaultAllocator)
	defer b.Release()
	for i := range values.Len() {
		if values.IsNull(i) {
			b.AppendNull()
			continue
		}
		b.Append(replace(values.Value(i)))
	}
	return b.NewArray()
}
