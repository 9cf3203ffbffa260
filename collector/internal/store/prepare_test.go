// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"go.uber.org/goleak"

	"github.com/gpufleet/gpufleet/collector/internal/batchtest"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// TestOpenErrors: what waiting will not mend is said at once, with what is wrong.
func TestOpenErrors(t *testing.T) {
	db := clickhousetest.Start(t)
	for name, c := range map[string]struct {
		change func(*Endpoint)
		says   []string
	}{
		"wrong password":   {func(e *Endpoint) { e.Password = "guess" }, []string{"ask ClickHouse http://" + db.Writer.User + "@" + db.Writer.HTTPAddress() + "/", "refuses the user", "GPUFLEET_CLICKHOUSE_PASSWORD"}},
		"no such user":     {func(e *Endpoint) { e.User = "nobody" }, []string{"it refuses the user nobody or the password: --clickhouse-user names"}},
		"no such database": {func(e *Endpoint) { e.Database = "gpufleet_missing" }, []string{"it has no database gpufleet_missing: create it, or name another with --clickhouse-database"}},
		"not ours":         {func(e *Endpoint) { e.Database = "information_schema" }, []string{"CREATE TABLE", "information_schema"}},
		"reads only":       {func(e *Endpoint) { e.User, e.Password = db.Reader.User, db.Reader.Password }, []string{"the user gpufleet_reader may not do this", "--clickhouse-user must be one that"}},
	} {
		t.Run(name, func(t *testing.T) {
			e := endpoint(db.Writer)
			c.change(&e)
			_, err := Open(t.Context(), config(e))
			if err == nil {
				t.Fatal("opened")
			}
			for _, want := range c.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), e.Password) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v gives the password away", err)
			}
		})
	}
}

// TestOpenWaits for a ClickHouse that does not answer yet, whatever it says instead, and logs what that is.
func TestOpenWaits(t *testing.T) {
	t.Parallel()
	db := clickhousetest.Start(t)
	for name, c := range map[string]struct {
		fault fault
		says  string
	}{
		"hangs up":    {refuse, "it closed the connection without an answer: it was stopped or is shutting down: try again in a moment; or TLS is expected there: give --clickhouse-tls"},
		"bad gateway": {gateway, "a proxy or balancer before it answered with HTTP 502"},
		"hangs":       {hangBefore, "it did not answer in time"},
		"memory":      {exception("241", "MEMORY_LIMIT_EXCEEDED"), "MEMORY_LIMIT_EXCEEDED"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t, db.Writer.HTTPAddress())
			p.first(2, asking, c.fault)
			e := endpoint(db.Writer)
			e.Address = p.address
			cfg := config(e)
			cfg.Name = strings.ReplaceAll(name, " ", "-") // all of them at once in one database
			cfg.QueryTimeout = 500 * time.Millisecond
			said := &bytes.Buffer{}
			cfg.Logger = slog.New(slog.NewTextHandler(said, nil))
			start(t, cfg).stop()
			if !strings.Contains(said.String(), c.says) {
				t.Errorf("the log does not say %q: %s", c.says, said)
			}
			if p.count(asking) < 3 {
				t.Errorf("opened after %d questions", p.count(asking))
			}
		})
	}
	t.Run("for ever", func(t *testing.T) {
		t.Parallel()
		p := newProxy(t, db.Writer.HTTPAddress())
		ctx, cancel := context.WithCancel(t.Context())
		p.set(func(*http.Request, []byte) fault { cancel(); return refuse })
		e := endpoint(db.Writer)
		e.Address = p.address
		if _, err := Open(ctx, config(e)); err == nil || !strings.Contains(err.Error(), p.address) {
			t.Errorf("open: %v", err)
		}
	})
}

// TestFailedConnectionsDoNotPileUp has ClickHouse answer with an error again and again: nothing may be left of those
// that were tried.
func TestFailedConnectionsDoNotPileUp(t *testing.T) {
	db := clickhousetest.Start(t)
	p := newProxy(t, db.Writer.HTTPAddress())
	e := endpoint(db.Writer)
	e.Address = p.address
	before := goleak.IgnoreCurrent()
	ctx, cancel := context.WithCancel(t.Context())
	asked := 0
	connections := map[string]bool{}
	p.set(func(r *http.Request, _ []byte) fault {
		connections[r.RemoteAddr] = true
		if asked++; asked == 30 {
			cancel()
		}
		return exception("241", "MEMORY_LIMIT_EXCEEDED")
	})
	if _, err := Open(ctx, config(e)); err == nil {
		t.Error("opened")
	}
	p.close()
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
	if len(connections) > 5 {
		t.Errorf("%d connections were made for %d questions", len(connections), asked)
	}
}

