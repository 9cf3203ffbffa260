// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gpufleet/gpufleet/collector/internal/batchtest"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
)

// units tells how many inserts stored the batches of a table.
func units(t *testing.T, db clickhousetest.Database, table string) string {
	t.Helper()
	return clickhousetest.Query(t, db.Reader, "SELECT uniqExact(unit) FROM ingest_ledger WHERE table_name = '"+table+"'")
}

// TestUnitIsWrittenWhenItIsFull has a unit that waits for nothing but its rows.
func TestUnitIsWrittenWhenItIsFull(t *testing.T) {
	db := clickhousetest.Start(t)
	cfg := config(endpoint(db.Writer))
	cfg.UnitRows, cfg.UnitWait = 10, time.Hour
	r := start(t, cfg)
	var batches []*sent
	for s := uint64(1); s <= 4; s++ {
		batches = append(batches, r.submit(schema.EventsID, s, 5))
	}
	wantStored(t, db.Reader, batches...)
	if got := units(t, db, "gpu_events"); got != "2" {
		t.Errorf("%s inserts", got)
	}
}

// TestUnitIsWrittenWhenItsTimeHasCome has units that are never full.
func TestUnitIsWrittenWhenItsTimeHasCome(t *testing.T) {
	db := clickhousetest.Start(t)
	r := start(t, config(endpoint(db.Writer)))
	for s := uint64(1); s <= 3; s++ {
		if err := r.submit(schema.EventsID, s, 5).wait(t); err != nil {
			t.Error(err)
		}
	}
	if got := units(t, db, "gpu_events"); got != "3" {
		t.Errorf("%s inserts", got)
	}
}

// TestDaysAreApart: a unit must not span two partitions, for only one block lands whole.
func TestDaysAreApart(t *testing.T) {
	db := clickhousetest.Start(t)
	cfg := config(endpoint(db.Writer))
	cfg.UnitRows, cfg.UnitWait = 40, time.Hour
	r := start(t, cfg)
	var batches []*sent
	for s := uint64(1); s <= 8; s++ {
		from := today().Add(-time.Duration(s%4) * 24 * time.Hour).Add(time.Duration(s) * time.Minute)
		record := batchtest.Record(batchtest.Table(t, schema.SamplesID), s, 5, from)
		batches = append(batches, r.submitRecord(key(schema.SamplesID, s), record, from, from.Add(4*time.Second)))
	}
	wantStored(t, db.Reader, batches...)
	got := clickhousetest.Query(t, db.Reader, `SELECT count(), max(days) FROM (
		SELECT unit, uniqExact(toDate(ts)) AS days FROM gpu_samples INNER JOIN ingest_ledger USING (node_id, epoch, seq) GROUP BY unit)`)
	if got != "4\t1" {
		t.Errorf("inserts, and most days of one: %q", got)
	}
}

// TestStopWritesWhatIsLeft stops a store whose units wait for ever. Nothing of it goes on afterwards.
func TestStopWritesWhatIsLeft(t *testing.T) {
	db := clickhousetest.Start(t)
	cfg := config(endpoint(db.Writer))
	cfg.UnitWait = time.Hour
	before := goleak.IgnoreCurrent()
	r := start(t, cfg)
	batches := []*sent{r.submit(schema.SamplesID, 1, 5), r.submit(schema.EventsID, 1, 7)}
	r.stop()
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
	wantStored(t, db.Reader, batches...)
}

// TestStopWithoutClickHouse: a stop does not wait for ever, and tells nobody that something is stored.
func TestStopWithoutClickHouse(t *testing.T) {
	r, p, db := through(t, func(cfg *Config) { cfg.StopWait = 50 * time.Millisecond })
	p.set(func(*http.Request, []byte) fault { return refuse })
	b := r.submit(schema.EventsID, 1, 7)
	r.stop()
	select {
	case err := <-b.done:
		t.Errorf("a batch that was not stored has ended: %v", err)
	default:
	}
	p.set(nil)
	wantRows(t, db)
}

