// SPDX-License-Identifier: Apache-2.0

package flight

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sent is a row of gpu_subsecond that was sent.
type sent struct {
	gpu    int64
	second float64 // since the test began
	signal string
	value  int64
	fault  int64 // 0: none
}

// sink keeps what is sent.
type sink struct {
	t     *testing.T
	began time.Time
	rows  []sent
	other int // rows of other tables
	fails error
}

func (s *sink) FlushDue(time.Time) error { return nil }

func (s *sink) Append(table uint8, cells []batch.Cell) error {
	if table != schema.SubsecondID {
		s.other++
		return s.fails
	}
	p := placesOf()
	if len(cells) != p.count || cells[p.driver].Int != driverTime(cells[p.at].Int) {
		s.t.Errorf("row %v does not fit", cells)
	}
	if cells[p.fault].OK != (cells[p.fault].Int != 0) {
		s.t.Errorf("fault %v", cells[p.fault])
	}
	s.rows = append(s.rows, sent{
		gpu: cells[p.gpu].Int, second: float64(cells[p.at].Int-s.began.UnixMicro()) / 1e6,
		signal: cells[p.signal].Text, value: cells[p.value].Int, fault: cells[p.fault].Int,
	})
	return s.fails
}

func driverTime(at int64) int64 { return at - 5_000_000 }

// sampleRow is a row as a sampler makes it.
func sampleRow(gpu int64, at time.Time, signal string, value int64, burst bool) []batch.Cell {
	p := placesOf()
	row := make([]batch.Cell, p.count)
	row[p.at], row[p.gpu], row[p.signal] = batch.Number(at.UnixMicro()), batch.Number(gpu), batch.Text(signal)
	row[p.driver], row[p.value] = batch.Number(driverTime(at.UnixMicro())), batch.Number(value)
	if burst {
		row[p.burst] = batch.Number(1)
	}
	return row
}

// recorder is a recorder with a clock that starts at 0.
type recorder struct {
	*Recorder
	*sink
}

