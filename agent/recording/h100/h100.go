// SPDX-License-Identifier: Apache-2.0

// Package h100 holds the readings of a real H100, carried over figure by figure from a published
// capture of nvidia-smi, as a recording. It stands in for a recording of our own where nobody has a
// GPU: the rows are those that the agent would have written had it read these figures.
//
// The capture is of one NVIDIA H100 80GB HBM3 in a virtual machine, once idle and once under load:
// each time a snapshot of everything, and five seconds of `nvidia-smi dmon`. Of the figures that the
// agent reads it has about a third; the others are NULL. Nothing is repeated, interpolated or made up.
// What was decided in carrying over is written at the tables in facts.go and in
// agent/testdata/recordings/README.md.
package h100

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/agent/internal/sampler"
	"github.com/gpufleet/gpufleet/agent/recording"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Name is how an operator asks for this recording.
const Name = "h100"

// FileName is the recording under agent/testdata/recordings: the same bytes.
const FileName = "h100-80gb-hbm3-590.48.01.gfr"

//go:generate go run ./internal/generate ../../testdata/recordings

// Provenance says where the readings come from.
func Provenance() recording.Provenance {
	return recording.Provenance{
		Node:       "h100-80gb-hbm3",
		Machine:    "virtual machine with one H100 passed through, Ubuntu 22.04.5 LTS, Linux 5.15.0-185-generic, x86_64",
		GPUs:       []string{"NVIDIA H100 80GB HBM3"},
		Driver:     "590.48.01",
		RecordedAt: at(idleAt),
		Program:    "nvidia-smi",
		Version:    "590.48.01",
		Source:     "https://github.com/utkuozdemir/nvidia_gpu_exporter internal/captures/linux-x86_64__nvidia-h100-80gb-hbm3__590.48.01.txt",
		Licence:    "MIT",
		Notes: []string{
			"load: gpu-burn (CUDA, 20% mem) + 2x CUDA memhog",
			"The figures were carried over by hand and compared with the capture by a test; what the capture does not say is NULL.",
			"The capture masks serial number and UUID with zeros and names no host; the name of the node was made up.",
			"The snapshots have the times that the capture gives them. It gives none for dmon: its rows are laid a second apart, from one second after their snapshot on.",
		},
	}
}

// Recording is the recording, ready to be played.
func Recording() (*recording.Recording, error) {
	file, err := File()
	if err != nil {
		return nil, err
	}
	return recording.Load(bytes.NewReader(file))
}

// Open loads what an operator asks for: this recording by its Name, any other by its path.
func Open(nameOrPath string) (*recording.Recording, error) {
	if nameOrPath == Name {
		return Recording()
	}
	return recording.Open(nameOrPath)
}

// File is the recording as the bytes of a file.
func File() ([]byte, error) {
	var file bytes.Buffer
	w, err := recording.NewWriter(&file, Provenance())
	if err != nil {
		return nil, err
	}
	q := queue{writer: w}
	b, err := batch.New(batch.Config{
		Node: wire.NodeID(Provenance().Node), Epoch: uint64(at(idleAt).UnixMilli()), Flush: time.Hour, MaxRows: 100,
	}, &q)
	if err != nil {
		return nil, err
	}
	for _, write := range []func(*batch.Builder) error{writeInventory, writeSamples, writeHealth} {
		if err := write(b); err != nil {
			return nil, fmt.Errorf("make recording %s: %w", Name, err)
		}
	}
	for _, t := range schema.Tables() { // in order, so that the bytes are always the same
		if err := b.FlushTable(t.ID); err != nil {
			return nil, err
		}
	}
	return file.Bytes(), q.err
}

// queue writes what a builder makes.
type queue struct {
	writer *recording.Writer
	err    error
}

// Push implements batch.Queue.
func (q *queue) Push(b *wire.Batch) {
	if q.err == nil {
		q.err = q.writer.Write(b)
	}
}

// at reads a time as the capture writes it. The capture says in its head that the clock is UTC.
func at(text string) time.Time {
	t, err := time.Parse("2006/01/02 15:04:05.000", text)
	if err != nil {
		return time.Time{} // a head without a time is refused
	}
	return t
}

