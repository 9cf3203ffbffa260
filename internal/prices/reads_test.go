// SPDX-License-Identifier: Apache-2.0

package prices

import (
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
)

func TestReadings(t *testing.T) {
	s := newShop(t)
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	if _, found, err := LastReading(t.Context(), s.conn, "https://a"); found || err != nil {
		t.Errorf("found before anything was read: %v", err)
	}
	told := Validators{`"1"`, "Sat, 01 Nov 2026 00:00:00 GMT"}
	for _, r := range []Reading{
		{At: at, Source: "https://a", Format: "aws", Outcome: WasRead, Validators: told, Prices: 5},
		{At: at.Add(time.Hour), Source: "https://a", Format: "aws", Outcome: NotModified, Validators: told},
		{At: at.Add(2 * time.Hour), Source: "https://a", Format: "aws", Outcome: Failed, Detail: "no route"},
		{At: at, Source: "b.csv", Format: "csv", Outcome: WasRead},
	} {
		if err := Record(t.Context(), s.conn, r); err != nil {
			t.Fatal(err)
		}
	}
	r, found, err := LastReading(t.Context(), s.conn, "https://a")
	if err != nil || !found || !r.At.Equal(at.Add(time.Hour)) || r.Validators != told {
		t.Errorf("%+v, %t, %v", r, found, err)
	}
	if r, _, err := LastReading(t.Context(), s.conn, "b.csv"); err != nil || r.Validators != (Validators{}) {
		t.Errorf("%+v, %v", r, err)
	}
	s.want(t, "SELECT source, outcome, etag, prices, quarantined, detail FROM price_reads ORDER BY source, read_at", "b.csv\tread\t\\N\t0\t0\t\\N", "https://a\tread\t\"1\"\t5\t0\t\\N",
		"https://a\tnot_modified\t\"1\"\t\\N\t\\N\t\\N", "https://a\tfailed\t\\N\t\\N\t\\N\tno route")
	clickhousetest.Exec(t, s.Writer, "DROP TABLE price_reads")
	if err := Record(t.Context(), s.conn, Reading{At: at, Source: "c"}); err == nil || !strings.Contains(err.Error(), "note the reading of c") {
		t.Errorf("got %v", err)
	}
}