// orphan stores batches without their entries in the ledger, as a collector does that dies between the two.
func orphan(t *testing.T, db clickhousetest.Database, cfg Config, batches func(r *running) []*sent) []*sent {
	t.Helper()
	p := newProxy(t, db.Writer.HTTPAddress())
	cfg.Endpoint.Address, cfg.StopWait = p.address, time.Millisecond
	r := start(t, cfg)
	recorded := map[string]bool{}
	p.set(func(request *http.Request, body []byte) fault {
		if kindOf(request, body) != toLedger {
			return pass
		}
		for _, table := range schema.Tables() {
			recorded[table.Name] = recorded[table.Name] || bytes.Contains(body, []byte(table.Name))
		}
		return gateway
	})
	all := batches(r)
	for _, b := range all {
		p.awaitThat(t, "the ledger entry", func() bool { return recorded[batchtest.Table(t, b.key.Table).Name] })
	}
	r.stop()
	return all
}

// TestReconcile starts a collector after one that died between the insert and the ledger.
func TestReconcile(t *testing.T) {
	for _, name := range []string{"test", "another"} { // also by a collector that has taken its place
		t.Run(name, func(t *testing.T) {
			db := clickhousetest.Start(t)
			cfg := config(endpoint(db.Writer))
			r := start(t, cfg)
			known := r.submit(schema.EventsID, 1, 3)
			if err := known.wait(t); err != nil {
				t.Fatal(err)
			}
			r.stop()
			lost := orphan(t, db, cfg, func(r *running) []*sent {
				return []*sent{r.submit(schema.EventsID, 2, 4), r.submit(schema.SamplesID, 1, 5)}
			})
			if got := clickhousetest.Query(t, db.Reader, "SELECT count() FROM ingest_ledger"); got != "1" {
				t.Fatalf("ledger holds %s batches before the restart", got)
			}
			cfg.Name = name
			again := start(t, cfg)
			wantRows(t, db.Reader, known, lost[0], lost[1])
			if got := clickhousetest.Query(t, db.Reader, "SELECT seq, rows, collector FROM ingest_ledger WHERE unit = 'reconciled' AND table_name = 'gpu_events'"); got != "2\t4\t"+name {
				t.Errorf("reconciled: %q", got)
			}
			stored, err := again.Ended(t.Context(), schema.EventsID, wire.NodeID("node-1"), 1000, 1)
			slices.Sort(stored)
			if err != nil || !slices.Equal(stored, []uint64{1, 2}) {
				t.Errorf("stored %v, %v", stored, err)
			}
			again.stop()
			third := start(t, cfg)
			third.stop()
			if got := clickhousetest.Query(t, db.Reader, "SELECT count() FROM ingest_ledger"); got != "3" {
				t.Errorf("ledger holds %s rows after two restarts", got)
			}
		})
	}
}

// TestReconcileCutShort: a start that ended amid its reconciling, an hour after the inserts, does not hide the rest from the
// next one.
func TestReconcileCutShort(t *testing.T) {
	db := clickhousetest.Start(t)
	cfg := config(endpoint(db.Writer))
	lost := orphan(t, db, cfg, func(r *running) []*sent {
		return []*sent{r.submit(schema.EventsID, 1, 3), r.submit(schema.EventsID, 2, 4)}
	})
	clickhousetest.Exec(t, db.Writer, fmt.Sprintf(`INSERT INTO ingest_ledger (recorded_at, table_name, node_id, epoch, seq, rows, state, unit, collector)
VALUES (now64(3) + INTERVAL 1 HOUR, 'gpu_events', %d, %d, 1, 3, 'stored', 'reconciled', 'test')`, lost[0].key.Node, lost[0].key.Epoch))
	start(t, cfg)
	wantRows(t, db.Reader, lost...)
}

