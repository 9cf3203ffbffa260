// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/collector/internal/batchtest"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
)

// host is a collector's store behind a proxy of its own.
type host struct {
	*running
	proxy *proxy
}

// newHost starts a store of a name.
func newHost(t *testing.T, db clickhousetest.Database, name string, change ...func(*Config)) *host {
	t.Helper()
	p := newProxy(t, db.Writer.HTTPAddress())
	cfg := config(endpoint(db.Writer))
	cfg.Name, cfg.Endpoint.Address = name, p.address
	for _, c := range change {
		c(&cfg)
	}
	return &host{start(t, cfg), p}
}

// mover is an agent of one life in one table, as a collector sees it.
type mover struct {
	t      *testing.T
	table  uint8
	sent   uint64 // highest sequence so far
	grants map[*host]Grant
	before map[*host]uint64 // sent, when the grant was given
	stored map[uint64]bool
	tries  []*sent
	all    map[uint64]*sent // the last try of each batch
	at     map[*sent]*host
	tenure map[*sent]uint32
}

func newMover(t *testing.T, table uint8) *mover {
	t.Helper()
	return &mover{t: t, table: table, grants: map[*host]Grant{}, before: map[*host]uint64{}, stored: map[uint64]bool{}, all: map[uint64]*sent{}, at: map[*sent]*host{}, tenure: map[*sent]uint32{}}
}

// to moves the agent.
func (m *mover) to(h *host) {
	m.t.Helper()
	k := key(m.table, 1)
	ctx, cancel := context.WithTimeout(m.t.Context(), limitless)
	defer cancel()
	g, err := h.Claim(ctx, m.table, k.Node, k.Epoch, 1, false)
	if err != nil {
		m.t.Fatalf("claim by %s: %v", h.cfg.Name, err)
	}
	for _, s := range g.Stored {
		m.stored[s] = true
	}
	m.grants[h], m.before[h] = g, m.sent
}

