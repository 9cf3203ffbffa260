// SPDX-License-Identifier: Apache-2.0

package player

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/agent/internal/sampler"
	"github.com/gpufleet/gpufleet/agent/recording"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestMain(m *testing.M) {
	// The compressor that all encoders share has channels: they must not belong to one test's bubble.
	if b, err := batch.New(batch.Config{MaxRows: 1}, discard{}); err == nil {
		cells := event.Event{Kind: "first"}.Cells()
		_ = errors.Join(b.Append(schema.EventsID, cells), b.FlushAll())
	}
	goleak.VerifyTestMain(m)
}

type discard struct{}

// Push implements batch.Queue.
func (discard) Push(*wire.Batch) {}

// recordedAt is when the recordings of these tests begin; no whole second.
var recordedAt = time.UnixMilli(1_780_000_000_653)

// row is a row by the names of its columns; what is NULL is not there.
type row map[string]batch.Cell

func (r row) at(unit time.Duration) time.Time {
	return time.Unix(0, r["ts"].Int*int64(unit))
}

// made is a recording that a test makes.
type made struct {
	t       *testing.T
	builder *batch.Builder
	writer  *recording.Writer
	file    bytes.Buffer
}

func newRecording(t *testing.T) *made {
	t.Helper()
	m := &made{t: t}
	var err error
	m.writer, err = recording.NewWriter(&m.file, recording.Provenance{Node: "node-1", Program: "test", Version: "1", RecordedAt: recordedAt})
	if err != nil {
		t.Fatal(err)
	}
	m.builder, err = batch.New(batch.Config{Node: wire.NodeID("node-1"), Epoch: 1, MaxRows: 3}, m)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Push implements batch.Queue.
func (m *made) Push(b *wire.Batch) {
	if err := m.writer.Write(b); err != nil {
		m.t.Error(err)
	}
}

// add records a row so long after the recording's begin. What is not given is NULL, or 0 where it cannot
// be.
func (m *made) add(table uint8, after time.Duration, given row) {
	m.t.Helper()
	t, _ := schema.TableByID(table)
	var cells []batch.Cell
	for _, c := range t.WireColumns() {
		cell, ok := given[c.Name]
		if !ok {
			cell.OK = !c.Nullable
		}
		cells = append(cells, cell)
	}
	cells[0] = integer(recordedAt.Add(after).UnixMilli())
	if t.Columns[0].Type == schema.TimeMicroseconds {
		cells[0] = integer(recordedAt.Add(after).UnixMicro())
	}
	if err := m.builder.Append(table, cells); err != nil {
		m.t.Fatal(err)
	}
}

func (m *made) load() *recording.Recording {
	m.t.Helper()
	if err := m.builder.FlushAll(); err != nil {
		m.t.Fatal(err)
	}
	r, err := recording.Load(&m.file)
	if err != nil {
		m.t.Fatal(err)
	}
	return r
}

// fiveSeconds is two GPUs over five seconds, their health at the begin and at the end.
func fiveSeconds(t *testing.T) *recording.Recording {
	t.Helper()
	m := newRecording(t)
	for i := range 5 {
		for gpu := range 2 {
			r := row{"gpu_id": integer(int64(gpu)), "counter_epoch": integer(int64(1 + i/4)), "power_instant_watts": integer(int64(100*gpu + i))}
			if i > 0 {
				r["energy_millijoules_delta"] = integer(int64(1000 + i))
			}
			m.add(schema.SamplesID, time.Duration(i)*time.Second+time.Duration(gpu)*3*time.Millisecond, r)
		}
	}
	for i := range 2 {
		m.add(schema.HealthID, time.Duration(i)*4*time.Second, row{"counter_epoch": integer(int64(1 + i)), "energy_millijoules_total": integer(int64(7000 + i))})
	}
	return m.load()
}

// played is a row that arrived.
type played struct {
	row
	table uint8
	when  time.Time
}

// sink is what a player writes to.
type sink struct {
	t       *testing.T
	rows    []played
	flushes map[uint8]int
	append  func() error // nil: nothing more
}

// Append implements sampler.Sink.
func (s *sink) Append(table uint8, cells []batch.Cell) error {
	t, _ := schema.TableByID(table)
	r := row{}
	for i, c := range t.WireColumns() {
		if cells[i].OK {
			r[c.Name] = cells[i]
		}
	}
	s.rows = append(s.rows, played{row: r, table: table, when: time.Now()})
	if s.append != nil {
		return s.append()
	}
	return nil
}

// FlushDue implements sampler.Sink.
func (s *sink) FlushDue(time.Time) error { return nil }

// FlushTable implements sampler.Sink.
func (s *sink) FlushTable(table uint8) error {
	s.flushes[table]++
	return nil
}

func (s *sink) of(table uint8) (found []played) {
	for _, r := range s.rows {
		if r.table == table {
			found = append(found, r)
		}
	}
	return found
}

// kinds are the events, joined.
func (s *sink) kinds() string {
	var kinds []string
	for _, e := range s.of(schema.EventsID) {
		kinds = append(kinds, e.row["kind"].Text)
	}
	return strings.Join(kinds, " ")
}

// play plays a recording in virtual time, at most for so long.
func play(t *testing.T, cfg Config, limit time.Duration) (*Player, *sink) {
	t.Helper()
	s := &sink{t: t, flushes: map[uint8]int{}}
	if cfg.Sink == nil {
		cfg.Sink = s
	} else {
		s = cfg.Sink.(*sink)
	}
	if cfg.Speed == 0 {
		cfg.Speed = 1
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	journal := event.NewJournal(s)
	cfg.Journal = journal
	p := New(cfg)
	if err := errors.Join(p.Run(ctx), journal.Flush()); err != nil {
		t.Fatal(err)
	}
	return p, s
}

func TestRowsComeAtTheirPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		p, s := play(t, Config{Recording: fiveSeconds(t)}, time.Hour)
		samples := s.of(schema.SamplesID)
		if len(samples) != 10 || len(s.of(schema.HealthID)) != 2 {
			t.Fatalf("%d samples and %d rows of health, want 10 and 2", len(samples), len(s.of(schema.HealthID)))
		}
		for i, r := range samples {
			second, gpu := i/2, i%2
			want := start.Add(time.Duration(second)*time.Second + time.Duration(gpu)*3*time.Millisecond)
			if got := r.at(time.Millisecond); !got.Equal(want) {
				t.Errorf("row %d is of %v, want %v", i, got, want)
			}
			if late := r.when.Sub(r.at(time.Millisecond)); late < 0 || late > step {
				t.Errorf("row %d comes %s after its time", i, late)
			}
			if got := r.row["power_instant_watts"].Int; got != int64(100*gpu+second) {
				t.Errorf("row %d: %d W", i, got)
			}
			if _, ok := r.row["energy_millijoules_delta"]; ok != (second > 0) {
				t.Errorf("row %d has an increment: %v", i, ok)
			}
		}
		stats := p.Stats()
		if stats.Rows.Load() != 10 || stats.GPUs.Load() != 2 || stats.MissedTicks.Load() != 0 || stats.Ticks.Load() < 5 {
			t.Errorf("%d rows, %d GPUs, %d ticks missed of %d", stats.Rows.Load(), stats.GPUs.Load(), stats.MissedTicks.Load(), stats.Ticks.Load())
		}
		if got := s.kinds(); got != "agent_started agent_stopped" || s.flushes[schema.EventsID] != 2 {
			t.Errorf("events %q, flushed %d times", got, s.flushes[schema.EventsID])
		}
		if took := time.Since(start); took < 4*time.Second || took > 4*time.Second+2*step {
			t.Errorf("it took %s", took)
		}
	})
}

func TestLoopsContinueTheTimeLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, s := play(t, Config{Recording: fiveSeconds(t), Loop: true}, 15*time.Second-step/2)
		samples := s.of(schema.SamplesID)
		if len(samples) != 30 {
			t.Fatalf("%d samples in three rounds of five seconds, want 30", len(samples))
		}
		// A round lasts 4.003 s and a pause of 1 s.
		const round = 5003 * time.Millisecond
		for i, r := range samples {
			n, second, gpu := i/10, i%10/2, i%2
			want := start.Add(time.Duration(n)*round + time.Duration(second)*time.Second + time.Duration(gpu)*3*time.Millisecond)
			if got := r.at(time.Millisecond); !got.Equal(want) {
				t.Errorf("row %d is of %v, want %v", i, got, want)
			}
			// Recorded are epochs 1 and 2: the next rounds have 3 and 4, 5 and 6.
			if got, want := r.row["counter_epoch"].Int, int64(2*n+1+second/4); got != want {
				t.Errorf("row %d: counter epoch %d, want %d", i, got, want)
			}
			if c, ok := r.row["energy_millijoules_delta"]; ok != (second > 0) || ok && c.Int != int64(1000+second) {
				t.Errorf("row %d: increment %v", i, c)
			}
		}
		for i, r := range s.of(schema.HealthID) {
			if got, want := r.row["energy_millijoules_total"].Int, int64(7000+i%2); got != want {
				t.Errorf("health %d: total %d, want %d as recorded", i, got, want)
			}
			if got, want := r.row["counter_epoch"].Int, int64(1+i); got != want {
				t.Errorf("health %d: counter epoch %d, want %d", i, got, want)
			}
		}
		if got, want := s.kinds(), "agent_started counters_reset counters_reset agent_stopped"; got != want {
			t.Errorf("events %q, want %q", got, want)
		}
		if got := s.of(schema.EventsID)[1].at(time.Millisecond); !got.Equal(start.Add(round)) {
			t.Errorf("the counters were reset at %v, want the begin of the second round", got)
		}
	})
}