// TestReconcileLeavesOldRows: what the ledger has forgotten by its age is not stored today.
func TestReconcileLeavesOldRows(t *testing.T) {
	db := clickhousetest.Start(t)
	cfg := config(endpoint(db.Writer))
	r := start(t, cfg)
	old := today().Add(-20 * 24 * time.Hour)
	batches := []*sent{
		r.submit(schema.EventsID, 1, 3),
		r.submitRecord(key(schema.EventsID, 2), batchtest.Record(batchtest.Table(t, schema.EventsID), 2, 3, old), old, old.Add(2*time.Second)),
	}
	wantStored(t, db.Reader, batches...)
	r.stop()
	clickhousetest.Exec(t, db.Writer, "ALTER TABLE ingest_ledger DELETE WHERE true SETTINGS mutations_sync = 2")
	start(t, cfg)
	if got := clickhousetest.Query(t, db.Reader, "SELECT seq, rows FROM ingest_ledger"); got != "1\t3" {
		t.Errorf("reconciled %q", got)
	}
}

// TestNoProxy: one from the environment would be told the password.
func TestNoProxy(t *testing.T) {
	d, err := open(Endpoint{Address: "ch.example:8443", Secure: true}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if d.transport.Proxy != nil {
		t.Error("a proxy is asked for")
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// sleeper runs an insert that takes long, under a query id.
func sleeper(t *testing.T, db clickhousetest.Database, id string) <-chan error {
	t.Helper()
	conn := clickhousetest.Open(t, db.Writer)
	done := make(chan error, 1)
	go func() {
		ctx := clickhouse.Context(context.Background(), clickhouse.WithQueryID(id), clickhouse.WithSettings(clickhouse.Settings{"function_sleep_max_microseconds_per_block": 600_000_000, "max_block_size": 1}))
		done <- conn.Exec(ctx, "INSERT INTO slow SELECT number + sleepEachRow(0.1) FROM numbers(600)")
	}()
	timeout := time.NewTimer(limitless)
	defer timeout.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for clickhousetest.Query(t, db.Writer, "SELECT count() FROM system.processes WHERE query_id = '"+id+"'") == "0" {
		select {
		case err := <-done:
			t.Fatalf("the slow insert has ended: %v", err)
		case <-timeout.C:
			t.Fatal("the slow insert does not run")
		case <-tick.C:
		}
	}
	return done
}

// TestOldInsertsAreEnded starts a collector while inserts of an earlier process of its name, and of others, run.
func TestOldInsertsAreEnded(t *testing.T) {
	db := clickhousetest.Start(t)
	clickhousetest.Exec(t, db.Writer, "CREATE TABLE slow (a UInt64) ENGINE = MergeTree ORDER BY a")
	cfg := config(endpoint(db.Writer))
	earlier := &Store{cfg: cfg, instance: 1}
	cfg.Name = "test-2" // whose ids begin alike
	other := &Store{cfg: cfg, instance: 1}
	cfg.Name = "test"
	ended, goesOn := sleeper(t, db, earlier.queryID("gpu_events")), sleeper(t, db, other.queryID("gpu_events"))
	start(t, cfg)
	var killed *clickhouse.Exception
	if err := <-ended; !errors.As(err, &killed) || killed.Code != 394 {
		t.Errorf("the insert of the earlier process: %v", err)
	}
	select {
	case err := <-goesOn:
		t.Errorf("the insert of another collector has ended: %v", err)
	default:
	}
	clickhousetest.Exec(t, db.Writer, "KILL QUERY WHERE query_id LIKE '%test-2%' SYNC")
	if err := <-goesOn; err == nil {
		t.Error("the insert of another collector was not ended by hand")
	}
}

// TestStored asks the ledger about many lives at once.
func TestStored(t *testing.T) {
	r, p, _ := through(t, nil)
	const lives = 40
	var batches []*sent
	for node := range uint64(lives) {
		for _, sequence := range []uint64{1, 2, 5 + node} {
			for _, table := range []uint8{schema.EventsID, schema.HealthID} {
				k := wire.Key{Table: table, Node: node, Epoch: 1000, Sequence: sequence}
				batches = append(batches, r.submitRecord(k, batchtest.Record(batchtest.Table(t, table), node, 1, today()), today(), today()))
			}
		}
	}
	for _, b := range batches {
		if err := b.wait(t); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Quarantined(t.Context(), wire.Key{Table: schema.EventsID, Node: 0, Epoch: 1000, Sequence: 3}, 1, "a test's"); err != nil {
		t.Fatal(err)
	}
	before := p.count(asking)
	var group sync.WaitGroup
	for node := range uint64(lives) {
		for epoch, want := range map[uint64][]uint64{1000: {2, 5 + node}, 1001: nil} {
			if node == 0 && epoch == 1000 {
				want = []uint64{2, 3, 5} // it was quarantined
			}
			group.Go(func() {
				got, err := r.Ended(t.Context(), schema.EventsID, node, epoch, 2)
				slices.Sort(got)
				if err != nil || !slices.Equal(got, want) {
					t.Errorf("node %d, epoch %d: ended are %v, want %v: %v", node, epoch, got, want, err)
				}
			})
		}
	}
	group.Wait()
	if asked := p.count(asking) - before; asked > lives {
		t.Errorf("%d questions were asked for %d lives", asked, 2*lives)
	}
	if g, err := r.Claim(t.Context(), schema.EventsID, 0, 1000, 2, false); err != nil || slices.Contains(g.Stored, 3) || len(g.Stored) != 2 {
		t.Errorf("with a claim come the stored %v: %v", g.Stored, err)
	}
}

// TestEndedFails: who asks while ClickHouse is away is told so, in time.
func TestEndedFails(t *testing.T) {
	r, p, _ := through(t, func(cfg *Config) { cfg.QueryTimeout = 200 * time.Millisecond })
	for name, f := range map[string]fault{"refused": refuse, "hangs": hangBefore, "bad gateway": gateway} {
		p.set(func(*http.Request, []byte) fault { return f })
		if got, err := r.Ended(t.Context(), schema.EventsID, 1, 1, 1); err == nil {
			t.Errorf("%s: ended are %v", name, got)
		}
	}
	p.set(nil)
	if got, err := r.Ended(t.Context(), schema.EventsID, 1, 1, 1); err != nil || len(got) != 0 {
		t.Errorf("ended are %v, %v", got, err)
	}
	r.stop()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := r.Ended(ctx, schema.EventsID, 1, 1, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after the stop: %v", err)
	}
}

// TestQuarantined writes what the audit reads.
func TestQuarantined(t *testing.T) {
	db := clickhousetest.Start(t)
	r := start(t, config(endpoint(db.Writer)))
	if err := r.Quarantined(t.Context(), key(schema.EventsID, 7), 12, "it's \\ odd\n"); err != nil {
		t.Fatal(err)
	}
	got := clickhousetest.Query(t, db.Reader, "SELECT table_name, node_id, epoch, seq, rows, state, reason, unit, collector FROM ingest_ledger")
	want := fmt.Sprintf("gpu_events\t%d\t1000\t7\t12\tquarantined\tit\\'s \\\\ odd\\n\t\ttest", wire.NodeID("node-1"))
	if got != want {
		t.Errorf("ledger holds %q, want %q", got, want)
	}
}

func TestWrittenRows(t *testing.T) {
	for header, want := range map[string]int64{
		`{"read_rows":"5","written_rows":"3"}`: 3, `{"written_rows":"0"}`: 0, `{"written_rows":3}`: -1,
		"": -1, "{}": -1, "{": -1, `{"written_rows":"many"}`: -1,
	} {
		if got := writtenRows(header); got != want {
			t.Errorf("%s: %d rows, want %d", header, got, want)
		}
	}
}

// TestErrorsAreTold decides what becomes of rows, by the number of ClickHouse's error.
func TestErrorsAreTold(t *testing.T) {
	exception := func(code int32) error {
		return fmt.Errorf("insert: %w", &clickhouse.Exception{Code: code})
	}
	for _, code := range []int32{53, 117, 349, 469} {
		if !isRefusal(exception(code)) {
			t.Errorf("%d is tried again", code)
		}
	}
	for _, code := range []int32{60, 159, 160, 202, 209, 210, 236, 241, 242, 243, 252, 319, 394, 425, 497, 516, 745, 999, 1000, 1001} {
		if isRefusal(exception(code)) {
			t.Errorf("%d is the fault of the rows", code)
		}
	}
	if isRefusal(errors.New("53")) || isRefusal(nil) || final(errors.New("516")) || final(nil) || final(exception(241)) || !final(exception(516)) {
		t.Error("an error that is not ClickHouse's is taken for one")
	}
}
