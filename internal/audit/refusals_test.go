// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
)

// TestRefusalsAreCountedByReason: a thousand bad batches are a line for each reason, with their rows; one that was
// replayed, and one from before the time, are in none.
func TestRefusalsAreCountedByReason(t *testing.T) {
	f := newFleet(t)
	l := f.life("gpu_samples", "anna", 2*hour)
	refuse := func(ago, reason string, from, batches, rows int) {
		f.exec(`INSERT INTO ingest_ledger (recorded_at, table_name, node_id, epoch, seq, rows, state, reason)
SELECT now64(3) - INTERVAL %s, 'gpu_samples', %d, %d, number, %d, 'quarantined', replaceAll('%s', 'SEQ', toString(number)) FROM numbers(%d, %d)`,
			ago, l.node, l.epoch, rows, reason, from, batches)
	}
	refuse("10 MINUTE", "batch SEQ: row 3 lies 1,790 s in the future", 1, 1000, 80)
	refuse("9 MINUTE", "batch SEQ: row 3 lies 1,790 s in the future", 1, 1000, 80) // said twice, kept once
	refuse("10 MINUTE", "27 columns, want 29", 1001, 2, 5)
	refuse("3 DAY", "too old to be looked at", 1003, 4, 7)
	refuse("10 MINUTE", "replayed since", 1007, 1, 9)
	f.exec("INSERT INTO ingest_ledger (recorded_at, table_name, node_id, epoch, seq, rows, state) VALUES (now64(3) - INTERVAL 1 MINUTE, 'gpu_samples', %d, %d, 1007, 9, '%s')", l.node, l.epoch, schema.LedgerStored)
	for n := range maxRefusals + 5 {
		refuse("10 MINUTE", "reason "+strings.Repeat("x", n+1), 1008+n, 1, 1)
	}
	got, err := Run(context.Background(), clickhousetest.Open(t, f.db.Reader), Options{Settle: 0})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Refusals) != maxRefusals+1 {
		t.Fatalf("%d refusals: %+v", len(got.Refusals), got.Refusals)
	}
	want := []Refusal{
		{"gpu_samples", "batch N: row N lies N,N s in the future", 1000, 80_000},
		{"gpu_samples", "N columns, want N", 2, 10},
	}
	if diff := cmp.Diff(want, got.Refusals[:2]); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(Refusal{"", "other reasons", 7, 7}, got.Refusals[maxRefusals]); diff != "" {
		t.Errorf("the rest (-want +got)\n%s", diff)
	}
	var text strings.Builder
	if err := got.WriteText(&text); err != nil || !strings.Contains(text.String(), "\nin quarantine: 1,000 batches (80,000 rows) gpu_samples: batch N: row N lies") {
		t.Errorf("%v, %s", err, text.String())
	}
}
