// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/collector/internal/batchtest"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
)

// bigUnit is one of so many batches of 80 samples, each of a node of its own.
func bigUnit(t testing.TB, batches int) *unit {
	t.Helper()
	u := &unit{table: batchtest.Table(t, schema.SamplesID), token: "a token"}
	record := batchtest.Record(u.table, 1, 80, today())
	for n := range batches {
		k := key(schema.SamplesID, 1)
		k.Node += uint64(n)
		u.add(Item{Key: k, Columns: batchtest.Columns(t, u.table, record), From: today(), To: today(), Tenure: 1})
	}
	return u
}

// TestFencedInsertIsOneBlock: the condition splits no unit, and the token of one that is sent again is known.
func TestFencedInsertIsOneBlock(t *testing.T) {
	db := clickhousetest.Start(t)
	s := start(t, config(endpoint(db.Writer)))
	clickhousetest.Exec(t, db.Writer, "SYSTEM STOP MERGES gpu_samples")
	u := bigUnit(t, 1500) // more rows than ClickHouse reads at once, if it is let
	for _, want := range []int64{u.table.WrittenRows(u.rows), 0} {
		if written, err := s.lanes[schema.SamplesID].insert(t.Context(), u, s.queryID(u.table.Name)); err != nil || want > 0 && written != want {
			t.Fatalf("%d rows were written, want %d: %v", written, want, err)
		}
	}
	parts := clickhousetest.Query(t, db.Writer, "SELECT count(), sum(rows) FROM system.parts WHERE active AND table = 'gpu_samples' AND database = currentDatabase()")
	if want := fmt.Sprintf("1\t%d", u.rows); parts != want {
		t.Errorf("parts and rows of two inserts under one token: %s, want %s", parts, want)
	}
}

// BenchmarkFence inserts units of 80,000 samples with the condition that no claim is over, and without one, while so many
// claims are over: those of this process, which each insert has to look at, and those of others.
func BenchmarkFence(b *testing.B) {
	db := clickhousetest.Start(b)
	cfg := config(endpoint(db.Writer))
	s, err := Open(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	clickhousetest.Exec(b, db.Writer, "SYSTEM STOP MERGES")
	l, u := s.lanes[schema.SamplesID], bigUnit(b, 1000)
	fenced := func(ctx context.Context) error {
		_, err := l.insert(ctx, u, s.queryID(l.table.Name))
		return err
	}
	plain := func(ctx context.Context) error {
		body := newBody(l.format, u)
		defer body.end()
		_, err := s.db.insert(ctx, u.table.InsertStatement(s.db.name), l.format.name(), s.queryID(l.table.Name), u.token, body)
		return err
	}
	timed := func(b *testing.B, insert func(context.Context) error) time.Duration {
		u.token = s.queryID("token")
		began := time.Now()
		if err := insert(b.Context()); err != nil {
			b.Fatal(err)
		}
		return time.Since(began)
	}
	measure := func(name string) {
		b.Run(name, func(b *testing.B) {
			var with, without time.Duration // in turns: what else runs on the machine slows both
			for b.Loop() {
				with += timed(b, fenced)
				without += timed(b, plain)
			}
			rows := float64(int64(b.N) * u.rows)
			b.ReportMetric(float64(with.Nanoseconds())/rows, "ns/row")
			b.ReportMetric(float64(without.Nanoseconds())/rows, "without-ns/row")
			b.ReportMetric(0, "ns/op")
		})
	}
	measure("no claim")
	const claims = `INSERT INTO collector_claims (claimed_at, over_instance, over_tenure, table_name, node_id, epoch, instance, tenure, collector)
SELECT now64(3), %s, 1, 'gpu_samples', number, 7, 9, 1, 'other' FROM numbers(%d)`
	clickhousetest.Exec(b, db.Writer, fmt.Sprintf(claims, "rand64()", 5_000_000))
	measure("5,000,000 claims of others")
	clickhousetest.Exec(b, db.Writer, fmt.Sprintf(claims, strconv.FormatUint(s.instance, 10), 12_500))
	measure("and 12,500 own that are over")
}
