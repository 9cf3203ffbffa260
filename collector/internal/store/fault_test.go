// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/schema"
)

// TestFaults does each fault to the first requests of each kind. Whatever it is, the batches must be stored, each once.
func TestFaults(t *testing.T) {
	t.Parallel()
	db := clickhousetest.Start(t)
	epoch := uint64(0)
	for name, c := range map[string]struct {
		kind  string
		fault fault
	}{
		"insert: connection refused":          {toTable, refuse},
		"insert: answer lost":                 {toTable, dropAnswer},
		"insert: 502 after it was done":       {toTable, badGateway},
		"insert: 502 and not done":            {toTable, gateway},
		"insert: body cut":                    {toTable, cutBody},
		"insert: short body":                  {toTable, shortBody},
		"insert: cut before the first byte":   {toTable, noBody},
		"insert: no count":                    {toTable, noSummary},
		"insert: hangs when it is done":       {toTable, hangAfter},
		"insert: hangs and is not done":       {toTable, hangBefore},
		"insert: too many parts":              {toTable, exception("252", "TOO_MANY_PARTS")},
		"insert: memory limit":                {toTable, exception("241", "MEMORY_LIMIT_EXCEEDED")},
		"insert: read-only replica":           {toTable, exception("242", "TABLE_IS_READ_ONLY")},
		"insert: disk full":                   {toTable, exception("243", "NOT_ENOUGH_SPACE")},
		"insert: unknown status":              {toTable, exception("319", "UNKNOWN_STATUS_OF_INSERT")},
		"insert: keeper":                      {toTable, exception("999", "KEEPER_EXCEPTION")},
		"insert: table being dropped":         {toTable, exception("60", "UNKNOWN_TABLE")},
		"insert: rights taken away":           {toTable, exception("497", "ACCESS_DENIED")},
		"ledger: connection refused":          {toLedger, refuse},
		"ledger: answer lost":                 {toLedger, dropAnswer},
		"ledger: 502 after it was done":       {toLedger, badGateway},
		"ledger: body cut":                    {toLedger, cutBody},
		"ledger: cut before the first byte":   {toLedger, noBody},
		"ledger: hangs when it is done":       {toLedger, hangAfter},
		"ledger: hangs and is not done":       {toLedger, hangBefore},
		"ledger: an error that will not pass": {toLedger, exception("53", "TYPE_MISMATCH")},
	} {
		epoch++
		epoch := epoch
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t, db.Writer.HTTPAddress())
			e := endpoint(db.Writer)
			e.Address = p.address
			cfg := config(e)
			cfg.Name = fmt.Sprint("test-", epoch)
			cfg.InsertTimeout, cfg.QueryTimeout = time.Second, time.Second
			r := start(t, cfg)
			r.epoch = epoch
			used := p.first(2, c.kind, c.fault)
			batches := []*sent{r.submit(schema.EventsID, 1, 7), r.submit(schema.SamplesID, 1, 5)}
			wantStored(t, db.Reader, batches...)
			if used() == 0 {
				t.Error("the fault was not done")
			}
			more := []*sent{r.submit(schema.EventsID, 2, 3), r.submit(schema.EventsID, 3, 2)}
			wantStored(t, db.Reader, batches[0], more[0], more[1], batches[1])
		})
	}
}

// through starts a store behind a proxy.
func through(t *testing.T, change func(*Config)) (*running, *proxy, embedded.Endpoint) {
	t.Helper()
	db := clickhousetest.Start(t)
	p := newProxy(t, db.Writer.HTTPAddress())
	e := endpoint(db.Writer)
	e.Address = p.address
	cfg := config(e)
	cfg.InsertTimeout, cfg.QueryTimeout = 10*time.Second, 10*time.Second
	if change != nil {
		change(&cfg)
	}
	return start(t, cfg), p, db.Writer
}

// TestQuestionsFail loses the answer of an insert, and then those to the questions that follow from it.
func TestQuestionsFail(t *testing.T) {
	for _, kind := range []string{killing, asking} {
		t.Run(kind, func(t *testing.T) {
			r, p, db := through(t, nil)
			failed, lost := 0, false
			p.set(func(request *http.Request, body []byte) fault {
				switch got := kindOf(request, body); {
				case got == toTable && !lost:
					lost = true
					return dropAnswer
				case got == kind && lost && failed < 3:
					failed++
					return []fault{refuse, gateway, exception("241", "MEMORY_LIMIT_EXCEEDED")}[failed-1]
				default:
					return pass
				}
			})
			wantStored(t, db, r.submit(schema.EventsID, 1, 7))
			if failed != 3 {
				t.Errorf("%d questions failed", failed)
			}
		})
	}
}

// TestLateInsert has an insert arrive after the store has given it up and sent it again.
func TestLateInsert(t *testing.T) {
	r, p, db := through(t, func(cfg *Config) { cfg.InsertTimeout = 200 * time.Millisecond })
	let, done := make(chan struct{}), make(chan struct{})
	p.first(1, toTable, late(let, done))
	batches := []*sent{r.submit(schema.EventsID, 1, 7), r.submit(schema.EventsID, 2, 3)}
	wantStored(t, db, batches...)
	close(let)
	<-done
	wantStored(t, db, batches...)
}