// TestPoison puts a constraint on a table, so that some batches cannot be stored: those alone must be refused.
func TestPoison(t *testing.T) {
	t.Parallel()
	for name, poison := range map[string][]uint64{
		"none": nil, "the first": {1}, "the last": {9}, "two together": {4, 5}, "two apart": {2, 8}, "all but one": {1, 2, 3, 4, 5, 7, 8, 9},
		"all": {1, 2, 3, 4, 5, 6, 7, 8, 9},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := clickhousetest.Start(t)
			cfg := config(endpoint(db.Writer))
			cfg.UnitRows, cfg.UnitWait = 27, time.Hour
			r := start(t, cfg)
			bad := map[uint64]bool{}
			for _, s := range poison {
				bad[s] = true
				clickhousetest.Exec(t, db.Writer, fmt.Sprintf("ALTER TABLE gpu_events ADD CONSTRAINT not_%d CHECK seq != %d", s, s))
			}
			var batches, good []*sent
			for s := uint64(1); s <= 9; s++ {
				batches = append(batches, r.submit(schema.EventsID, s, 3))
			}
			for _, b := range batches {
				err := b.wait(t)
				var refused Refused
				switch {
				case bad[b.key.Sequence] && (!errors.As(err, &refused) || !isRefusal(err) || !strings.Contains(err.Error(), "not_")):
					t.Errorf("poison batch %v: %v", b.key, err)
				case !bad[b.key.Sequence] && err != nil:
					t.Errorf("batch %v: %v", b.key, err)
				case err == nil:
					good = append(good, b)
				}
			}
			wantRows(t, db.Reader, good...)
		})
	}
}

// TestPoisonBehindABadProxy: a refusal in the middle of other faults is still a refusal, and of the poison batch alone.
func TestPoisonBehindABadProxy(t *testing.T) {
	r, p, db := through(t, func(cfg *Config) { cfg.UnitRows, cfg.UnitWait = 24, time.Hour })
	clickhousetest.Exec(t, db, "ALTER TABLE gpu_events ADD CONSTRAINT not_3 CHECK seq != 3")
	n := 0
	p.set(func(request *http.Request, body []byte) fault {
		if kindOf(request, body) != toTable {
			return pass
		}
		n++
		return []fault{dropAnswer, pass, badGateway, shortBody, noSummary}[n%5]
	})
	var batches []*sent
	for s := uint64(1); s <= 8; s++ {
		batches = append(batches, r.submit(schema.EventsID, s, 3))
	}
	var good []*sent
	for _, b := range batches {
		err := b.wait(t)
		if (err != nil) != (b.key.Sequence == 3) {
			t.Errorf("batch %v: %v", b.key, err)
		}
		if err == nil {
			good = append(good, b)
		}
	}
	p.set(nil)
	wantRows(t, db, good...)
}

// TestSubmitBlocks when the lane is full, and gives up with its context.
func TestSubmitBlocks(t *testing.T) {
	r, p, db := through(t, func(cfg *Config) { cfg.QueueItems, cfg.UnitRows, cfg.Inserts = 2, 1, 1 })
	p.set(func(request *http.Request, body []byte) fault {
		if kindOf(request, body) == toTable && strings.Contains(request.URL.RawQuery, "gpu_events") {
			return gateway
		}
		return pass
	})
	batches := []*sent{r.submit(schema.EventsID, 1, 1)}
	p.await(t, toTable, 1) // the lane is busy with it
	for s := uint64(2); s <= 3+maxWaiting; s++ {
		batches = append(batches, r.submit(schema.EventsID, s, 1))
	}
	table := batchtest.Table(t, schema.EventsID)
	columns := batchtest.Columns(t, table, batchtest.Record(table, 9, 1, today()))
	ctx, cancel := context.WithCancel(t.Context())
	blocked := make(chan error, 1)
	go func() {
		blocked <- r.Submit(ctx, Item{Key: key(schema.EventsID, 9), Columns: columns, From: today(), To: today(), Done: func(error) {}})
	}()
	p.await(t, toTable, p.count(toTable)+3)
	select {
	case err := <-blocked:
		t.Errorf("a full lane took a batch: %v", err)
	default:
	}
	free := r.submit(schema.HealthID, 1, 1) // another lane
	if err := free.wait(t); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-blocked; !errors.Is(err, context.Canceled) {
		t.Errorf("submit: %v", err)
	}
	p.set(nil)
	wantStored(t, db, append(batches, free)...)
}

// TestManyAtOnce has many goroutines submit to all lanes.
func TestManyAtOnce(t *testing.T) {
	db := clickhousetest.Start(t)
	cfg := config(endpoint(db.Writer))
	cfg.UnitRows, cfg.QueueItems = 500, 16
	r := start(t, cfg)
	var mu sync.Mutex
	var all []*sent
	var group sync.WaitGroup
	for worker := range uint64(8) {
		group.Go(func() {
			for n := range uint64(20) {
				b := r.submit(uint8(1+(worker+n)%6), 1+worker*20+n, 1+int(n)%7)
				mu.Lock()
				all = append(all, b)
				mu.Unlock()
			}
		})
	}
	group.Wait()
	rows := int64(0)
	for _, b := range all {
		if err := b.wait(t); err != nil {
			t.Error(err)
		}
		rows += b.record.NumRows()
	}
	var sum []string
	for _, table := range schema.Tables() {
		sum = append(sum, "SELECT node_id, epoch, seq, ts, '"+table.Name+"' AS name FROM "+table.Name)
	}
	got := clickhousetest.Query(t, db.Reader, "SELECT count(), uniqExact(name, seq, ts) FROM ("+strings.Join(sum, " UNION ALL ")+")")
	if want := fmt.Sprintf("%d\t%d", rows, rows); got != want {
		t.Errorf("rows and different rows: %q, want %q", got, want)
	}
	if got := clickhousetest.Query(t, db.Reader, "SELECT count(), sum(rows) FROM ingest_ledger"); got != fmt.Sprintf("160\t%d", rows) {
		t.Errorf("ledger: %q", got)
	}
}

