// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"go.uber.org/goleak"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestMain(m *testing.M) {
	if err := prime(); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// prime uses what all encoders of a process share: its channels must not belong to the bubble of the test
// that encodes first.
func prime() error {
	table, _ := schema.TableByID(schema.EventsID)
	var columns []arrow.Array
	for _, f := range table.WireSchema().Fields() {
		columns = append(columns, array.MakeArrayOfNull(memory.DefaultAllocator, f.Type, 1))
	}
	encoder, err := wire.NewEncoder()
	if err != nil {
		return err
	}
	_, err = encoder.Encode(array.NewRecordBatch(table.WireSchema(), columns, 1), wire.Identity{Table: table.ID, Sequence: 1})
	return err
}
