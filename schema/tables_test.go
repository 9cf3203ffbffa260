// SPDX-License-Identifier: Apache-2.0

package schema_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/gpufleet/gpufleet/schema"
)

func TestTablesAreFoundByIDAndName(t *testing.T) {
	for i, table := range schema.Tables() {
		if int(table.ID) != i+1 {
			t.Errorf("%s has id %d, want %d: ids are never reused", table.Name, table.ID, i+1)
		}
		byID, found := schema.TableByID(table.ID)
		byName, named := schema.TableByName(table.Name)
		if !found || !named || byID.Name != table.Name || byName.ID != table.ID {
			t.Errorf("%s is not found by its id and name", table.Name)
		}
	}
	if _, ok := schema.TableByID(0); ok {
		t.Error("id 0 is a table")
	}
	if _, ok := schema.TableByName("nothing"); ok {
		t.Error("a table is called nothing")
	}
}

// TestTableAgreesWithItself compares what the wire, the insert and the statements make of one table.
func TestTableAgreesWithItself(t *testing.T) {
	for _, table := range schema.Tables() {
		var wire []schema.Column
		stamped := 0
		for _, c := range table.Columns {
			if c.Stamped {
				stamped++
				continue
			}
			wire = append(wire, c)
		}
		if stamped != 5 {
			t.Errorf("%s has %d stamped columns, want node, epoch, sequence, tenant and residency", table.Name, stamped)
		}
		wantFields(t, table.Name+" on the wire", table.WireSchema(), wire)
		wantFields(t, table.Name+" in an insert", table.InsertSchema(), table.Columns)
		create, insert := table.CreateTable("d"), table.InsertStatement("d")
		for i, c := range table.Columns {
			if !strings.Contains(create, "\n    "+c.Definition()) {
				t.Errorf("CREATE TABLE %s lacks %s", table.Name, c.Name)
			}
			if add := table.AddColumn("d", i); !strings.Contains(add, c.Definition()) {
				t.Errorf("ADD COLUMN does not define %s as CREATE TABLE does: %s", c.Name, add)
			}
			insert = strings.Replace(insert, "`"+c.Name+"`", "", 1)
		}
		if want := fmt.Sprintf("INSERT INTO `d`.`%s` (%s)", table.Name, strings.Repeat(", ", len(table.Columns)-1)); insert != want {
			t.Errorf("INSERT INTO %s names other columns: what is left is %s", table.Name, insert)
		}
		wantSchemaMessage(t, table)
	}
}

func wantFields(t *testing.T, what string, got *arrow.Schema, columns []schema.Column) {
	t.Helper()
	if got.NumFields() != len(columns) {
		t.Errorf("%s has %d columns, want %d", what, got.NumFields(), len(columns))
		return
	}
	for i, c := range columns {
		f := got.Field(i)
		if f.Name != c.Name || f.Nullable != c.Nullable || !arrow.TypeEqual(f.Type, c.Type.ArrowType()) {
			t.Errorf("%s: column %d is %v, want %+v", what, i, f, c)
		}
	}
}

// wantSchemaMessage has Arrow read the message that streams open with.
func wantSchemaMessage(t *testing.T, table schema.Table) {
	t.Helper()
	message := ipc.NewMessage(memory.NewBufferBytes(table.SchemaMessage()), memory.NewBufferBytes(nil))
	reader, err := ipc.NewReaderFromMessageReader(&oneMessage{message})
	if err != nil {
		t.Fatal(err)
	}
	if !reader.Schema().Equal(table.WireSchema()) {
		t.Errorf("schema message of %s reads %v", table.Name, reader.Schema())
	}
	if again, _ := schema.TableByID(table.ID); !bytes.Equal(again.SchemaMessage(), table.SchemaMessage()) {
		t.Errorf("schema message of %s differs from one call to the next", table.Name)
	}
}

// oneMessage is a stream of one message.
type oneMessage struct{ message *ipc.Message }

func (m *oneMessage) Message() (*ipc.Message, error) { return m.message, nil }
func (m *oneMessage) Retain()                        {}
func (m *oneMessage) Release()                       {}

func TestColumnTypesAgree(t *testing.T) {
	// Type by type, what Arrow and ClickHouse call it: a column that is wider here than there loses rows.
	tests := []struct {
		t          schema.Type
		arrow      string
		clickhouse string
	}{
		{schema.Uint8, "uint8", "UInt8"},
		{schema.Uint16, "uint16", "UInt16"},
		{schema.Uint32, "uint32", "UInt32"},
		{schema.Uint64, "uint64", "UInt64"},
		{schema.Int8, "int8", "Int8"},
		{schema.Int16, "int16", "Int16"},
		{schema.Int32, "int32", "Int32"},
		{schema.Int64, "int64", "Int64"},
		{schema.Float64, "float64", "Float64"},
		{schema.TimeMilliseconds, "timestamp[ms, tz=UTC]", "DateTime64(3, 'UTC')"},
		{schema.TimeMicroseconds, "timestamp[us, tz=UTC]", "DateTime64(6, 'UTC')"},
		{schema.Decimal, "decimal(18, 9)", "Decimal(18, 9)"},
		{schema.Name, "utf8", "LowCardinality(String)"},
		{schema.Text, "utf8", "String"},
		{schema.TimeSeconds, "timestamp[s, tz=UTC]", "DateTime('UTC')"},
		{schema.WideDecimal, "decimal(38, 18)", "Decimal(38, 18)"},
		{schema.Sketch, "binary", "AggregateFunction(quantilesDD(0.01, 0.5, 0.95, 0.99), Nullable(Float64))"},
	}
	for i, tt := range tests {
		if schema.Type(i) != tt.t {
			t.Fatalf("type %d has no test", i)
		}
		if tt.t.ArrowType().String() != tt.arrow || tt.t.ClickHouseType() != tt.clickhouse {
			t.Errorf("type %d is %s in Arrow, %s in ClickHouse, want %s, %s", i, tt.t.ArrowType(), tt.t.ClickHouseType(), tt.arrow, tt.clickhouse)
		}
	}
	defer func() {
		if recover() == nil {
			t.Errorf("there are more types than %d, without a test", len(tests))
		}
	}()
	schema.Type(len(tests)).ArrowType()
}

func TestEverythingIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	want := func(text string) {
		t.Helper()
		if !bytes.Contains(page, []byte(text)) {
			t.Errorf("docs/metrics.md does not say %q: run go generate ./schema/...", text)
		}
	}
	for _, table := range schema.StoredTables() {
		want("\n### " + table.Name + "\n\n" + table.Meaning)
		for _, c := range table.Columns {
			want("| `" + c.Name + "` | `" + c.ClickHouseType() + "` | " + c.Unit + " | " + c.Meaning)
		}
	}
	for _, view := range schema.Views() {
		want("\n### " + view.Name + "\n\n" + view.Meaning)
		for _, c := range view.Columns {
			want("| `" + c.Name + "` | `" + c.Type + "` | " + c.Unit + " | " + c.Meaning)
		}
	}
	for _, k := range schema.EventKinds() {
		want("| `" + k.Name + "` | " + k.Source)
	}
	for _, m := range schema.Metrics() {
		want(m.Sources[0].Name)
	}
}
