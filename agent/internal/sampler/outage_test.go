// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/schema"
)

func TestNodeWithoutADriverIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startSampler(t, func() (gpu.Driver, error) { return nil, errors.New("no library") })
		wait(10 * time.Minute)
		events, nodes := s.rows.events(), s.rows.of(schema.NodeInventoryID)
		if count(events, "driver_missing") != 1 {
			t.Errorf("events %v: want the driver missed once", events)
		}
		if why := s.Stats().Missing.Load(); why == nil || *why != "cannot be opened: no library" {
			t.Errorf("the driver is missing because %v", why)
		}
		if len(nodes) != 1 {
			t.Fatalf("%d observations of the node, want 1", len(nodes))
		}
		if c, ok := nodes[0]["gpu_count"]; ok {
			t.Errorf("gpu_count is %d, and nobody counted", c.Int)
		}
		s.rows.mu.Lock()
		if s.rows.due < 500 {
			t.Errorf("batches were looked at %d times in ten minutes", s.rows.due)
		}
		s.rows.mu.Unlock()
		s.stop()
	})
}

func TestUnloadedDriverGivesNoRowsAndIsOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := newFakeDriver(2), newFakeDriver(2)
		second.version = "590.1"
		drivers := []*fakeDriver{first, second}
		s := startSampler(t, func() (gpu.Driver, error) {
			d := drivers[0]
			drivers = drivers[1:]
			return d, nil
		})
		wait(3500 * time.Millisecond)
		for _, d := range first.devices {
			d.change(func() { d.answer = gpu.DriverNotLoaded })
		}
		wait(20 * time.Second)
		if why := s.Stats().Missing.Load(); why != nil {
			t.Errorf("the driver that answers is missing: %s", *why)
		}
		s.stop()
		events := s.rows.events()
		for kind, want := range map[string]int{"driver_missing": 1, "driver_recovered": 1, "driver_changed": 1, "gpu_found": 2, "gpu_lost": 0} {
			if count(events, kind) != want {
				t.Errorf("events %v: want %s %d times", events, kind, want)
			}
		}
		for _, r := range s.rowsOf("GPU-0") {
			if _, ok := r["memory_temperature_celsius"]; !ok {
				t.Errorf("row without values: %v", r)
			}
		}
		rows := s.rowsOf("GPU-0")
		if first, last := rows[0]["counter_epoch"].Int, rows[len(rows)-1]["counter_epoch"].Int; first != 1 || last != 2 {
			t.Errorf("counter epochs %d and %d, want 1 and 2", first, last)
		}
	})
}

func TestGPUThatNeedsAResetIsReportedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(2)
		s := startSampler(t, opening(d))
		wait(3500 * time.Millisecond)
		sick := d.devices[1]
		sick.change(func() { sick.answer = gpu.ResetRequired })
		wait(30 * time.Minute)
		if events := s.rows.events(); count(events, "gpu_lost") != 1 {
			t.Errorf("events %v: want the loss once", events)
		}
		if nodes := s.rows.of(schema.NodeInventoryID); len(nodes) != 1 {
			t.Errorf("%d observations of a node that did not change", len(nodes))
		}
		sick.change(func() { sick.answer = gpu.Success })
		wait(10 * time.Minute)
		s.stop()
		if events := s.rows.events(); count(events, "gpu_recovered") != 1 || count(events, "gpu_found") != 2 {
			t.Errorf("events %v: want one recovery, and nothing found twice", events)
		}
		rows := s.rowsOf(sick.uuid)
		if got := rows[len(rows)-1]["counter_epoch"].Int; got != 2 {
			t.Errorf("counter epoch %d after the GPU was found again, want 2", got)
		}
	})
}

func TestGPUThatAppearsIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(1)
		s := startSampler(t, opening(d))
		appear := func(uuid string) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.devices = append(d.devices, newFakeDevice(d, uuid))
		}
		wait(3500 * time.Millisecond)
		appear("GPU-1")
		d.events <- gpu.Event{Time: time.Now(), UUID: "GPU-0", Kind: gpu.EventMIGConfig, Data: 3, GI: gpu.NoInstance, CI: gpu.NoInstance}
		wait(3 * time.Second)
		if len(s.rowsOf("GPU-1")) == 0 {
			t.Error("not found after a MIG event")
		}
		appear("GPU-2")
		wait(time.Hour)
		s.stop()
		if len(s.rowsOf("GPU-2")) == 0 {
			t.Error("not found at the inventory interval")
		}
		for _, e := range s.rows.of(schema.EventsID) {
			if c, ok := e["count"]; ok {
				t.Errorf("event %s has count %d", e["kind"].Text, c.Int)
			}
		}
	})
}

func TestChangedIdentityIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(1)
		s := startSampler(t, opening(d))
		wait(20 * time.Minute)
		d.devices[0].change(func() { d.devices[0].limit = 300_000 })
		wait(20 * time.Minute)
		s.stop()
		if rows := s.rows.of(schema.GPUInventoryID); len(rows) != 2 || rows[1]["power_limit_milliwatts"].Int != 300_000 {
			t.Errorf("observations %v: want the first and the changed one", rows)
		}
	})
}

func TestGPUCountIsAbsentWhenTheListingFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(1)
		d.listing = gpu.Unknown
		s := startSampler(t, opening(d))
		wait(3 * time.Second)
		s.stop()
		nodes := s.rows.of(schema.NodeInventoryID)
		if _, ok := nodes[0]["gpu_count"]; ok || len(nodes) != 1 {
			t.Errorf("observations %v: want one without a count", nodes)
		}
	})
}

func TestRowHasTheTimeAtWhichTheCallReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(1)
		s := startSampler(t, opening(d))
		wait(3500 * time.Millisecond)
		release := d.devices[0].hang()
		wait(20 * time.Second)
		release()
		wait(100 * time.Millisecond)
		s.stop()
		rows := s.rowsOf("GPU-0")
		last := rows[len(rows)-1]
		if got := last["interval_milliseconds"].Int; got < 20_000 {
			t.Errorf("a row after a hang of 20 s covers %d ms", got)
		}
	})
}

func TestNextTickIsNeverTheOneJustDone(t *testing.T) {
	planned := time.Unix(100, 0)
	for now, want := range map[time.Duration]time.Duration{
		-time.Millisecond:       time.Second, // the wall clock runs slow
		time.Millisecond:        time.Second,
		-5 * time.Second:        -4 * time.Second, // it was set back
		2500 * time.Millisecond: 3 * time.Second,
	} {
		if got := nextTick(after(planned.Add(now), planned, time.Second), time.Second, 0).Sub(planned); got != want {
			t.Errorf("%s after the planned tick: next one after %s, want %s", now, got, want)
		}
	}
}

func TestOneResetIsOneEventAndOneEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(1)
		set := func(energy, ecc int64) {
			d.devices[0].set("DEV_TOTAL_ENERGY_CONSUMPTION", 0, energy)
			d.devices[0].set("DEV_ECC_DBE_VOL_TOTAL", 0, ecc)
		}
		set(1000, 10)
		s := startSampler(t, opening(d))
		epoch := func() int64 {
			rows := s.rowsOf("GPU-0")
			return rows[len(rows)-1]["counter_epoch"].Int
		}
		wait(3*time.Minute + 500*time.Millisecond)
		set(10, 1) // everything falls
		wait(3 * time.Minute)
		if n := count(s.rows.events(), "counters_reset"); n != 1 || epoch() != 2 {
			t.Errorf("a reload: %d events, epoch %d; want one and 2", n, epoch())
		}
		set(10, 0) // only a counter of a minute
		wait(3 * time.Minute)
		if n := count(s.rows.events(), "counters_reset"); n != 2 || epoch() != 3 {
			t.Errorf("a counter of a minute fell: %d events, epoch %d; want two and 3", n, epoch())
		}
		s.stop()
		health := s.rows.of(schema.HealthID)
		if !slices.ContainsFunc(health, func(r row) bool { return r["counter_epoch"].Int == 3 }) {
			t.Error("gpu_health has no row of the new epoch")
		}
	})
}

// TestANodeThatLearnsWhereItIs writes one more observation, at the next tick, and keeps its name.
func TestANodeThatLearnsWhereItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startSampler(t, opening(newFakeDriver(1)))
		wait(10500 * time.Millisecond)
		before := len(s.rows.of(schema.NodeInventoryID))
		s.SetNode(Node{Name: "another", ReadingSource: "nvml", Region: "us-east-1", TopologyTiers: [4]string{"leaf"}, PlaceSource: "aws"})
		wait(10 * time.Second)
		s.stop()
		nodes := s.rows.of(schema.NodeInventoryID)
		if before != 1 || len(nodes) != 2 {
			t.Fatalf("%d observations before, %d after, want 1 and 2", before, len(nodes))
		}
		now := nodes[1]
		if now["region"].Text != "us-east-1" || now["topology_tier_0"].Text != "leaf" || now["place_source"].Text != "aws" || now["node_name"] != nodes[0]["node_name"] {
			t.Errorf("observation %v", now)
		}
	})
}