func newRecorder(t *testing.T, change ...func(*Config)) recorder {
	t.Helper()
	s := &sink{t: t, began: time.Now()}
	cfg := Config{Sink: s, Before: 2 * time.Minute, After: time.Minute}
	for _, c := range change {
		c(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	return recorder{New(cfg), s}
}

func (r recorder) Append(table uint8, cells []batch.Cell) error {
	return r.Recorder.Append(table, cells)
}
func (r recorder) FlushDue(at time.Time) error { return r.Recorder.FlushDue(at) }

func (r recorder) at(second float64) time.Time { return r.began.Add(time.Duration(second * 1e9)) }

// sample adds one sample; its value is its second.
func (r recorder) sample(gpu int64, second float64) {
	r.t.Helper()
	if err := r.Append(schema.SubsecondID, sampleRow(gpu, r.at(second), "power_milliwatts", int64(second), false)); err != nil {
		r.t.Fatal(err)
	}
}

func (r recorder) flush() {
	r.t.Helper()
	if err := r.Flush(); err != nil {
		r.t.Fatal(err)
	}
}

// seconds are those of the rows that name a fault, in order.
func (r recorder) seconds(fault int64) (seconds []float64) {
	for _, row := range r.rows {
		if row.fault == fault {
			seconds = append(seconds, row.second)
		}
	}
	return seconds
}

func upTo(from, until int) (seconds []float64) {
	for i := from; i <= until; i++ {
		seconds = append(seconds, float64(i))
	}
	return seconds
}

// TestAFaultHasItsMinutesSent: those before it, and those after, each once; and none of another GPU.
func TestAFaultHasItsMinutesSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		for second := range 1000 {
			<-time.After(time.Second)
			for gpu := range int64(2) {
				r.sample(gpu, float64(second))
			}
			if second == 500 {
				if len(r.rows) > 0 {
					t.Errorf("%d samples sent before there was a fault", len(r.rows))
				}
				r.Trace(new(uint64(1)), 77, r.at(500))
			}
		}
		synctest.Wait()
		if got := r.seconds(77); !slices.Equal(got, upTo(380, 560)) || len(r.rows) != len(got) || r.Sent() != 181 {
			t.Errorf("seconds %v, %d rows in all", got, len(r.rows))
		}
		if r.rows[0] != (sent{gpu: 1, second: 380, signal: "power_milliwatts", value: 380, fault: 77}) {
			t.Errorf("the first row is %+v", r.rows[0])
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestFaultsThatOverlap holds the recorder against what it promises, whatever comes in which order: samples that come
// late, faults that are told of late, and many at once.
func TestFaultsThatOverlap(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			r := newRecorder(t)
			type told struct{ when, at float64 }
			var faults []told
			const end = 900
			for second := range end {
				<-time.After(time.Second)
				if second%5 == 0 { // a harvest
					for s := max(second-5, 0); s < second; s++ {
						r.sample(3, float64(s))
					}
				}
				if random.IntN(60) == 0 {
					f := told{when: float64(second), at: float64(second - random.IntN(40))}
					faults = append(faults, f)
					r.Trace(new(uint64(3)), uint64(len(faults)), r.at(f.at))
				}
				if random.IntN(4) == 0 {
					r.flush()
				}
			}
			r.flush()
			var want []float64
			for s := range end - 5 {
				if slices.ContainsFunc(faults, func(f told) bool { return f.at-120 <= float64(s) && float64(s) <= f.at+60 }) {
					want = append(want, float64(s))
				}
			}
			var got []float64
			for _, row := range r.rows {
				got = append(got, row.second)
				f := faults[row.fault-1]
				if row.second < f.at-120 || row.second > f.at+60 {
					t.Errorf("seed %d: the sample of second %g names a fault of second %g", seed, row.second, f.at)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("seed %d: faults %v: sent %v, want %v", seed, faults, got, want)
			}
		})
	}
}

// TestFaultsOfLongAgo trace nothing, however many a log holds, nor what lies between them and now.
func TestFaultsOfLongAgo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(t)
		for second := range 300 {
			<-time.After(time.Second)
			r.sample(1, float64(second))
		}
		for hours := range 3 * maxWindows {
			r.Trace(new(uint64(1)), uint64(1000+hours), r.at(300-float64(3600*(3*maxWindows-hours))))
		}
		r.Trace(new(uint64(1)), 999, r.at(109)) // of which some would be there, of a GPU that gives few
		r.flush()
		if len(r.rows) > 0 {
			t.Errorf("%d samples sent for faults of long ago, from %g on", len(r.rows), r.rows[0].second)
		}
		for i := range 3 * maxWindows { // of now, all at once
			r.Trace(new(uint64(1)), uint64(1+i), r.at(200+float64(i)))
		}
		r.flush()
		if got := len(r.rows); got != 300-80 || r.rows[0] != (sent{gpu: 1, second: 80, signal: "power_milliwatts", value: 80, fault: 1}) {
			t.Errorf("%d samples sent, the first is %+v", got, r.rows[0])
		}
	})
}

// TestWindowsThatDoNotTouch are not made one, however many there are.
func TestWindowsThatDoNotTouch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(t, func(c *Config) { c.Before, c.After = 0, time.Second })
		const faults = 2 * maxWindows // of a clock that runs ahead
		for i := range faults {
			r.Trace(new(uint64(1)), uint64(1+i), r.at(float64(10*i)))
		}
		for second := range 10 * faults {
			<-time.After(time.Second)
			r.sample(1, float64(second))
		}
		if len(r.rows) != 2*maxWindows { // two seconds of each
			t.Errorf("%d samples sent", len(r.rows))
		}
		for _, row := range r.rows {
			if at := float64(10 * (row.fault - 1)); row.second != at && row.second != at+1 || row.fault <= faults-maxWindows {
				t.Errorf("sample of second %g names the fault of second %g", row.second, at)
			}
		}
	})
}

func TestSamplesThatAreSentAnyway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(t, func(c *Config) { c.All = true })
		for second := range 10 {
			r.sample(1, float64(second))
			if second == 4 {
				r.Trace(new(uint64(1)), 9, r.at(4))
				r.flush()
			}
		}
		if got := r.seconds(0); !slices.Equal(got, upTo(0, 4)) {
			t.Errorf("without a fault %v", got)
		}
		if got := r.seconds(9); !slices.Equal(got, upTo(5, 9)) {
			t.Errorf("with a fault %v: no sample is sent twice", got)
		}
		if r.Sent() != 0 {
			t.Errorf("%d are counted as sent for the fault", r.Sent())
		}
	})
}