// TestViewThrows puts a materialized view on a table that does not take some of the rows: ClickHouse has them in the
// table all the same, and they must not be sent again.
func TestViewThrows(t *testing.T) {
	for name, view := range map[string]string{
		"a value is NULL": "SELECT ts, CAST(if(seq = 4, NULL, 1), 'UInt8') AS one FROM gpu_events",
		"it throws":       "SELECT ts, CAST(throwIf(seq = 4, 'not this one'), 'UInt8') AS one FROM gpu_events",
	} {
		t.Run(name, func(t *testing.T) {
			said := &journal{}
			r, p, db := through(t, func(cfg *Config) {
				cfg.UnitRows, cfg.UnitWait, cfg.Logger = 24, time.Hour, slog.New(slog.NewTextHandler(said, nil))
				cfg.RetryWait, cfg.MaxRetryWait = 10*time.Millisecond, time.Second
			})
			clickhousetest.Exec(t, db, "CREATE TABLE seen (ts DateTime64(3), one UInt8) ENGINE = MergeTree ORDER BY ts")
			clickhousetest.Exec(t, db, "CREATE MATERIALIZED VIEW watch TO seen AS "+view)
			before := p.count(toTable)
			var batches []*sent
			for s := uint64(1); s <= 8; s++ {
				batches = append(batches, r.submit(schema.EventsID, s, 3))
			}
			wantStored(t, db, batches...)
			if inserts := p.count(toTable) - before; inserts != 2+busy(said) { // of the two hours
				t.Errorf("%d inserts: %s", inserts, said.text())
			}
			if text := said.text(); !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "materialized view") || !strings.Contains(text, "view="+db.Database+".watch ") ||
				busy(said) == 0 && strings.Contains(text, "trying again") { // what is in the table is not waited for
				t.Errorf("nobody was alarmed: %s", text)
			}
		})
	}
}

// busy counts the inserts that a ClickHouse short of processor time refused to begin: it takes the answer that another
// query of the same name still runs, and nothing of such an insert lands.
func busy(said *journal) int {
	return strings.Count(said.text(), "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING")
}

// TestOneRefusalIsNoVerdict has two inserts end without an answer and one with a refusal, as of bytes that were cut on
// their way: the batch is not to blame before it was refused three times.
func TestOneRefusalIsNoVerdict(t *testing.T) {
	r, p, db := through(t, func(cfg *Config) { cfg.UnitRows = 3 })
	inserts := 0
	p.set(func(request *http.Request, body []byte) fault {
		if kindOf(request, body) != toTable {
			return pass
		}
		inserts++
		switch inserts {
		case 1, 2:
			return gateway
		case 3:
			return exception("33", "CANNOT_READ_ALL_DATA")
		default:
			return pass
		}
	})
	wantStored(t, db, r.submit(schema.EventsID, 1, 3))
}

// TestUnitIsTooLarge has ClickHouse run out of memory on any unit of more than two batches.
func TestUnitIsTooLarge(t *testing.T) {
	r, p, db := through(t, func(cfg *Config) { cfg.UnitRows, cfg.UnitWait = 15, time.Hour })
	p.set(func(request *http.Request, body []byte) fault {
		if kindOf(request, body) == toTable && rowsOf(body) > 6 {
			return exception("241", "MEMORY_LIMIT_EXCEEDED")
		}
		return pass
	})
	var batches []*sent
	for s := uint64(1); s <= 5; s++ {
		k, at := key(schema.EventsID, s), today().Add(time.Duration(s)*time.Minute)
		batches = append(batches, r.submitRecord(k, batchtest.Record(batchtest.Table(t, schema.EventsID), s, 3, at), at, at.Add(2*time.Second)))
	}
	wantStored(t, db, batches...)
	if got := clickhousetest.Query(t, db, "SELECT uniqExact(unit) FROM ingest_ledger"); got != "3" {
		t.Errorf("%s inserts succeeded", got)
	}
}

// rowsOf counts the rows of an insert's block.
func rowsOf(body []byte) int64 {
	_, n := binary.Uvarint(body) // columns
	if n <= 0 {
		return 0
	}
	rows, _ := binary.Uvarint(body[n:])
	return int64(rows)
}
