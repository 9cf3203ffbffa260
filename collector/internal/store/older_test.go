// SPDX-License-Identifier: Apache-2.0

package store

import (
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/gpufleet/gpufleet/collector/internal/batchtest"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// TestOlderBatch stores one that lacks a number and a text, with NULL there, in one unit with one of today.
func TestOlderBatch(t *testing.T) {
	db := clickhousetest.Start(t)
	cfg := config(endpoint(db.Writer))
	cfg.UnitRows, cfg.UnitWait = 6, time.Hour
	r := start(t, cfg)
	table, at := batchtest.Table(t, schema.EventsID), today()
	record := batchtest.Record(table, 1, 3, at)
	var names []string
	var fields []arrow.Field
	var had []arrow.Array
	for i, f := range record.Schema().Fields() {
		if f.Name != "xid" && f.Name != "severity" {
			names, fields, had = append(names, f.Name), append(fields, f), append(had, record.Column(i))
		}
	}
	b := &sent{key: key(table.ID, 1), record: record, done: make(chan error, 2)}
	encoded := batchtest.Encode(t, array.NewRecordBatch(arrow.NewSchema(fields, nil), had, 3), b.key)
	z, err := wire.NewDecompressor()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(z.Close)
	decoder, err := wire.NewOlderDecoder(table.WireSchema(), names, z)
	if err != nil {
		t.Fatal(err)
	}
	columns, err := decoder.Columns(encoded.Identity, encoded.Header, encoded.Body)
	if err != nil {
		t.Fatal(err)
	}
	err = r.Submit(t.Context(), Item{Key: b.key, Columns: columns, From: at, To: at.Add(2 * time.Second), Done: func(err error) { b.done <- err }})
	if err != nil {
		t.Fatal(err)
	}
	present := r.submitRecord(key(table.ID, 2), batchtest.Record(table, 2, 3, at), at, at.Add(2*time.Second))
	wantStored(t, db.Reader, b, present)
	const sql = "SELECT seq, countIf(xid IS NULL), countIf(severity IS NULL), countIf(message != '') FROM gpu_events GROUP BY seq ORDER BY seq"
	if got := clickhousetest.Query(t, db.Reader, sql); got != "1\t3\t3\t3\n2\t1\t1\t3" {
		t.Errorf("batch, rows without xid, without severity, with a message:\n%s", got)
	}
}
