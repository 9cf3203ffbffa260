// SPDX-License-Identifier: Apache-2.0

package synthetic_test

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/internal/synthetic"
)

const startMilliseconds = 1_790_000_000_000

func TestEqualSeedsMakeEqualRecords(t *testing.T) {
	for _, table := range schema.Tables()[:2] {
		a := synthetic.NewFleet(1, 16, startMilliseconds).Record(table.Columns, 5, 1)
		b := synthetic.NewFleet(1, 16, startMilliseconds).Record(table.Columns, 5, 1)
		if !array.RecordEqual(a, b) || a.NumRows() != 80 {
			t.Errorf("%s: two fleets of one seed differ, or have %d rows", table.Name, a.NumRows())
		}
	}
	columns := schema.Tables()[0].Columns
	if !array.RecordEqual(synthetic.Random(columns, 9, 3, 5), synthetic.Random(columns, 9, 3, 5)) {
		t.Error("random records of one seed differ")
	}
}

// TestRandomReachesTheEnds is what the tests of the wire and of ClickHouse rely on.
func TestRandomReachesTheEnds(t *testing.T) {
	for _, table := range schema.Tables() {
		record := synthetic.Random(table.Columns, 50, 1, startMilliseconds)
		for i, c := range table.Columns {
			column := record.Column(i)
			if c.Nullable != column.IsNull(2) || !c.Nullable && column.NullN() > 0 {
				t.Errorf("%s.%s: %d NULLs, the third row is NULL: %v", table.Name, c.Name, column.NullN(), column.IsNull(2))
			}
			if c.Type == schema.Uint16 && (column.ValueStr(0) != "0" || column.ValueStr(1) != "65535") {
				t.Errorf("%s.%s begins with %s, %s", table.Name, c.Name, column.ValueStr(0), column.ValueStr(1))
			}
			if c.Type == schema.Int16 && (column.ValueStr(0) != "-32768" || column.ValueStr(1) != "32767") {
				t.Errorf("%s.%s begins with %s, %s", table.Name, c.Name, column.ValueStr(0), column.ValueStr(1))
			}
		}
	}
}