// TestRowsLostInACrash: ClickHouse remembers the token of an insert whose rows it has lost.
func TestRowsLostInACrash(t *testing.T) {
	r, p, db := through(t, nil)
	p.first(1, toTable, after(func() {
		clickhousetest.Exec(t, db, "ALTER TABLE gpu_events DELETE WHERE true SETTINGS mutations_sync = 2")
	}))
	wantStored(t, db, r.submit(schema.EventsID, 1, 7))
	if inserts := p.count(toTable); inserts < 3 {
		t.Errorf("%d inserts: the same token can only have been taken for done", inserts)
	}
}

// TestSomeBatchesAreLost leaves one of three batches of a unit in the table.
func TestSomeBatchesAreLost(t *testing.T) {
	r, p, db := through(t, func(cfg *Config) { cfg.UnitWait, cfg.UnitRows = time.Hour, 15 })
	p.first(1, toTable, after(func() {
		clickhousetest.Exec(t, db, "ALTER TABLE gpu_events DELETE WHERE seq != 2 SETTINGS mutations_sync = 2")
	}))
	wantStored(t, db, r.submit(schema.EventsID, 1, 7), r.submit(schema.EventsID, 2, 5), r.submit(schema.EventsID, 3, 3))
}

// TestPartOfABatchIsLost: a batch of which some rows are there can be neither sent again nor called stored.
func TestPartOfABatchIsLost(t *testing.T) {
	r, p, db := through(t, func(cfg *Config) { cfg.UnitWait, cfg.UnitRows = time.Hour, 10 })
	p.first(1, toTable, after(func() {
		clickhousetest.Exec(t, db, "ALTER TABLE gpu_events DELETE WHERE seq = 1 AND ts > (SELECT min(ts) FROM gpu_events WHERE seq = 1) SETTINGS mutations_sync = 2")
	}))
	torn, whole := r.submit(schema.EventsID, 1, 7), r.submit(schema.EventsID, 2, 3)
	var refused Refused
	if err := torn.wait(t); !errors.As(err, &refused) || !strings.Contains(err.Error(), "1 of 7 rows") {
		t.Errorf("torn batch: %v", err)
	}
	if err := whole.wait(t); err != nil {
		t.Errorf("whole batch: %v", err)
	}
	if got := clickhousetest.Query(t, db, "SELECT seq, state FROM ingest_ledger"); got != "2\tstored" {
		t.Errorf("ledger holds %q", got)
	}
}

// TestTableIsAway renames a table and, later, back: nobody may take that for a fault of the rows.
func TestTableIsAway(t *testing.T) {
	r, p, db := through(t, nil)
	clickhousetest.Exec(t, db, "RENAME TABLE gpu_events TO gpu_events_away")
	before := p.count(asking)
	b := r.submit(schema.EventsID, 1, 7)
	p.await(t, asking, before+3)
	clickhousetest.Exec(t, db, "RENAME TABLE gpu_events_away TO gpu_events")
	wantStored(t, db, b)
}

// TestTooManyParts has ClickHouse itself refuse inserts for a while.
func TestTooManyParts(t *testing.T) {
	r, p, db := through(t, nil)
	wantStored(t, db, r.submit(schema.EventsID, 1, 1))
	clickhousetest.Exec(t, db, "ALTER TABLE gpu_events MODIFY SETTING parts_to_delay_insert = 1, parts_to_throw_insert = 1")
	before := p.count(toTable)
	b := r.submit(schema.EventsID, 2, 7)
	p.await(t, toTable, before+3)
	clickhousetest.Exec(t, db, "ALTER TABLE gpu_events RESET SETTING parts_to_delay_insert, parts_to_throw_insert")
	if err := b.wait(t); err != nil {
		t.Error(err)
	}
	if got := clickhousetest.Query(t, db, "SELECT count(), uniqExact(seq, ts) FROM gpu_events"); got != "8\t8" {
		t.Errorf("rows and times: %q", got)
	}
}

// TestChaos does faults to one request in three, drawn from a seed, while batches of all tables come.
func TestChaos(t *testing.T) {
	faults := []fault{refuse, dropAnswer, badGateway, gateway, cutBody, shortBody, noBody, noSummary, hangAfter, hangBefore, exception("252", "TOO_MANY_PARTS")}
	for seed := range uint64(3) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			r, p, db := through(t, func(cfg *Config) { cfg.InsertTimeout, cfg.QueryTimeout = 200*time.Millisecond, 200*time.Millisecond })
			random := rand.New(rand.NewPCG(seed, 1))
			p.set(func(*http.Request, []byte) fault {
				if random.IntN(3) > 0 {
					return pass
				}
				return faults[random.IntN(len(faults))]
			})
			var batches []*sent
			for sequence := uint64(1); sequence <= 12; sequence++ {
				for _, table := range []uint8{schema.SamplesID, schema.EventsID, schema.NodeInventoryID} {
					batches = append(batches, r.submit(table, sequence, 1+int(sequence)%5))
				}
				if sequence%3 == 0 {
					_ = batches[len(batches)-1].wait(t) // how it ended is looked at below
				}
			}
			for _, b := range batches {
				if err := b.wait(t); err != nil {
					t.Errorf("batch %v: %v", b.key, err)
				}
			}
			p.set(nil)
			slices.SortFunc(batches, func(a, b *sent) int { return cmp.Compare(a.key.Sequence, b.key.Sequence) })
			wantRows(t, db, batches...)
		})
	}
}
