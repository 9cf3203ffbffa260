// SPDX-License-Identifier: Apache-2.0

package recording

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

const (
	realNode = "gpu-host-17.example.net"
	realUUID = "GPU-0a1b2c3d-1111-2222-3333-444455556666"
	realMIG  = "MIG-7a1b2c3d-1111-2222-3333-444455556666"
)

// secrets are what no masked recording may hold.
var secrets = []string{
	realNode, "gpu-host-17", realUUID, realMIG, "0a1b2c3d", "7a1b2c3d", "1650000000001", "i-0123456789abcdef0", "9f8e7d6c-0000-4000-8000-0123456789ab",
	"-45-provider", "secret-trainer", "fabric-of-mine",
}

// telling makes batches of a node that say who it is wherever they can; readings come before the row with the UUID.
func telling(t *testing.T) batches {
	t.Helper()
	var made batches
	b, err := batch.New(batch.Config{Node: wire.NodeID(realNode), Epoch: startMilliseconds, Flush: time.Hour, MaxRows: 100}, &made)
	if err != nil {
		t.Fatal(err)
	}
	add := func(table uint8, row map[string]batch.Cell) {
		t.Helper()
		described, _ := schema.TableByID(table)
		var cells []batch.Cell
		for i, c := range described.WireColumns() {
			cell, set := row[c.Name]
			if i == 0 {
				cell = batch.Number(startMilliseconds)
				if c.Type == schema.TimeMicroseconds {
					cell.Int *= 1000
				}
			} else if !set && !c.Nullable {
				cell.OK = true
			}
			cells = append(cells, cell)
		}
		if err := b.Append(table, cells); err != nil {
			t.Fatal(err)
		}
	}
	gpu, part := batch.ID(wire.GPUID(realUUID)), batch.ID(wire.GPUID(realMIG))
	add(schema.SamplesID, map[string]batch.Cell{"gpu_id": part, "power_instant_watts": batch.Number(77)})
	add(schema.SamplesID, map[string]batch.Cell{"gpu_id": gpu, "power_instant_watts": batch.Number(700)})
	add(schema.SubsecondID, map[string]batch.Cell{"gpu_id": gpu, "signal": batch.Text("power_milliwatts"), "value": batch.Number(5)})
	for range 2 {
		add(schema.GPUInventoryID, map[string]batch.Cell{
			"gpu_id": gpu, "gpu_uuid": batch.Text(realUUID), "serial_number": batch.Text("1650000000001"), "model": batch.Text("NVIDIA H200"),
			"pci_bus_id": batch.Text("0000:00:06.0"), "content_hash": batch.ID(7777777), "fabric_cluster_uuid": batch.Text("fabric-of-mine"),
		})
	}
	add(schema.GPUInventoryID, map[string]batch.Cell{"gpu_id": part, "gpu_uuid": batch.Text(realMIG), "parent_gpu_uuid": batch.Text(realUUID), "content_hash": batch.ID(8)})
	add(schema.NodeInventoryID, map[string]batch.Cell{
		"node_name": batch.Text(realNode), "boot_id": batch.Text("9f8e7d6c-0000-4000-8000-0123456789ab"), "instance_id": batch.Text("i-0123456789abcdef0"),
		"kernel_version": batch.Text("6.8.0-45-provider"), "driver_version": batch.Text("580.159.04"),
	})
	add(schema.EventsID, map[string]batch.Cell{
		"gpu_id": gpu, "kind": batch.Text("xid"), "process_name": batch.Text("secret-trainer"),
		"message":  batch.Text("NVRM: Xid (PCI:0000:00:06): 31, pid=625, name=secret-trainer, channel 0x0000000a"),
		"evidence": batch.Text(`[{"source":"kernel","text":"` + realUUID + ` of ` + realNode + `, name=secret-trainer"},{"source":"x","text":"serial 1650000000001, boot 9f8e7d6c-0000-4000-8000-0123456789ab"}]`),
	})
	// In this order, so that ids come before what they belong to, and names before texts.
	for _, table := range []uint8{schema.SamplesID, schema.SubsecondID, schema.NodeInventoryID, schema.GPUInventoryID, schema.EventsID} {
		if err := b.FlushTable(table); err != nil {
			t.Fatal(err)
		}
	}
	return made
}

// masked is the recording of the batches as a masking recorder writes it.
func masked(t *testing.T, made batches, about Provenance) []byte {
	t.Helper()
	m, err := NewMask(about.Node)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var file bytes.Buffer
	w, err := NewWriter(&file, m.Provenance(about))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range made {
		hidden, err := m.Batch(b)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(hidden); err != nil {
			t.Fatal(err)
		}
	}
	return file.Bytes()
}

