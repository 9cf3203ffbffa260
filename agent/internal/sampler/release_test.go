// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/schema"
)

// drivers gives out a new driver each time that one is opened.
type drivers struct {
	mu  sync.Mutex
	all []*fakeDriver
}

func (d *drivers) open() (gpu.Driver, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, newFakeDriver(2))
	return d.all[len(d.all)-1], nil
}

func (d *drivers) opened() []*fakeDriver {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.all)
}

func isClosed(d *fakeDriver) bool { return !isOpen(d.closed) }

// closing does something when it is closed.
type closing struct {
	*fakeDriver
	also func()
}

// Close implements gpu.Driver.
func (c closing) Close() gpu.Return {
	ret := c.fakeDriver.Close()
	c.also()
	return ret
}

// TestReleaseIsToldAtAStop: an agent that is stopped as soon as it has let go of its driver, as by a reload, still says so.
func TestReleaseIsToldAtAStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stopping := make(chan struct{})
		stopped := make(chan struct{})
		driver := closing{newFakeDriver(1), func() { close(stopping); <-stopped }}
		s := startSampler(t, func() (gpu.Driver, error) { return driver, nil })
		wait(5500 * time.Millisecond)
		var released sync.WaitGroup
		released.Go(func() {
			if err := s.Release(t.Context(), "new driver"); err != nil {
				t.Error(err)
			}
		})
		<-stopping
		var stop sync.WaitGroup
		stop.Go(s.stop)
		synctest.Wait() // until only the driver's Close is waited for
		close(stopped)
		stop.Wait()
		released.Wait()
		if got := count(s.rows.events(), "driver_released"); got != 1 {
			t.Errorf("driver_released was written %d times", got)
		}
	})
}

func TestReleasedDriverIsClosedUntilResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d drivers
		s := startSampler(t, d.open)
		wait(5500 * time.Millisecond)
		if s.Resume() {
			t.Error("what was not released is resumed")
		}
		if err := s.Release(t.Context(), "new driver"); err != nil {
			t.Fatal(err)
		}
		if !isClosed(d.opened()[0]) {
			t.Error("the driver is not closed")
		}
		if err := s.Release(t.Context(), "again"); err != nil {
			t.Error(err)
		}
		if reason, since := s.Released(); reason != "new driver" || since.IsZero() {
			t.Errorf("released since %s: %s", since, reason)
		}
		rows := len(s.rowsOf("GPU-0"))
		wait(10 * time.Minute)
		if len(d.opened()) != 1 || len(s.rowsOf("GPU-0")) != rows || s.Stats().GPUs.Load() != 0 {
			t.Errorf("while released: opened %d times, %d more rows, %d GPUs", len(d.opened()), len(s.rowsOf("GPU-0"))-rows, s.Stats().GPUs.Load())
		}
		s.rows.mu.Lock()
		if s.rows.due < 500 {
			t.Errorf("batches were looked at %d times in ten minutes", s.rows.due)
		}
		s.rows.mu.Unlock()
		if !s.Resume() {
			t.Error("it does not resume")
		}
		wait(3 * time.Second)
		if got := len(s.rowsOf("GPU-0")) - rows; got < 2 || got > 3 {
			t.Errorf("%d rows in 3 s after it resumed", got)
		}
		s.stop()
		events := s.rows.events()
		for kind, want := range map[string]int{"driver_released": 1, "driver_resumed": 1, "driver_missing": 0, "gpu_lost": 0, "gpu_found": 2, "gpu_stuck": 0} {
			if count(events, kind) != want {
				t.Errorf("events %v: want %s %d times", events, kind, want)
			}
		}
	})
}

// TestReleaseBetweenTwoTries: a driver that cannot be opened can be released, too.
func TestReleaseBetweenTwoTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries atomic.Int64
		s := startSampler(t, func() (gpu.Driver, error) {
			tries.Add(1)
			return nil, errors.New("no library")
		})
		wait(time.Minute)
		if err := s.Release(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		before := tries.Load()
		wait(time.Hour)
		if tries.Load() != before {
			t.Errorf("it was tried %d times while it was released", tries.Load()-before)
		}
		s.Resume()
		wait(time.Minute)
		if tries.Load() == before {
			t.Error("it is not tried any more")
		}
		s.stop()
	})
}

// TestReleaseAndResumeAtOnce: nobody waits for ever, whatever the order.
func TestReleaseAndResumeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d drivers
		s := startSampler(t, d.open)
		wait(1500 * time.Millisecond)
		released := make(chan error, 1)
		go func() { released <- s.Release(t.Context(), "a") }()
		for reason := ""; reason == ""; reason, _ = s.Released() {
			wait(time.Microsecond)
		}
		s.Resume()
		if err := <-released; err != nil {
			t.Error(err)
		}
		if err := s.Release(t.Context(), "b"); err != nil {
			t.Error(err)
		}
		if last := d.opened(); !isClosed(last[len(last)-1]) {
			t.Error("the driver is not closed")
		}
		s.stop()
	})
}

// stuckDriver does not close before it is freed.
type stuckDriver struct {
	*fakeDriver
	freed chan struct{}
}

func (d stuckDriver) Close() gpu.Return {
	<-d.freed
	return d.fakeDriver.Close()
}

func TestReleaseOfADriverThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := stuckDriver{newFakeDriver(2), make(chan struct{})}
		s := startSampler(t, func() (gpu.Driver, error) { return d, nil })
		wait(2500 * time.Millisecond)
		if err := s.Release(t.Context(), "new driver"); !errors.Is(err, ErrBusy) {
			t.Errorf("got %v", err)
		}
		close(d.freed)
		s.stop()
	})
}

func TestReleaseGivesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(1)
		s := startSampler(t, opening(d))
		wait(2500 * time.Millisecond)
		release := d.devices[0].hang()
		wait(time.Second) // a call has begun
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Release(ctx, "new driver"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		release()
		s.stop()
	})
}

func TestSamplerMayStartReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d drivers
		s := startSampler(t, d.open, func(c *Config) { c.Released = "as before" })
		wait(time.Minute)
		if len(d.opened()) != 0 || count(s.rows.events(), "driver_released") != 1 {
			t.Errorf("opened %d times, events %v", len(d.opened()), s.rows.events())
		}
		if err := s.Release(t.Context(), "x"); err != nil {
			t.Error(err)
		}
		s.Resume()
		wait(5 * time.Second)
		s.stop()
		if len(s.rows.of(schema.SamplesID)) == 0 {
			t.Error("nothing is sampled after it resumed")
		}
	})
}

// TestStopWhileReleased: the program ends all the same.
func TestStopWhileReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d drivers
		s := startSampler(t, d.open)
		wait(2500 * time.Millisecond)
		if err := s.Release(t.Context(), "x"); err != nil {
			t.Error(err)
		}
		s.stop()
		if events := s.rows.events(); count(events, "agent_stopped") != 1 || count(events, "driver_resumed") != 0 || len(d.opened()) != 1 {
			t.Errorf("events %v, opened %d times", events, len(d.opened()))
		}
	})
}
