// SPDX-License-Identifier: Apache-2.0

package account

import (
	"testing"

	"github.com/gpufleet/gpufleet/schema"
)

// TestNothingIsMadeOfWhatIsLeft: whichever table's rows go by age, hours that would lack them are not made again.
func TestNothingIsMadeOfWhatIsLeft(t *testing.T) {
	f := newFleet(t)
	w, err := newWork(f.conn, f.config())
	if err != nil {
		t.Fatal(err)
	}
	tables := []string{schema.Rollups()[0].Name}
	for _, teller := range tellers {
		tables = append(tables, teller.table)
	}
	for _, table := range tables {
		keep := func(days int) int64 {
			f.exec("ALTER TABLE %s MODIFY TTL toDateTime(ts) + toIntervalDay(%d) SETTINGS materialize_ttl_after_modify = 0", table, days)
			oldest, err := w.oldest(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return oldest
		}
		if long, short := keep(40), keep(20); short-long != 20*24*hour {
			t.Errorf("%s kept for 40 days: made from %s on; for 20: from %s on", table, timeOf(long), timeOf(short))
		}
		keep(4000)
	}
}