// unmasked is the recording of the batches as they are.
func unmasked(t *testing.T, made batches, about Provenance) []byte {
	t.Helper()
	var file bytes.Buffer
	w, err := NewWriter(&file, about)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range made {
		if err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	return file.Bytes()
}

// contents are all rows as text, and those of one column.
func contents(t *testing.T, file []byte) (text string, column func(table uint8, name string) []string) {
	t.Helper()
	r, err := Load(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	all.WriteString(r.Provenance.String() + r.Provenance.Machine)
	for _, table := range schema.Tables() {
		for _, record := range r.Records(table.ID) {
			json, err := record.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			all.Write(json)
		}
	}
	return all.String(), func(table uint8, name string) (values []string) {
		for _, record := range r.Records(table) {
			for _, i := range record.Schema().FieldIndices(name) {
				for row := range int(record.NumRows()) {
					values = append(values, record.Column(i).ValueStr(row))
				}
			}
		}
		return values
	}
}

func TestMask(t *testing.T) {
	about := testProvenance
	about.Node, about.Machine = realNode, "aws, p5en.48xlarge, Ubuntu 24.04.3 LTS, 6.8.0-45-provider"
	open := unmasked(t, telling(t), about)
	for _, s := range secrets {
		if text, _ := contents(t, open); !strings.Contains(text, s) {
			t.Fatalf("the recording never had %q", s)
		}
	}
	var copied bytes.Buffer
	if _, err := CopyMasked(&copied, bytes.NewReader(open), func(p Provenance) Provenance { return p }); err != nil {
		t.Fatal(err)
	}
	for how, file := range map[string][]byte{"recorded": masked(t, telling(t), about), "copied": copied.Bytes()} {
		text, column := contents(t, file)
		for _, s := range secrets {
			if strings.Contains(text, s) {
				t.Errorf("%s: it holds %q", how, s)
			}
		}
		for _, s := range []string{"NVIDIA H200", "0000:00:06.0", "580.159.04", `"kernel_version":"6.8"`, "Ubuntu 24.04.3 LTS, 6.8", "pid=625, name=process, channel", "serial serial_number-1, boot boot_id-1"} {
			if !strings.Contains(text, s) {
				t.Errorf("%s: it lacks %q", how, s)
			}
		}
		uuids, ids, samples := column(schema.GPUInventoryID, "gpu_uuid"), column(schema.GPUInventoryID, "gpu_id"), column(schema.SamplesID, "gpu_id")
		if ids[0] != samples[1] || ids[2] != samples[0] || ids[0] == ids[2] || ids[0] != column(schema.EventsID, "gpu_id")[0] || ids[0] != column(schema.SubsecondID, "gpu_id")[0] {
			t.Errorf("%s: GPUs %v of readings %v", how, ids, samples)
		}
		for i := range uuids {
			if ids[i] != strconv.FormatUint(wire.GPUID(uuids[i]), 10) {
				t.Errorf("%s: gpu_id %s is not that of %s", how, ids[i], uuids[i])
			}
		}
		if got := column(schema.GPUInventoryID, "parent_gpu_uuid")[2]; got != uuids[0] {
			t.Errorf("%s: the parent is %s, not %s", how, got, uuids[0])
		}
		hashes := column(schema.GPUInventoryID, "content_hash")
		if hashes[0] != hashes[1] || hashes[0] == hashes[2] || hashes[0] == "7777777" {
			t.Errorf("%s: hashes %v", how, hashes)
		}
		if power := column(schema.SamplesID, "power_instant_watts"); power[0] != "77" || power[1] != "700" {
			t.Errorf("%s: readings changed: %v", how, power)
		}
	}
}

// TestMaskKeepsTheRest: of batches that are full of numbers only gpu_id and content_hash change, and NULL stays NULL.
func TestMaskKeepsTheRest(t *testing.T) {
	before, after := record(t, makeBatches(t, testProvenance.Node)), masked(t, makeBatches(t, testProvenance.Node), testProvenance)
	_, was := contents(t, before)
	_, is := contents(t, after)
	for _, table := range schema.Tables() {
		for _, c := range table.WireColumns() {
			from, to := was(table.ID, c.Name), is(table.ID, c.Name)
			for i := range from {
				null := from[i] == array.NullValueStr
				changes := c.Name == schema.ColumnGPU || c.Name == "content_hash" || c.Type == schema.Text || c.Type == schema.Name
				if (to[i] == array.NullValueStr) != null || from[i] != to[i] && !changes {
					t.Fatalf("%s.%s: %q became %q", table.Name, c.Name, from[i], to[i])
				}
			}
		}
	}
}

// TestEveryTellingColumnIsMasked: a column that is added with such a name is thought of.
func TestEveryTellingColumnIsMasked(t *testing.T) {
	m, err := NewMask("node")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	telling := regexp.MustCompile(`uuid|serial|host|account|instance_id$|image_id|reservation_id|boot_id|cluster|rack|topology|process_name|kubernetes|node_name`)
	for _, table := range schema.Tables() {
		if table.ID == schema.WorkloadID || table.ID == schema.TokensID {
			continue // they are not recorded
		}
		for _, c := range table.WireColumns() {
			if (c.Type == schema.Text || c.Type == schema.Name) && telling.MatchString(c.Name) && m.replacement(c.Name) == nil {
				t.Errorf("%s.%s is not masked", table.Name, c.Name)
			}
		}
	}
}

// TestNamesThatBeginAlike: the longer one is not taken for the shorter one and a rest.
func TestNamesThatBeginAlike(t *testing.T) {
	m, err := NewMask("node-1")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, name := range []string{"i-0abc12", "i-0abc12345"} {
		m.name("instance_id", name)
	}
	if got := m.text("i-0abc12345 replaces i-0abc12"); got != "instance_id-2 replaces instance_id-1" {
		t.Errorf("%q", got)
	}
}