// row is a row by the names of its columns; a column that is not there is NULL.
type row map[string]batch.Cell

// write appends the row. A name that the table does not have, and a column without which the row means
// nothing, are errors.
func (r row) write(b *batch.Builder, table uint8) error {
	t, _ := schema.TableByID(table)
	columns := t.WireColumns()
	cells := make([]batch.Cell, len(columns))
	for name, cell := range r {
		i := slices.IndexFunc(columns, func(c schema.Column) bool { return c.Name == name })
		if i < 0 {
			return fmt.Errorf("table %s has no column %s", t.Name, name)
		}
		cells[i] = cell
	}
	if i := slices.IndexFunc(columns, func(c schema.Column) bool { return c.Name == "content_hash" }); i >= 0 {
		cells[i] = sampler.ContentHash(cells[i+1:])
	}
	for i, c := range columns {
		if !c.Nullable && !cells[i].OK {
			return fmt.Errorf("row of %s has no %s", t.Name, c.Name)
		}
	}
	return b.Append(table, cells)
}

// newRow is a row of the GPU at a time.
func newRow(when time.Time) row {
	return row{schema.ColumnTime: integer(when.UnixMilli()), schema.ColumnGPU: integer(int64(wire.GPUID(uuid)))}
}

// counted sets what a row of counters says of itself: the time since the row before, if there is one,
// and that nothing was reset.
func (r row) counted(when, before time.Time) {
	r[schema.ColumnCounterEpoch] = integer(1)
	if !before.IsZero() {
		r[schema.ColumnInterval] = integer(when.Sub(before).Milliseconds())
	}
}

func integer(v int64) batch.Cell { return batch.Cell{Int: v, OK: true} }

func writeInventory(b *batch.Builder) error {
	node := row{schema.ColumnTime: integer(at(idleAt).UnixMilli())}
	gpu := newRow(at(idleAt))
	for _, f := range nodeFacts {
		if err := f.set(node, f.column, f.idle); err != nil {
			return err
		}
	}
	node["node_name"] = batch.Cell{Text: Provenance().Node, OK: true}
	node["reading_source"] = batch.Cell{Text: "recording", OK: true}
	if err := node.write(b, schema.NodeInventoryID); err != nil {
		return err
	}
	for _, f := range gpuFacts {
		if err := f.set(gpu, f.column, f.idle); err != nil {
			return err
		}
	}
	return gpu.write(b, schema.GPUInventoryID)
}

// writeSamples writes the snapshots and the seconds of dmon behind each.
func writeSamples(b *batch.Builder) error {
	var before time.Time
	for _, part := range []struct {
		at    string
		load  bool
		after []second
	}{{idleAt, false, idleSeconds}, {loadAt, true, loadSeconds}} {
		when := at(part.at)
		rows := []row{newRow(when)}
		for _, f := range metricFacts {
			if err := f.sample(rows[0], part.load); err != nil {
				return err
			}
		}
		for _, s := range part.after {
			when := when.Add(time.Duration(len(rows)) * time.Second)
			rows = append(rows, s.row(newRow(when)))
		}
		for i, r := range rows {
			when := when.Add(time.Duration(i) * time.Second)
			r.counted(when, before)
			r[schema.ColumnQuality] = integer(0) // no ring was read
			if err := r.write(b, schema.SamplesID); err != nil {
				return err
			}
			before = when
		}
	}
	return nil
}

// writeHealth writes one row for each snapshot.
func writeHealth(b *batch.Builder) error {
	var before time.Time
	for i, text := range []string{idleAt, loadAt} {
		when, load := at(text), i == 1
		r := newRow(when)
		for _, f := range metricFacts {
			if err := f.health(r, load); err != nil {
				return err
			}
		}
		if !load { // nvidia-smi nvlink was asked once, before
			for _, f := range linkFacts {
				if err := f.set(r, f.column, f.idle); err != nil {
					return err
				}
			}
		}
		r.counted(when, before)
		if err := r.write(b, schema.HealthID); err != nil {
			return err
		}
		before = when
	}
	return nil
}