func TestAfterAnInterruptionTheLoopGoesOnFromNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		s := &sink{t: t, flushes: map[uint8]int{}}
		s.append = func() error {
			if len(s.of(schema.SamplesID)) == 10 && time.Since(start) < time.Minute {
				<-time.After(time.Minute) // the machine slept
			}
			return nil
		}
		play(t, Config{Recording: fiveSeconds(t), Loop: true, Sink: s}, 66*time.Second)
		samples := s.of(schema.SamplesID)
		if len(samples) < 12 {
			t.Fatalf("%d samples: it does not go on", len(samples))
		}
		if late := samples[10].when.Sub(samples[10].at(time.Millisecond)); late > step {
			t.Errorf("the first row after the interruption comes %s after its time", late)
		}
	})
}

func TestSpeed(t *testing.T) {
	tests := []struct {
		speed float64
		first time.Duration // time of the first row, from the start
		takes time.Duration
	}{
		{4, 1001*time.Millisecond - 4003*time.Millisecond, 1001 * time.Millisecond},
		{0.5, 0, 8006 * time.Millisecond},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			_, s := play(t, Config{Recording: fiveSeconds(t), Speed: tt.speed}, time.Hour)
			took := time.Since(start)
			if took < tt.takes || took > tt.takes+2*step {
				t.Errorf("speed %v: it took %s, want %s", tt.speed, took, tt.takes)
			}
			for i, r := range s.of(schema.SamplesID) {
				want := start.Add(tt.first + time.Duration(i/2)*time.Second + time.Duration(i%2)*3*time.Millisecond)
				if got := r.at(time.Millisecond); got.Sub(want).Abs() > time.Millisecond {
					t.Errorf("speed %v: row %d is of %v, want %v", tt.speed, i, got, want)
				}
				if r.at(time.Millisecond).After(r.when) {
					t.Errorf("speed %v: row %d comes %s before its time", tt.speed, i, r.at(time.Millisecond).Sub(r.when))
				}
			}
		})
	}
}

// TestEveryTypeOfColumnIsPlayedAsRecorded plays rows of all tables that are full.
func TestEveryTypeOfColumnIsPlayedAsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := map[uint8]row{}
		m := newRecording(t)
		m.add(schema.EventsID, 0, nil) // so that there is something to wait for
		for _, table := range schema.Tables() {
			r := row{}
			for i, c := range table.WireColumns() {
				r[c.Name] = integer(int64(i % 200)) // fits every type
				if c.Type == schema.Name || c.Type == schema.Text {
					r[c.Name] = batch.Cell{Text: c.Name, OK: true}
				}
			}
			m.add(table.ID, time.Second, r)
			want[table.ID] = r
		}
		start := time.Now()
		_, s := play(t, Config{Recording: m.load()}, time.Hour)
		for _, table := range schema.Tables() {
			all := s.of(table.ID)
			got := all[0]
			if table.ID == schema.EventsID {
				got = all[2] // behind agent_started and the event at the begin
			}
			unit := time.Millisecond
			if table.Columns[0].Type == schema.TimeMicroseconds {
				unit = time.Microsecond
			}
			if at := got.at(unit); at.Sub(start.Add(time.Second)).Abs() >= time.Millisecond {
				t.Errorf("%s: row of %v, want %v", table.Name, at, start.Add(time.Second))
			}
			expected := maps.Clone(want[table.ID])
			expected["ts"] = got.row["ts"]
			if table.ID == schema.NodeInventoryID {
				expected["reading_source"] = batch.Cell{Text: "recording", OK: true}
				expected["content_hash"] = got.row["content_hash"]
			}
			if !maps.Equal(got.row, expected) {
				t.Errorf("%s: got %v\nwant %v", table.Name, got.row, expected)
			}
		}
	})
}

