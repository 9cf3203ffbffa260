// SPDX-License-Identifier: Apache-2.0

package bills

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
)

// TestImport: a month that is imported again takes the place of the earlier one, and counts once.
func TestImport(t *testing.T) {
	db := clickhousetest.Start(t)
	conn := clickhousetest.Open(t, db.Writer)
	if err := schema.Migrate(t.Context(), conn, db.Name, "test"); err != nil {
		t.Fatal(err)
	}
	want := func(sql string, lines ...string) {
		t.Helper()
		if got, want := clickhousetest.Query(t, db.Reader, sql), strings.Join(lines, "\n"); got != want {
			t.Errorf("%s\ngot  %q\nwant %q", sql, got, want)
		}
	}
	at := time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
	load := func(rows, unchanged int, paths ...string) {
		t.Helper()
		stored, err := Import(t.Context(), conn, paths, at, nil)
		if err != nil {
			t.Fatal(err)
		}
		count, same := 0, 0
		for _, s := range stored {
			count += s.Rows
			if s.Unchanged {
				same++
			}
		}
		if count != rows || same != unchanged {
			t.Errorf("%d rows, %d months unchanged, want %d and %d: %+v", count, same, rows, unchanged, stored)
		}
	}
	text, err := os.ReadFile(quirks)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	file := func(name string, rows ...int) string {
		content := []string{lines[0]}
		for _, row := range rows {
			content = append(content, lines[row])
		}
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(strings.Join(content, "")), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	load(10, 0, quirks)
	const sums = "SELECT provider, currency, count(), sum(cost), sum(billed_cost) FROM fleet_bills GROUP BY ALL ORDER BY ALL"
	want(sums, "aws\tUSD\t8\t123.0599999\t80.9462999", "gcp\tEUR\t2\t1650\t1650")
	want("SELECT provider, rows, quarantined, currencies, cost FROM bill_imports ORDER BY ALL", "aws\t8\t6\tUSD\t123.0599999", "gcp\t2\t0\tEUR\t1650")
	want("SELECT reasons, count() FROM bill_quarantine GROUP BY ALL ORDER BY ALL", "bad_number\t1", "bad_period\t2", "no_cost\t1", "no_provider\t1", "too_many_digits\t1", "unknown_currency\t1")
	want("SELECT contract_applied, invoice_id, zone_name, gpus, of_machine, notes FROM fleet_bills WHERE instance_id = 'i-01' AND of_machine = 1 ORDER BY charge_period_start, cost DESC LIMIT 1 OFFSET 2",
		"[{\"ContractId\":\"c\"}]\t\\N\t\\N\t\\N\t1\tunknown_machine,no_zone")

	load(10, 2, quirks) // the same again
	want("SELECT count() FROM bills", "10")
	load(2, 0, file("new.csv", 1, 2)) // fewer rows: they alone count, in the month of AWS
	want(sums, "aws\tUSD\t2\t95.54\t55.04", "gcp\tEUR\t2\t1650\t1650")
	load(3, 0, file("a.csv", 1, 2), file("b.csv", 2, 3)) // of two files that overlap a row counts once
	want("SELECT reasons, detail FROM bill_quarantine WHERE reasons = 'row_twice'", "row_twice\tfile a.csv has the same row")
	load(3, 0, file("c.csv", 1, 1), file("d.csv", 3)) // in one file, the same row twice is two charges
	load(2, 0, file("c.csv", 1, 1))
	want("SELECT count(), sum(cost) FROM fleet_bills WHERE provider = 'aws'", "2\t110.08")

	cut := file("cut.csv", 1, 2, 3)
	if err := os.WriteFile(cut, []byte(string(text[:len(text)/2])+"\"x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Import(t.Context(), conn, []string{cut}, at, nil); err == nil {
		t.Error("a bill that breaks off was taken")
	}
	want("SELECT count() FROM fleet_bills WHERE provider = 'aws'", "2")
	want("SELECT instance_id, gpu_hours, cost FROM bill_machines ORDER BY ALL", "77\t192\t1650", "i-01\t16\t110.08")
	clickhousetest.Exec(t, db.Writer, "DROP TABLE bills")
	if _, err := Import(t.Context(), conn, []string{file("d.csv", 1)}, at, nil); err == nil || !strings.Contains(err.Error(), "store bills") {
		t.Errorf("got %v", err)
	}
}