// TestBurstsAreSent: whether there is a fault or not. Rows of other tables go on.
func TestBurstsAreSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(t, func(c *Config) { c.Before = 0 })
		burst := func(second float64) {
			if err := r.Append(schema.SubsecondID, sampleRow(1, r.at(second), "temperature_celsius", 70, true)); err != nil {
				t.Fatal(err)
			}
		}
		r.sample(1, 1)
		burst(1)
		r.Trace(nil, 5, r.at(1.5))
		burst(2)
		burst(2) // of two bursts, by chance: a burst repeats nothing
		if err := r.Append(schema.EventsID, nil); err != nil {
			t.Fatal(err)
		}
		r.flush()
		if got := r.seconds(0); !slices.Equal(got, []float64{1}) {
			t.Errorf("without a fault %v", got)
		}
		if got := r.seconds(5); !slices.Equal(got, []float64{2, 2}) || r.other != 1 || r.Sent() != 0 {
			t.Errorf("with a fault %v, %d others, %d for it alone", got, r.other, r.Sent())
		}
	})
}

// TestATapeIsBounded: it holds the newest samples, and takes no more memory than is said.
func TestATapeIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(t, func(c *Config) { c.Before = time.Minute })
		most := 70 * samplesPerSecond
		for i := range 3*most + 17 {
			r.sample(1, float64(i)/1000)
		}
		if held := r.tapes[1]; held.n != most || len(held.ring) != most || *held.at(0) != (sample{at: r.at(float64(2*most+17) / 1000).UnixMicro(), driver: driverTime(r.at(float64(2*most+17) / 1000).UnixMicro()), what: held.at(0).what}) {
			t.Errorf("%d of %d samples from %v on", held.n, len(held.ring), held.at(0))
		}
		r.Trace(new(uint64(1)), 5, r.at(0))
		r.flush()
		if len(r.rows) != most || r.tapes[1].n != 0 {
			t.Errorf("%d rows, %d are left", len(r.rows), r.tapes[1].n)
		}
		for gpu := range int64(2 * maxTapes) {
			r.sample(gpu, 100)
		}
		if len(r.tapes) != maxTapes {
			t.Errorf("%d tapes", len(r.tapes))
		}
	})
}

func TestSamplesThatWereReadBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(t, func(c *Config) { c.All = true })
		for _, second := range []float64{1, 2, 3, 2, 3, 4} { // the rings are read anew
			r.sample(1, second)
		}
		if got := r.seconds(0); !slices.Equal(got, upTo(1, 4)) {
			t.Errorf("sent %v", got)
		}
		r.rows = nil
		p := placesOf()
		reloaded := sampleRow(1, r.at(9), "power_milliwatts", 0, false)
		reloaded[p.driver] = batch.Number(17) // another clock
		if _, goesOn := r.take(reloaded); !goesOn {
			t.Error("a sample of a driver that was loaded again is taken for one that was there")
		}
		setBack := sampleRow(1, r.at(2), "power_milliwatts", 0, false)
		setBack[p.driver] = batch.Number(driverTime(r.at(10).UnixMicro()))
		if _, goesOn := r.take(setBack); !goesOn {
			t.Error("a sample after the wall clock was set back is taken for one that was there")
		}
	})
}

func TestWhatCannotBeSentIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(t)
		r.sample(1, 1)
		r.fails = errors.New("no room")
		r.Trace(new(uint64(1)), 5, r.at(1))
		if err := r.Run(t.Context()); !errors.Is(err, r.fails) {
			t.Errorf("got %v", err)
		}
	})
}

func TestConfig(t *testing.T) {
	for _, c := range []Config{{Before: -1}, {Before: LongestBefore + 1}, {After: -1}, {After: LongestAfter + 1}} {
		if c.Validate() == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}

// FuzzPacking: a sample comes out as it went in.
func FuzzPacking(f *testing.F) {
	f.Add(uint8(0), int64(0))
	f.Add(uint8(255), int64(-1))
	f.Add(uint8(3), int64(1<<54))
	f.Fuzz(func(t *testing.T, signal uint8, value int64) {
		value = value << signalBits >> signalBits // what fits
		if s := (sample{what: what(signal, value)}); s.signal() != signal || s.value() != value {
			t.Errorf("%d, %d come out as %d, %d", signal, value, s.signal(), s.value())
		}
	})
}