// TestTheNodeSaysThatItIsARecording also compares the hash with that of an observation that was one
// already.
func TestTheNodeSaysThatItIsARecording(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newRecording(t)
		columns := mustTable(schema.NodeInventoryID).WireColumns()
		for i, source := range []string{"nvml", "recording"} {
			facts := make([]batch.Cell, len(columns))
			for j := range facts {
				facts[j] = batch.Cell{Text: columns[j].Name, OK: true}
			}
			r := row{"node_name": facts[2], "reading_source": batch.Cell{Text: source, OK: true}, "gpu_count": integer(int64(8))}
			r["content_hash"] = sampler.ContentHash(cellsOf(columns, r)[2:])
			m.add(schema.NodeInventoryID, time.Duration(i)*time.Second, r)
		}
		recorded := m.load()
		_, s := play(t, Config{Recording: recorded}, time.Hour)
		rows := s.of(schema.NodeInventoryID)
		if rows[0].row["reading_source"].Text != "recording" || rows[0].row["gpu_count"].Int != 8 {
			t.Errorf("node %v", rows[0].row)
		}
		if rows[0].row["content_hash"] != rows[1].row["content_hash"] {
			t.Errorf("hashes %v and %v of equal facts", rows[0].row["content_hash"], rows[1].row["content_hash"])
		}
		before := newCursor(mustTable(schema.NodeInventoryID), recorded.Records(schema.NodeInventoryID))
		if first := before.next()[1]; first == rows[0].row["content_hash"] {
			t.Error("the hash is that of an observation through NVML")
		}
		if second := before.next()[1]; second != rows[1].row["content_hash"] {
			t.Error("the hash of an observation that did not change changed")
		}
	})
}

func mustTable(id uint8) schema.Table {
	t, _ := schema.TableByID(id)
	return t
}

func cellsOf(columns []schema.Column, r row) []batch.Cell {
	var cells []batch.Cell
	for _, c := range columns {
		cell, ok := r[c.Name]
		if !ok {
			cell.OK = !c.Nullable
		}
		cells = append(cells, cell)
	}
	return cells
}

func TestEventsDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newRecording(t)
		m.add(schema.EventsID, 0, row{"kind": batch.Cell{Text: "xid", OK: true}})
		m.add(schema.SamplesID, 10*time.Second, nil)
		s := &sink{t: t, flushes: map[uint8]int{}}
		play(t, Config{Recording: m.load(), Sink: s}, time.Minute)
		if got, want := s.kinds(), "agent_started xid agent_stopped"; got != want || s.flushes[schema.EventsID] != 2 {
			t.Errorf("events %q, flushed %d times; want %q: the first two at once, the last at the end", got, s.flushes[schema.EventsID], want)
		}
	})
}

func TestEndsWhenAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, s := play(t, Config{Recording: fiveSeconds(t)}, 2*time.Second+step/2)
		if took := time.Since(start); took > 2*time.Second+step/2 {
			t.Errorf("it took %s", took)
		}
		if n := len(s.of(schema.SamplesID)); n != 6 && n != 5 {
			t.Errorf("%d samples in 2 s", n)
		}
		events := s.of(schema.EventsID)
		if got := events[len(events)-1].row["message"].Text; got != "asked to stop" {
			t.Errorf("it says %q", got)
		}
	})
}

func TestErrorsOfTheSinkEndIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("no space")
		for fails := range 4 {
			s := &sink{t: t, flushes: map[uint8]int{}}
			s.append = func() error {
				if len(s.rows) == fails+1 {
					return broken
				}
				return nil
			}
			p := New(Config{Recording: fiveSeconds(t), Speed: 1, Sink: s, Journal: event.NewJournal(s), Logger: slog.New(slog.DiscardHandler)})
			if err := p.Run(t.Context()); !errors.Is(err, broken) {
				t.Errorf("row %d cannot be written: %v", fails, err)
			}
		}
	})
}

func TestTellsWhatIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := fiveSeconds(t)
		r.Cut = recording.ErrCut
		play(t, Config{Recording: r, Logger: slog.New(slog.NewTextHandler(&log, nil))}, time.Hour)
		if !strings.Contains(log.String(), "the end of the recording is missing") || !strings.Contains(log.String(), "recording=\"node-1: ") {
			t.Errorf("log %s", log.String())
		}
	})
}