// send hands a batch to a collector to which the agent has moved.
func (m *mover) send(h *host, sequence uint64) *sent {
	m.t.Helper()
	from := today().Add(time.Duration(sequence) * time.Minute)
	b := &sent{key: key(m.table, sequence), done: make(chan error, 2), record: batchtest.Record(batchtest.Table(m.t, m.table), sequence, 3, from)}
	err := h.Submit(m.t.Context(), Item{
		Key: b.key, Columns: batchtest.Columns(m.t, batchtest.Table(m.t, m.table), b.record), From: from, To: from.Add(2 * time.Second),
		Tenure: m.grants[h].Tenure, Doubtful: m.grants[h].Doubtful && sequence <= m.before[h],
		Done: func(err error) { b.done <- err },
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.sent = max(m.sent, sequence)
	m.tries = append(m.tries, b)
	m.all[sequence], m.at[b], m.tenure[b] = b, h, m.grants[h].Tenure
	return b
}

// finish moves the agent to a collector, has it store all that is not, and compares.
func (m *mover) finish(db clickhousetest.Database, h *host) {
	m.t.Helper()
	m.to(h)
	var tried []*sent
	for sequence := uint64(1); sequence <= m.sent; sequence++ {
		switch b := m.all[sequence]; {
		case b != nil && m.flies(h, b): // the index has it wait
			tried = append(tried, b)
		case !m.stored[sequence]:
			tried = append(tried, m.send(h, sequence))
		}
	}
	for _, b := range tried {
		if err := b.wait(m.t); err != nil {
			m.t.Errorf("batch %v: %v", b.key, err)
		}
	}
	var all []*sent
	for sequence := uint64(1); sequence <= m.sent; sequence++ {
		all = append(all, m.all[sequence])
	}
	wantRows(m.t, db.Reader, all...)
	m.wantStoredOnce(db)
}

// wantStoredOnce waits until everybody has had their say, and looks whether the audit would take a batch for stored twice.
func (m *mover) wantStoredOnce(db clickhousetest.Database) {
	m.t.Helper()
	for _, b := range m.tries {
		_ = b.wait(m.t) // stored or gone: both may be right
	}
	k := key(m.table, 1)
	got := clickhousetest.Query(m.t, db.Reader, fmt.Sprintf(`
WITH arrayMap(b -> bitAnd(b, bitShiftLeft(toUInt64(1), 40) - 1), bitmapToArray(groupBitmapMergeState(stored_by))) AS numbers
SELECT groupBitmapMerge(stored), length(numbers) - length(arrayDistinct(numbers)) FROM ingest_sequences WHERE node_id = %d AND epoch = %d`, k.Node, k.Epoch))
	if want := fmt.Sprintf("%d\t0", m.sent); got != want {
		m.t.Errorf("batches that are stored, and how many the audit would take for stored twice: %s, want %s", got, want)
	}
}

func wantMoved(t *testing.T, b *sent) {
	t.Helper()
	if err := b.wait(t); !HasMoved(err) {
		t.Errorf("batch %v of an agent that has gone ended with %v", b.key, err)
	}
}

// TestAgentMoves there and back.
func TestAgentMoves(t *testing.T) {
	db := clickhousetest.Start(t)
	a, b := newHost(t, db, "a"), newHost(t, db, "b")
	m := newMover(t, schema.EventsID)
	m.to(a)
	if err := m.send(a, 1).wait(t); err != nil {
		t.Fatal(err)
	}
	if g := m.grants[a]; g.Tenure != 1 || g.Doubtful {
		t.Errorf("the first claim gives %+v", g)
	}
	m.to(b)
	if g := m.grants[b]; g.Tenure != 1 || !g.Doubtful || len(g.Stored) != 1 {
		t.Errorf("the second collector's claim gives %+v", g)
	}
	wantMoved(t, m.send(a, 2))
	if err := m.send(b, 2).wait(t); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Claim(t.Context(), m.table, key(m.table, 1).Node, 1000, 1, true); !errors.Is(err, ErrHeld) {
		t.Errorf("a gentle claim: %v", err)
	}
	m.to(a)
	if g := m.grants[a]; g.Tenure != 2 || !g.Doubtful || len(g.Stored) != 2 {
		t.Errorf("the claim of an agent that came back gives %+v", g)
	}
	wantMoved(t, m.send(b, 3))
	m.finish(db, a)
}

// TestOneAgentMoves: the others' batches, in the same units, are stored.
func TestOneAgentMoves(t *testing.T) {
	db := clickhousetest.Start(t)
	full := func(cfg *Config) { cfg.UnitWait, cfg.UnitRows = time.Hour, 6 } // both batches make one
	a, b := newHost(t, db, "a", full), newHost(t, db, "b")
	m := newMover(t, schema.EventsID)
	m.to(a)
	let := make(chan struct{})
	a.proxy.set(func(r *http.Request, body []byte) fault {
		if kindOf(r, body) != toTable {
			return pass
		}
		return waiting(let)
	})
	other := key(schema.EventsID, 1)
	other.Node, other.Epoch = other.Node+1, 2000
	g, err := a.Claim(t.Context(), other.Table, other.Node, other.Epoch, 1, false)
	if err != nil || g.Tenure != m.grants[a].Tenure {
		t.Fatal(g, err)
	}
	stays := a.submitUnder(g.Tenure, other, batchtest.Record(batchtest.Table(t, other.Table), 1, 3, today()), today(), today().Add(2*time.Second))
	goes := m.send(a, 1)
	a.proxy.await(t, toTable, 1)
	m.to(b)
	close(let)
	a.proxy.set(nil)
	if err := stays.wait(t); err != nil {
		t.Errorf("the batch of the agent that stays: %v", err)
	}
	wantMoved(t, goes)
	m.finish(db, b)
}

// TestHeldBackInsert lets an insert of the first collector come to ClickHouse once the second one has stored its batches,
// and another one once the agent is back at the first.
func TestHeldBackInsert(t *testing.T) {
	for name, back := range map[string]bool{"at the second": false, "back at the first": true} {
		t.Run(name, func(t *testing.T) {
			db := clickhousetest.Start(t)
			a, b := newHost(t, db, "a"), newHost(t, db, "b")
			m := newMover(t, schema.EventsID)
			m.to(a)
			let, done := make(chan struct{}), make(chan struct{})
			held := a.proxy.first(1, toTable, late(let, done))
			m.send(a, 1)
			a.proxy.await(t, toTable, 1)
			m.to(b)
			if err := m.send(b, 1).wait(t); err != nil {
				t.Fatal(err)
			}
			if back {
				m.to(a)
			}
			close(let)
			<-done
			if held() != 1 {
				t.Fatal("nothing was held back")
			}
			m.finish(db, b)
		})
	}
}

// TestInsertUnderWay: the first collector's insert has looked for claims, and not committed its rows, when the agent moves.
func TestInsertUnderWay(t *testing.T) {
	for name, wait := range map[string]string{"ends by itself": "0.2", "is ended": "0.9"} {
		t.Run(name, func(t *testing.T) {
			db := clickhousetest.Start(t)
			a, b := newHost(t, db, "a"), newHost(t, db, "b")
			clickhousetest.Exec(t, db.Writer, "ALTER TABLE gpu_events ADD CONSTRAINT slow CHECK sleepEachRow("+wait+") = 0")
			m := newMover(t, schema.EventsID)
			m.to(a)
			m.send(a, 1)
			awaitRunning(t, db, a.prefix())
			m.to(b)
			m.finish(db, b)
		})
	}
}

func awaitRunning(t *testing.T, db clickhousetest.Database, prefix string) {
	t.Helper()
	deadline := time.Now().Add(limitless)
	for clickhousetest.Query(t, db.Writer, "SELECT count() FROM system.processes WHERE startsWith(query_id, '"+prefix+"')") == "0" {
		if time.Now().After(deadline) {
			t.Fatal("the insert does not run")
		}
	}
}

// TestLandedWithoutEntry: the first collector's rows are in the table, and it could not say so.
func TestLandedWithoutEntry(t *testing.T) {
	db := clickhousetest.Start(t)
	a, b := newHost(t, db, "a"), newHost(t, db, "b")
	m := newMover(t, schema.EventsID)
	m.to(a)
	tried := a.proxy.first(1<<30, toLedger, gateway)
	m.send(a, 1)
	a.proxy.awaitThat(t, "the ledger", func() bool { return a.proxy.counts[toLedger] > 0 })
	m.to(b)
	if len(m.stored) > 0 || tried() == 0 {
		t.Fatal("the ledger has the batch")
	}
	wantStored(t, db.Reader, m.send(b, 1), m.send(b, 2))
	a.proxy.set(nil) // and now it says so
	m.finish(db, b)
	if got := clickhousetest.Query(t, db.Writer, "SELECT uniqExact(collector) FROM ingest_ledger WHERE seq = 1"); got != "2" {
		t.Errorf("%s collectors have recorded the batch, want both", got)
	}
}

// TestStoredElsewhereMeanwhile: the first collector's insert never came to ClickHouse, and when it asks what has landed of
// it, the rows are those of the second one.
func TestStoredElsewhereMeanwhile(t *testing.T) {
	db := clickhousetest.Start(t)
	a, b := newHost(t, db, "a"), newHost(t, db, "b")
	m := newMover(t, schema.EventsID)
	m.to(a)
	let := make(chan struct{})
	a.proxy.set(func(r *http.Request, body []byte) fault {
		switch kindOf(r, body) {
		case toTable:
			return refuse
		case killing: // goes before the question
			return waiting(let)
		default:
			return pass
		}
	})
	tried := m.send(a, 1)
	a.proxy.await(t, killing, 2) // the first one was of its start
	m.to(b)
	if err := m.send(b, 1).wait(t); err != nil {
		t.Fatal(err)
	}
	close(let)
	if err := tried.wait(t); err != nil {
		t.Errorf("the first collector's batch, which is in the table: %v", err)
	}
	m.finish(db, b)
}

// TestAgentComesBackByItself: a stream that is opened anew waits for no insert of those who had the agent long ago, nor ends one.
func TestAgentComesBackByItself(t *testing.T) {
	db := clickhousetest.Start(t)
	a, b := newHost(t, db, "a"), newHost(t, db, "b")
	m := newMover(t, schema.EventsID)
	m.to(a)
	m.to(b)
	m.to(a)
	clickhousetest.Exec(t, db.Writer, "CREATE TABLE slow (a UInt64) ENGINE = MergeTree ORDER BY a")
	sleeps := sleeper(t, db, b.queryID(batchtest.Table(t, m.table).Name))
	m.to(a)
	select {
	case err := <-sleeps:
		t.Fatalf("an insert of the other collector ended before: %v", err)
	default:
	}
	m.to(b) // and this one waits, and ends it
	if err := <-sleeps; err == nil {
		t.Error("the insert was not ended")
	}
}

// TestClaimsAreRenewed once they are old, but not those that are over.
func TestClaimsAreRenewed(t *testing.T) {
	db := clickhousetest.Start(t)
	a, b := newHost(t, db, "a"), newHost(t, db, "b")
	stays, goes := newMover(t, schema.EventsID), newMover(t, schema.SamplesID)
	stays.to(a)
	goes.to(a)
	goes.to(b)
	rows := func() string {
		return clickhousetest.Query(t, db.Reader, "SELECT table_name, instance = "+strconv.FormatUint(a.instance, 10)+", count() FROM collector_claims GROUP BY ALL ORDER BY ALL")
	}
	renew := func() {
		t.Helper()
		if err := a.renewClaims(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	want := "gpu_events\t1\t1\ngpu_samples\t0\t1\ngpu_samples\t1\t1"
	if renew(); rows() != want {
		t.Errorf("after a renewal of young claims:\n%s", rows())
	}
	clickhousetest.Exec(t, db.Writer, "INSERT INTO collector_claims SELECT * REPLACE (claimed_at - INTERVAL 21 DAY AS claimed_at) FROM collector_claims")
	clickhousetest.Exec(t, db.Writer, "ALTER TABLE collector_claims DELETE WHERE claimed_at > now() - INTERVAL 1 DAY SETTINGS mutations_sync = 1")
	want = strings.Replace(want, "gpu_events\t1\t1", "gpu_events\t1\t2", 1)
	for range 2 {
		if renew(); rows() != want {
			t.Errorf("after a renewal of old claims:\n%s", rows())
		}
	}
	clickhousetest.Exec(t, db.Writer, "ALTER TABLE collector_claims DELETE WHERE claimed_at < now() - INTERVAL 1 DAY SETTINGS mutations_sync = 1") // as the retention does
	stays.to(b)
	wantMoved(t, stays.send(a, 1))
	stays.finish(db, b)
}

// TestTakenAtTheSameTime: of three claims at once no more than one stands. Who has it can store, and nobody else, also of
// those who were told that they have it.
func TestTakenAtTheSameTime(t *testing.T) {
	db := clickhousetest.Start(t)
	hosts := []*host{newHost(t, db, "a"), newHost(t, db, "b"), newHost(t, db, "c")}
	for round := range uint64(10) {
		k := key(schema.EventsID, 1)
		k.Epoch += round
		grants := make([]Grant, len(hosts)) // of tenure 0: none
		var claiming sync.WaitGroup
		for n, h := range hosts {
			claiming.Go(func() { grants[n], _ = h.Claim(t.Context(), k.Table, k.Node, k.Epoch, 1, false) })
		}
		claiming.Wait()
		known, err := hosts[0].claimsOf(t.Context(), map[life]bool{lifeOf(k): false})
		if err != nil {
			t.Fatal(err)
		}
		live := known[lifeOf(k)].live()
		if len(live) > 1 {
			t.Errorf("round %d: %d claims stand", round, len(live))
		}
		var stored []*sent
		for n, h := range hosts {
			if grants[n].Tenure == 0 {
				continue
			}
			k.Sequence = uint64(n) + 1 // or they would find one another's rows
			b := h.submitUnder(grants[n].Tenure, k, batchtest.Record(batchtest.Table(t, k.Table), k.Sequence, 3, today()), today(), today().Add(2*time.Second))
			switch err := b.wait(t); {
			case err == nil:
				stored = append(stored, b)
			case !HasMoved(err) || slices.Contains(live, claim{h.instance, grants[n].Tenure}):
				t.Errorf("round %d: the batch of %s: %v", round, h.cfg.Name, err)
			}
		}
		if len(stored) > 1 {
			t.Errorf("round %d: %d collectors have stored", round, len(stored))
		}
		if got, want := clickhousetest.Query(t, db.Reader, fmt.Sprintf("SELECT count() FROM gpu_events WHERE epoch = %d", k.Epoch)), strconv.Itoa(3*len(stored)); got != want {
			t.Errorf("round %d: the table has %s rows, want %s", round, got, want)
		}
	}
}

// TestSchedules moves an agent among three collectors by schedules drawn from a seed, while their requests to ClickHouse are
// held back, lost, or done without an answer, and come in at any later moment.
func TestSchedules(t *testing.T) {
	for seed := range uint64(schedules(t)) {
		db := clickhousetest.Start(t)
		random := rand.New(rand.NewPCG(seed, 8))
		hosts := []*host{newHost(t, db, "a"), newHost(t, db, "b"), newHost(t, db, "c")}
		m := newMover(t, schema.EventsID)
		var held []chan struct{}
		at := hosts[0]
		m.to(at)
		for range 25 {
			switch random.IntN(6) {
			case 0, 1, 2:
				for range 1 + random.IntN(3) {
					sequence := 1 + random.Uint64N(m.sent+2)
					if b := m.all[sequence]; sequence > m.sent+1 || m.stored[sequence] || b != nil && m.flies(at, b) {
						continue
					}
					m.send(at, sequence)
				}
			case 3: // a collector's next insert comes to ClickHouse at some later moment
				let := make(chan struct{})
				held = append(held, let)
				h := hosts[random.IntN(len(hosts))]
				h.proxy.first(1, []string{toTable, toLedger}[random.IntN(2)], late(let, make(chan struct{})))
			case 4:
				if n := len(held); n > 0 {
					i := random.IntN(n)
					close(held[i])
					held = append(held[:i], held[i+1:]...)
				}
			case 5:
				at.proxy.first(1, toTable, []fault{dropAnswer, refuse, badGateway}[random.IntN(3)])
				at = hosts[random.IntN(len(hosts))]
				m.to(at)
			}
		}
		for _, let := range held {
			close(let)
		}
		for _, h := range hosts {
			h.proxy.set(nil)
		}
		m.finish(db, hosts[random.IntN(len(hosts))])
		for _, h := range hosts {
			h.stop()
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// schedules is how many are tried.
func schedules(t *testing.T) int {
	t.Helper()
	if testing.Short() {
		return 2
	}
	return 6
}

// flies tells whether a batch is under way at a collector, or was stored by it, under the claim that it has.
func (m *mover) flies(at *host, b *sent) bool {
	if m.at[b] != at || m.tenure[b] != m.grants[at].Tenure {
		return false
	}
	select {
	case err := <-b.done:
		b.done <- err
		return err == nil
	default:
		return true
	}
}
