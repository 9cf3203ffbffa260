// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/sim"
)

// inTurn opens one driver after the other, and the last one again and again.
func inTurn(drivers ...gpu.Driver) func() (gpu.Driver, error) {
	opened := 0
	return func() (gpu.Driver, error) {
		opened++
		return drivers[min(opened, len(drivers))-1], nil
	}
}

// isClosed tells whether a driver was closed.
func (d *fakeDriver) isClosed() bool { return !isOpen(d.closed) }

// TestUnboundGPUIsLetGo: the driver is closed within a second, opened again without the GPU, and with it when it is bound.
func TestUnboundGPUIsLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before, without, after := newBindingDriver(2), newBindingDriver(1), newBindingDriver(2)
		var gone []string
		s := startSampler(t, inTurn(before, without, after), func(c *Config) {
			c.UsageInterval = time.Minute
			c.Usage = func(u Usage) {
				if u.Gone {
					gone = append(gone, u.UUID)
				}
			}
		})
		wait(10*time.Second + 500*time.Millisecond)
		before.changes <- gpu.Binding{Time: time.Now(), UUID: "GPU-1"}
		wait(time.Second + 100*time.Millisecond) // a wait for events ends first
		if !before.isClosed() {
			t.Error("the driver is open while a GPU is unbound")
		}
		wait(19 * time.Second)
		if got := len(s.rowsOf("GPU-0")); got < 10+14 || got > 10+16 {
			t.Errorf("the GPU that stays has %d rows in 30 ticks, of which it lacks the five that the driver is closed for", got)
		}
		if got := len(s.rowsOf("GPU-1")); got != 10 {
			t.Errorf("the GPU that was unbound has %d rows, want ten", got)
		}
		if got := s.rows.inventory()["GPU-1"]["removed"].Int; got != 1 {
			t.Errorf("the inventory of the GPU that was unbound is not ended: %d", got)
		}
		if len(gone) != 1 || gone[0] != "GPU-1" {
			t.Errorf("told of %v that they are gone", gone)
		}
		without.changes <- gpu.Binding{Time: time.Now(), UUID: "GPU-1", Bound: true}
		wait(10 * time.Second)
		s.stop()
		if s.rows.inventory()["GPU-1"]["removed"].OK {
			t.Error("the GPU that was bound again is still removed")
		}
		rows := s.rowsOf("GPU-1")
		if len(rows) < 10+5 || rows[len(rows)-1]["counter_epoch"].Int <= rows[0]["counter_epoch"].Int {
			t.Errorf("the GPU that was bound again has %d rows, the last one %v", len(rows), rows[len(rows)-1])
		}
		events := s.rows.events()
		for kind, want := range map[string]int{"gpu_unbound": 1, "driver_released": 1, "driver_resumed": 1, "gpu_removed": 1, "gpu_found": 3, "gpu_lost": 0} {
			if got := count(events, kind); got != want {
				t.Errorf("%d times %s, want %d: %v", got, kind, want, events)
			}
		}
	})
}

// TestGPUThatIsUnboundWithoutAName is what is missing afterwards, and not what was lost before, nor what is lost later.
func TestGPUThatIsUnboundWithoutAName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before, without := newBindingDriver(4), newBindingDriver(3)
		without.devices[0].lose(true)
		s := startSampler(t, inTurn(before, without))
		wait(10*time.Second + 500*time.Millisecond)
		before.devices[0].lose(true)
		wait(5 * time.Second)
		before.changes <- gpu.Binding{Time: time.Now()}
		wait(20 * time.Second)
		removed := func(uuid string) bool { return s.rows.inventory()[uuid]["removed"].OK }
		if removed("GPU-0") || removed("GPU-2") || !removed("GPU-3") {
			t.Errorf("inventory %v, want the GPU that is missing removed", s.rows.inventory())
		}
		if events := s.rows.events(); count(events, "gpu_lost") != 1 || count(events, "gpu_unbound") != 1 || count(events, "gpu_removed") != 1 {
			t.Errorf("events %v", events)
		}
		without.devices[2].lose(true)
		wait(time.Minute)
		s.stop()
		if events := s.rows.events(); removed("GPU-2") || count(events, "gpu_lost") != 2 {
			t.Errorf("events %v: a GPU that is lost later was not unbound", events)
		}
	})
}

