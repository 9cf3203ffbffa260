// SPDX-License-Identifier: Apache-2.0

package store

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
)

// TestAViewThatCannotBegin has the table vanish that a materialized view writes into: nothing lands in the view's
// source, until somebody mends the view, or detaches it. Other tables go on; then all is there once.
func TestAViewThatCannotBegin(t *testing.T) {
	const target = "CREATE TABLE seen (ts DateTime64(3), one UInt8) ENGINE = MergeTree ORDER BY ts"
	for _, mend := range []string{target, "DETACH VIEW watch"} {
		t.Run(mend, func(t *testing.T) {
			said := &journal{}
			r, p, db := through(t, func(cfg *Config) {
				cfg.RetryWait, cfg.MaxRetryWait, cfg.Logger = 200*time.Millisecond, 200*time.Millisecond, slog.New(slog.NewTextHandler(said, nil))
			})
			clickhousetest.Exec(t, db, target)
			clickhousetest.Exec(t, db, "CREATE MATERIALIZED VIEW watch TO seen AS SELECT ts, toUInt8(1) AS one FROM gpu_events")
			clickhousetest.Exec(t, db, "CREATE TABLE seen_too (ts DateTime64(3)) ENGINE = MergeTree ORDER BY ts")
			clickhousetest.Exec(t, db, "CREATE MATERIALIZED VIEW sound TO seen_too AS SELECT ts FROM gpu_events")
			clickhousetest.Exec(t, db, "DROP TABLE seen SYNC")
			began, before := time.Now(), p.count(toTable)
			var stuck []*sent
			for s := uint64(1); s <= 3; s++ {
				stuck = append(stuck, r.submit(schema.EventsID, s, 3))
			}
			said.await(t, "a materialized view keeps ClickHouse from taking the rows")
			if err := r.submit(schema.SamplesID, 1, 5).wait(t); err != nil {
				t.Errorf("a table without views: %v", err)
			}
			for line := range strings.SplitSeq(strings.TrimSpace(said.text()), "\n") {
				if !strings.Contains(line, "level=ERROR") || !strings.Contains(line, "view="+db.Database+".watch ") || !strings.Contains(line, "DETACH VIEW "+db.Database+".watch;") {
					t.Errorf("said: %s", line)
				}
			}
			select {
			case err := <-stuck[0].done:
				t.Fatalf("a batch ended, with %v", err)
			default:
			}
			<-time.After(500 * time.Millisecond)
			clickhousetest.Exec(t, db, mend)
			if tries, most := p.count(toTable)-before, len(stuck)*(2+int(time.Since(began)/(200*time.Millisecond)))+1; tries > most {
				t.Errorf("%d tries, want at most %d", tries, most)
			}
			for _, b := range stuck {
				if err := b.wait(t); err != nil {
					t.Errorf("batch %v: %v", b.key, err)
				}
			}
			counts := clickhousetest.Query(t, db, "SELECT count(), uniqExact(seq, ts), (SELECT count() FROM seen_too) FROM gpu_events")
			if counts != "9\t9\t9" {
				t.Errorf("rows, different ones, and those of a view that was sound: %s", counts)
			}
			if mend != target { // as docs/operations.md says
				for _, step := range []string{target, "ATTACH TABLE watch", "INSERT INTO seen SELECT ts, toUInt8(1) AS one FROM gpu_events"} {
					clickhousetest.Exec(t, db, step)
				}
			}
			if err := r.submit(schema.EventsID, 4, 3).wait(t); err != nil {
				t.Error(err)
			}
			if got := clickhousetest.Query(t, db, "SELECT count(), uniqExact(ts) FROM seen"); got != "12\t12" {
				t.Errorf("the view has %s rows, want 12", got)
			}
		})
	}
}

// TestAViewThatSomebodyMade is counted by ClickHouse, too: that is said once.
func TestAViewThatSomebodyMade(t *testing.T) {
	said := &journal{}
	r, _, db := through(t, func(cfg *Config) { cfg.Logger = slog.New(slog.NewTextHandler(said, nil)) })
	clickhousetest.Exec(t, db, "CREATE TABLE seen (ts DateTime64(3)) ENGINE = MergeTree ORDER BY ts")
	clickhousetest.Exec(t, db, "CREATE MATERIALIZED VIEW watch TO seen AS SELECT ts FROM gpu_events")
	var batches []*sent
	for s := uint64(1); s <= 4; s++ {
		batches = append(batches, r.submit(schema.EventsID, s, 3))
		if err := batches[s-1].wait(t); err != nil {
			t.Fatal(err)
		}
	}
	wantStored(t, db, batches...)
	if got := clickhousetest.Query(t, db, "SELECT count() FROM seen"); got != "12" {
		t.Errorf("the view has %s rows, want 12", got)
	}
	if got := strings.Count(said.text(), "level="); got != 1 || !strings.Contains(said.text(), "counted other rows") {
		t.Errorf("said: %s", said.text())
	}
}

// await waits until something was said.
func (j *journal) await(t *testing.T, what string) {
	t.Helper()
	for deadline := time.Now().Add(limitless); !strings.Contains(j.text(), what); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nobody said %q: %s", what, j.text())
		}
	}
}
