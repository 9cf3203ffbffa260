// SPDX-License-Identifier: Apache-2.0

package schema_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/internal/synthetic"
)

// strict are the settings under which ClickHouse refuses what it would mend by default: a NULL that
// becomes 0, a column that it does not know, one that is missing.
var strict = clickhouse.Settings{
	"async_insert": 0, "input_format_null_as_default": 0, "input_format_skip_unknown_fields": 0, "input_format_arrow_allow_missing_columns": 0,
}

// insert puts a record into a table, as the collector does.
func (f fleet) insert(t testing.TB, table schema.Table, record arrow.RecordBatch) error {
	t.Helper()
	var stream bytes.Buffer
	w := ipc.NewWriter(&stream, ipc.WithSchema(record.Schema()))
	if err := w.Write(record); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(strict))
	return f.connection.InsertFormat(ctx, "ArrowStream", table.InsertStatement(f.Name), io.Reader(&stream))
}

// selectRecord reads all rows of a table in the order of seq, as Arrow.
func (f fleet) selectRecord(t *testing.T, table schema.Table) arrow.RecordBatch {
	t.Helper()
	names := make([]string, len(table.Columns))
	for i, c := range table.Columns {
		names[i] = c.Name
	}
	answer, err := f.Writer.Ask(t.Context(), fmt.Sprintf("SELECT %s FROM %s ORDER BY seq FORMAT ArrowStream SETTINGS output_format_arrow_string_as_string = 1, output_format_arrow_low_cardinality_as_dictionary = 0, output_format_arrow_compression_method = 'none'",
		strings.Join(names, ", "), table.Name))
	if err != nil {
		t.Fatal(err)
	}
	reader, err := ipc.NewReader(strings.NewReader(answer))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Release()
	if !reader.Next() {
		t.Fatalf("table %s is empty: %v", table.Name, reader.Err())
	}
	record := reader.RecordBatch()
	record.Retain()
	if reader.Next() {
		t.Fatalf("table %s comes in more than one batch", table.Name)
	}
	return record
}

// TestRowsComeBackFromClickHouse inserts the ends of every type, NULLs and random rows into each table.
func TestRowsComeBackFromClickHouse(t *testing.T) {
	f := newFleet(t)
	for _, table := range append(schema.Tables(), schema.LedgerTable()) {
		want := synthetic.Random(table.Columns, 100, uint64(table.ID), time.Now().UnixMilli())
		if err := f.insert(t, table, want); err != nil {
			t.Errorf("%s: %v", table.Name, err)
			continue
		}
		got := f.selectRecord(t, table)
		if got.NumCols() != want.NumCols() || got.NumRows() != want.NumRows() {
			t.Errorf("%s: %d columns, %d rows, want %d, %d", table.Name, got.NumCols(), got.NumRows(), want.NumCols(), want.NumRows())
			continue
		}
		for i, column := range want.Columns() {
			if !array.Equal(got.Column(i), column) {
				t.Errorf("%s.%s\ngot  %v\nwant %v", table.Name, want.ColumnName(i), got.Column(i), column)
			}
		}
		got.Release()
		want.Release()
	}
}

// TestClickHouseRefusesOtherSchemas holds the settings against what must not be stored. A column that
// the table lacks is not among it: ClickHouse 26.7 drops it from Arrow without a word, whatever
// input_format_skip_unknown_fields says. It is the schema of the stream that keeps it out.
func TestClickHouseRefusesOtherSchemas(t *testing.T) {
	f := newFleet(t)
	table, ok := schema.TableByID(schema.EventsID)
	if !ok {
		t.Fatal("no table of events")
	}
	columns := func(change func(columns []schema.Column) []schema.Column) schema.Table {
		changed := schema.Table{Name: table.Name, Columns: append([]schema.Column(nil), table.Columns...)}
		changed.Columns = change(changed.Columns)
		return changed
	}
	tests := []struct {
		name  string
		table schema.Table
	}{
		{"NULL where none may be", columns(func(c []schema.Column) []schema.Column {
			c[slices.IndexFunc(c, func(c schema.Column) bool { return c.Name == "message" })].Nullable = true
			return c
		})},
		{"a column that is missing", columns(func(c []schema.Column) []schema.Column { return c[:len(c)-1] })},
	}
	for _, tt := range tests {
		record := synthetic.Random(tt.table.Columns, 5, 1, time.Now().UnixMilli())
		if err := f.insert(t, table, record); err == nil {
			t.Errorf("%s is accepted", tt.name)
		}
		record.Release()
	}
	f.want(t, "SELECT count() FROM gpu_events", "0")
}

func TestFeedsFillTheCurrentTables(t *testing.T) {
	f := newFleet(t)
	for _, feed := range schema.Feeds() {
		if !feed.Copies() {
			continue
		}
		record := synthetic.Random(feed.From.Columns, 20, 3, time.Now().UnixMilli())
		if err := f.insert(t, feed.From, record); err != nil {
			t.Fatal(err)
		}
		record.Release()
		f.want(t, fmt.Sprintf("SELECT count() FROM (SELECT * FROM %s EXCEPT SELECT * FROM %s)", feed.From.Name, feed.To.Name), "0")
		f.want(t, "SELECT count() FROM "+feed.To.Name, "20")
	}
}

// TestWrittenRows pins what ClickHouse reports of an insert: the collector compares it.
func TestWrittenRows(t *testing.T) {
	f := newFleet(t)
	for _, table := range schema.Tables() {
		sql := fmt.Sprintf("INSERT INTO %s (%s) VALUES (now64(3)), (now64(3)), (now64(3))", table.Name, schema.ColumnTime)
		if got, want := f.writtenRows(t, sql), table.WrittenRows(3); got != want {
			t.Errorf("%s: ClickHouse reports %d rows for 3, want %d", table.Name, got, want)
		}
	}
}

// writtenRows runs an insert and returns what ClickHouse says it wrote.
func (f fleet) writtenRows(t *testing.T, sql string) int64 {
	t.Helper()
	address := fmt.Sprintf("http://%s/?wait_end_of_query=1&database=%s", f.Writer.HTTPAddress(), f.Name)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(sql))
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth(f.Writer.User, f.Writer.Password)
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var summary struct {
		WrittenRows int64 `json:"written_rows,string"`
	}
	if err := json.Unmarshal([]byte(response.Header.Get("X-ClickHouse-Summary")), &summary); err != nil {
		t.Fatalf("%s: summary: %v", response.Status, err)
	}
	return summary.WrittenRows
}