// TestUnbindOnASimulatedNode: one of eight, with its MIG instances.
func TestUnbindOnASimulatedNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, open := simulated(t, sim.H100)
		split(t, node, 5, 3, 3)
		s := startSampler(t, open)
		wait(10*time.Second + 500*time.Millisecond)
		if err := node.Inject(sim.Fault{Kind: sim.UnbindGPU, GPU: 5}); err != nil {
			t.Fatal(err)
		}
		wait(20 * time.Second)
		var removed int
		for _, gpu := range s.rows.inventory() {
			removed += int(gpu["removed"].Int)
		}
		if removed != 3 || s.Stats().GPUs.Load() != 7 {
			t.Errorf("%d removed, %d GPUs answer; want the GPU and its two instances, and seven", removed, s.Stats().GPUs.Load())
		}
		if err := node.Inject(sim.Fault{Kind: sim.BindGPU, GPU: 5}); err != nil {
			t.Fatal(err)
		}
		wait(10 * time.Second)
		s.stop()
		for uuid, gpu := range s.rows.inventory() {
			if gpu["removed"].OK {
				t.Errorf("%s is removed, and was bound again", uuid)
			}
		}
		if events := s.rows.events(); count(events, "gpu_removed") != 1 || count(events, "gpu_lost") != 0 || count(events, "gpu_found") != 10+3 {
			t.Errorf("events %v", events)
		}
	})
}

// TestUnbindThatComesToNothing: the GPU is there again, and was never removed.
func TestUnbindThatComesToNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := newBindingDriver(2), newBindingDriver(2)
		s := startSampler(t, inTurn(first, second))
		wait(5*time.Second + 500*time.Millisecond)
		first.changes <- gpu.Binding{Time: time.Now(), UUID: "GPU-1"}
		wait(15 * time.Second)
		s.stop()
		events := s.rows.events()
		if count(events, "gpu_removed") != 0 || count(events, "gpu_recovered") != 1 || count(events, "gpu_lost") != 0 {
			t.Errorf("events %v", events)
		}
		if got := len(s.rowsOf("GPU-1")); got < 13 {
			t.Errorf("%d rows in 20 ticks", got)
		}
	})
}

// TestGPUThatIsLostForADayIsRemoved: once, and looked for less often from then on.
func TestGPUThatIsLostForADayIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(2)
		s := startSampler(t, opening(d), func(c *Config) { c.Interval, c.StuckAfter = 20*time.Second, time.Minute })
		wait(time.Minute)
		d.devices[1].lose(true)
		wait(23 * time.Hour)
		if events := s.rows.events(); count(events, "gpu_lost") != 1 || count(events, "gpu_removed") != 0 {
			t.Errorf("events %v before the day is over", events)
		}
		wait(90 * time.Minute)
		d.mu.Lock()
		listed := d.listed
		d.mu.Unlock()
		wait(5 * time.Hour)
		d.mu.Lock()
		if more := d.listed - listed; more > 6 {
			t.Errorf("%d searches in five hours for a GPU that was removed", more)
		}
		d.mu.Unlock()
		if events := s.rows.events(); count(events, "gpu_removed") != 1 {
			t.Errorf("events %v after a day", events)
		}
		if s.rows.inventory()["GPU-1"]["removed"].Int != 1 || s.rows.inventory()["GPU-0"]["removed"].OK {
			t.Errorf("inventory %v", s.rows.inventory())
		}
		d.devices[1].lose(false)
		wait(2 * time.Hour)
		s.stop()
		events := s.rows.events()
		if count(events, "gpu_found") != 3 || s.rows.inventory()["GPU-1"]["removed"].OK {
			t.Errorf("events %v: the GPU came back", events)
		}
	})
}

// TestGPUThatIsListedIsNotRemoved: one that is lost for days, and listed, is removed a day after it is listed no more.
func TestGPUThatIsListedIsNotRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(2)
		s := startSampler(t, opening(d), func(c *Config) { c.Interval, c.StuckAfter = 20*time.Second, time.Minute })
		wait(time.Minute)
		d.devices[1].change(func() { d.devices[1].answer = gpu.GPUIsLost })
		wait(50 * time.Hour)
		d.devices[1].lose(true)
		wait(23 * time.Hour)
		if events := s.rows.events(); count(events, "gpu_lost") != 1 || count(events, "gpu_removed") != 0 {
			t.Errorf("events %v: it was listed less than a day ago", events)
		}
		wait(90 * time.Minute)
		s.stop()
		if events := s.rows.events(); count(events, "gpu_removed") != 1 {
			t.Errorf("events %v after a day", events)
		}
	})
}

// TestGPUThatIsMissingAfterAReloadIsLost: nobody was there to see it go.
func TestGPUThatIsMissingAfterAReloadIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := newFakeDriver(3), newFakeDriver(2)
		s := startSampler(t, inTurn(first, second))
		wait(5*time.Second + 500*time.Millisecond)
		for _, device := range first.devices {
			device.change(func() { device.answer = gpu.Uninitialized }) // the module is unloaded
		}
		wait(time.Minute)
		s.stop()
		if events := s.rows.events(); count(events, "gpu_lost") != 1 || count(events, "driver_missing") != 1 || count(events, "driver_recovered") != 1 {
			t.Errorf("events %v: want one GPU lost", events)
		}
	})
}
