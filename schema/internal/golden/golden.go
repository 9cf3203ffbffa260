// SPDX-License-Identifier: Apache-2.0

// Package golden makes every file of this repository that is derived from the schema: documentation,
// SQL for review, and the bytes of the wire. The files are committed; this package's test compares
// them, and go generate ./schema/... writes them.
package golden

import (
	"fmt"
	"maps"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/gpufleet/gpufleet/schema"
)

// startMilliseconds is a fixed time: 2026-09-21, 14:13:20 UTC.
const startMilliseconds = 1_790_000_000_000

// Files are the derived files: path from the repository's root, to content.
func Files() (map[string][]byte, error) {
	files, err := wireFiles()
	if err != nil {
		return nil, err
	}
	maps.Copy(files, sqlFiles())
	forReaders, err := readersFiles()
	if err != nil {
		return nil, err
	}
	maps.Copy(files, forReaders)
	files["docs/metrics.md"] = metricsPage()
	files["docs/xid.md"] = xidPage()
	return files, nil
}

// Events makes three events: the record in the wire's golden files.
func Events() arrow.RecordBatch {
	table, ok := schema.TableByID(schema.EventsID)
	if !ok {
		panic("golden: no table of events")
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, table.WireSchema())
	defer b.Release()
	rows := [][]any{
		{startMilliseconds, nil, "agent_started", "agent", nil, nil, nil, nil, ""},
		{startMilliseconds + 1, ^uint64(0), "xid", "kernel,nvml", uint32(79), ^uint32(0), nil, nil, "GPU has fallen off the bus: ünïcödé", ^uint64(0), "critical", "pcie", "reboot_node"},
		{startMilliseconds + 2, uint64(7), "gpu_lost", "agent", nil, nil, uint32(0), uint64(3), "gone"},
	}
	for _, row := range rows {
		for i := range b.Fields() {
			if i >= len(row) {
				b.Field(i).AppendNull()
				continue
			}
			appendValue(b.Field(i), row[i])
		}
	}
	return b.NewRecordBatch()
}

func appendValue(b array.Builder, v any) {
	switch v := v.(type) {
	case nil:
		b.AppendNull()
	case string:
		b.(*array.StringBuilder).Append(v)
	case int:
		b.(*array.TimestampBuilder).Append(arrow.Timestamp(v))
	case uint32:
		b.(*array.Uint32Builder).Append(v)
	case uint64:
		b.(*array.Uint64Builder).Append(v)
	default:
		panic(fmt.Sprintf("golden: value of type %T", v))
	}
}
