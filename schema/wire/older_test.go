// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// without makes the record that an earlier version would have made, which had every third of the columns that may be NULL
// not yet, and the same record with NULL in their place.
func without(record arrow.RecordBatch) (names []string, older, filled arrow.RecordBatch) {
	var fields []arrow.Field
	var had, all []arrow.Array
	nullable := 0
	for i, f := range record.Schema().Fields() {
		if f.Nullable {
			nullable++
			if nullable%3 == 1 {
				all = append(all, array.MakeArrayOfNull(memory.DefaultAllocator, f.Type, int(record.NumRows())))
				continue
			}
		}
		names, fields = append(names, f.Name), append(fields, f)
		had, all = append(had, record.Column(i)), append(all, record.Column(i))
	}
	return names, array.NewRecordBatch(arrow.NewSchema(fields, nil), had, record.NumRows()), array.NewRecordBatch(record.Schema(), all, record.NumRows())
}

// TestOlderBatches come with NULL in what the table has gained since.
func TestOlderBatches(t *testing.T) {
	z, err := wire.NewDecompressor()
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for _, table := range schema.Tables() {
		l := newLink(t, table.ID)
		for _, rows := range []int{1000, 1, 9} {
			names, older, filled := without(l.random(t, rows))
			b := l.encode(t, wire.Zstd, older)
			decoder, err := wire.NewOlderDecoder(table.WireSchema(), names, z)
			if err != nil {
				t.Fatal(err)
			}
			got, err := decoder.Decode(b.Identity, b.Header, b.Body)
			if err != nil {
				t.Fatalf("%s: %v", table.Name, err)
			}
			wantRecord(t, got, filled)
			b = l.encode(t, wire.Zstd, filled)
			_, err = decoder.Decode(b.Identity, b.Header, b.Body)
			wantRefused(t, err, fmt.Sprintf("%s: a batch of today, taken for an older one", table.Name))
		}
	}
}

func TestOlderColumns(t *testing.T) {
	table := newLink(t, schema.EventsID).table
	var names []string
	for _, c := range table.WireColumns() {
		names = append(names, c.Name)
	}
	turned := slices.Clone(names)
	slices.Reverse(turned)
	for what, names := range map[string][]string{
		"none":                         nil,
		"one that is not known":        append(slices.Clone(names), "dreams"),
		"another order":                turned,
		"without what may not be NULL": names[1:],
	} {
		if _, err := wire.NewOlderDecoder(table.WireSchema(), names, nil); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	if _, err := wire.NewOlderDecoder(table.WireSchema(), names, nil); err != nil {
		t.Errorf("all: %v", err)
	}
}
