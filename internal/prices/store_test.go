// SPDX-License-Identifier: Apache-2.0

package prices

import (
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
)

func TestMain(m *testing.M) { clickhousetest.Main(m) }

// shop is a migrated database that prices are stored in.
type shop struct {
	clickhousetest.Database
	conn driver.Conn
}

func newShop(t *testing.T) shop {
	t.Helper()
	db := clickhousetest.Start(t)
	conn := clickhousetest.Open(t, db.Writer)
	if err := schema.Migrate(t.Context(), conn, db.Name, "test"); err != nil {
		t.Fatal(err)
	}
	return shop{db, conn}
}

// store reads rows as quotes does, and stores them as of a day of November 2026.
func (s shop) store(t *testing.T, day int, want Stored, rows ...string) {
	t.Helper()
	at := time.Date(2026, 11, day, 0, 0, 0, 0, time.UTC)
	got, err := Store(t.Context(), s.conn, Check(quotes(t, rows...), at), at)
	if err != nil || got != want {
		t.Errorf("day %d: %+v, %v; want %+v", day, got, err, want)
	}
}

func (s shop) want(t *testing.T, sql string, lines ...string) {
	t.Helper()
	if got, want := clickhousetest.Query(t, s.Reader, sql), strings.Join(lines, "\n"); got != want {
		t.Errorf("%s\ngot  %q\nwant %q", sql, got, want)
	}
}

const intervals = "SELECT zone_id, toDayOfMonth(valid_from), toDayOfMonth(valid_to), price_per_hour, price_per_gpu_hour FROM fleet_prices ORDER BY ALL"

func TestStorePrices(t *testing.T) {
	s := newShop(t)
	const region, zone = "aws,us-east-1,,p5.48xlarge,on_demand,", "aws,us-east-1,use1-az4,p5.48xlarge,spot,"
	s.store(t, 1, Stored{Prices: 2}, region+"55.04,,,,,", zone+"20.000000001,,,,,")
	s.store(t, 2, Stored{Unchanged: 2}, region+"55.04,,,,,", zone+"20.000000001,,,,,")
	s.store(t, 5, Stored{Prices: 1, Unchanged: 1}, region+"55.040,,,,,", zone+"18,,,,,")
	s.store(t, 5, Stored{Unchanged: 2}, region+"55.040,,,,,", zone+"18,,,,,") // the same file again
	s.want(t, intervals, "\t1\t\\N\t55.04\t6.88", "use1-az4\t1\t5\t20.000000001\t2.5", "use1-az4\t5\t\\N\t18\t2.25")

	// A dated price: new, the same, corrected, with an end.
	s.store(t, 9, Stored{Prices: 1}, region+"50,,,2026-11-08,,")
	s.store(t, 9, Stored{Unchanged: 1}, region+"50,,,2026-11-08,,")
	s.store(t, 10, Stored{Prices: 1}, region+"49,,,2026-11-08,,")
	s.store(t, 11, Stored{Prices: 1}, region+"49,,,2026-11-08,2026-11-20,")
	s.store(t, 11, Stored{Unchanged: 1}, region+"49,,,2026-11-08,2026-11-20,")
	s.store(t, 12, Stored{Prices: 1}, region+"47,,,2026-11-15,,")
	s.store(t, 12, Stored{Unchanged: 1}, region+"49,,,2026-11-08,2026-11-20,") // another one begins before it ends
	s.want(t, intervals, "\t1\t8\t55.04\t6.88", "\t8\t15\t49\t6.125", "\t15\t\\N\t47\t5.875",
		"use1-az4\t1\t5\t20.000000001\t2.5", "use1-az4\t5\t\\N\t18\t2.25")

	// A feed of before is history.
	s.store(t, 3, Stored{Unchanged: 1}, region+"55.04,,,,,")
	s.want(t, "SELECT count() FROM prices", "7")
}

func TestStoreQuarantine(t *testing.T) {
	s := newShop(t)
	rows := []string{
		"aws,us-east-1,,p9.48xlarge,on_demand,0,,,,,", "aws,us-east-1,,p5.48xlarge,spot,,,,,,", "aws,us-east-1,,p5.48xlarge,spot,-123456789012345678901234567890,,,2026-11-01,,x",
		"aws,us-east-1,,p5.48xlarge,spot,1.00000000019,,,,,",
	}
	s.store(t, 2, Stored{Quarantined: 4}, rows...)
	s.store(t, 3, Stored{}, rows...)
	s.want(t, "SELECT instance_type, price_per_hour, reasons, source, source_line, toDayOfMonth(read_at), toDayOfMonth(valid_from) FROM price_quarantine ORDER BY source_line",
		"p9.48xlarge\t0\tunknown_instance,zero_price\ttest.csv\t2\t2\t\\N", "p5.48xlarge\t\\N\tno_price\ttest.csv\t3\t2\t\\N",
		"p5.48xlarge\t\\N\tnegative_price,unknown_currency\ttest.csv\t4\t2\t1", "p5.48xlarge\t1\ttoo_many_digits\ttest.csv\t5\t2\t\\N")
	s.want(t, "SELECT count() FROM prices", "0")
	s.want(t, "SELECT detail FROM price_quarantine WHERE source_line = 4", `a price of -123456789012345678901234567890; "X" is no currency code such as USD`)
}

func TestStoreSaysWhatFailed(t *testing.T) {
	s := newShop(t)
	clickhousetest.Exec(t, s.Writer, "DROP TABLE prices")
	_, err := Store(t.Context(), s.conn, Check(quotes(t, "aws,us-east-1,,p5.48xlarge,on_demand,55.04,,,,,"), readAt), readAt)
	if err == nil || !strings.Contains(err.Error(), "ask for the prices that are known") {
		t.Errorf("got %v", err)
	}
}

// TestStoreOnACluster: prices that were stored by one shard are there, whichever is asked, at once and once.
func TestStoreOnACluster(t *testing.T) {
	c := clickhousetest.StartCluster(t)
	var shops []shop
	var writers []schema.Execer
	for _, s := range c.Shards {
		shops = append(shops, shop{s, clickhousetest.Open(t, s.Writer)})
		writers = append(writers, shops[len(shops)-1].conn)
	}
	if _, _, err := (schema.ClusterMigration{Cluster: c.Named, Database: c.Name, By: "test"}).Migrate(t.Context(), writers); err != nil {
		t.Fatal(err)
	}
	for _, s := range shops { // what waits to be sent on stays where it is
		clickhousetest.Exec(t, s.Writer, "SYSTEM STOP DISTRIBUTED SENDS prices")
		clickhousetest.Exec(t, s.Writer, "SYSTEM STOP DISTRIBUTED SENDS price_quarantine")
	}
	rows := []string{"aws,us-east-1,,p5.48xlarge,on_demand,55.04,,,,,", "aws,us-east-1,,p9.48xlarge,on_demand,0,,,,,"}
	shops[1].store(t, 1, Stored{Prices: 1, Quarantined: 1}, rows...)
	shops[0].store(t, 2, Stored{Unchanged: 1}, rows...)
	for _, s := range shops {
		s.want(t, "SELECT count(), any(_shard_num) FROM prices", "1\t1")
		s.want(t, "SELECT count() FROM price_quarantine", "1")
		s.want(t, "SELECT instance_type, price_per_hour FROM fleet_prices", "p5.48xlarge\t55.04")
	}
}
