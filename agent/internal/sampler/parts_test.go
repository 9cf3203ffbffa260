// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/sim"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func simulated(t *testing.T, model sim.Model) (*sim.Node, func() (gpu.Driver, error)) {
	t.Helper()
	node, err := sim.NewNode(sim.NodeConfig{Model: model, Seed: 3, Workload: sim.Burn})
	if err != nil {
		t.Fatal(err)
	}
	return node, func() (gpu.Driver, error) { return node.Driver(), nil }
}

func split(t *testing.T, node *sim.Node, index int, sevenths ...int) {
	t.Helper()
	if err := node.Inject(sim.Fault{Kind: sim.SplitGPU, GPU: index, Sevenths: sevenths}); err != nil {
		t.Fatal(err)
	}
}

// inventory is the newest row of gpu_inventory of each GPU, by UUID.
func (r *recorder) inventory() map[string]row {
	byUUID := map[string]row{}
	for _, gpu := range r.of(schema.GPUInventoryID) {
		byUUID[gpu["gpu_uuid"].Text] = gpu
	}
	return byUUID
}

// instancesOf are the UUIDs of the MIG instances of a GPU, as the inventory has them.
func (r *recorder) instancesOf(parent string) (uuids []string) {
	for uuid, gpu := range r.inventory() {
		if gpu["parent_gpu_uuid"].Text == parent {
			uuids = append(uuids, uuid)
		}
	}
	slices.Sort(uuids)
	return uuids
}

// TestMIGInstancesAreGPUs: they have rows of their own with what is theirs, and go and come while the agent runs.
func TestMIGInstancesAreGPUs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, open := simulated(t, sim.H100)
		split(t, node, 1, 3, 4)
		s := startSampler(t, open)
		wait(20*time.Second + 500*time.Millisecond)
		driver := node.Driver()
		devices, _ := driver.Devices()
		parent := devices[1].UUID()
		driver.Close()

		first := s.rows.instancesOf(parent)
		if len(first) != 2 {
			t.Fatalf("instances %v, want 2", first)
		}
		for _, uuid := range first {
			rows := s.rowsOf(uuid)
			if len(rows) < 18 {
				t.Fatalf("instance %s has %d rows in 20 ticks", uuid, len(rows))
			}
			last := rows[len(rows)-1]
			if !last["sm_active_permille"].OK || !rows[2]["memory_used_bytes"].OK && !rows[3]["memory_used_bytes"].OK {
				t.Errorf("instance %s has %v", uuid, last)
			}
			for _, column := range []string{"power_instant_watts", "gpu_temperature_celsius", "gpu_utilization_permille", "nvlink_rx_mebibytes_per_second"} {
				if last[column].OK {
					t.Errorf("instance %s has %s, which is the whole GPU's", uuid, column)
				}
			}
		}
		if got := s.Stats().GPUs.Load(); got != 8 {
			t.Errorf("%d GPUs, want 8 without the instances", got)
		}
		if nodes := s.rows.of(schema.NodeInventoryID); nodes[len(nodes)-1]["gpu_count"].Int != 8 {
			t.Errorf("the node has %d GPUs, want 8 without the instances", nodes[len(nodes)-1]["gpu_count"].Int)
		}

		split(t, node, 1, 7) // one in the place of two
		wait(5 * time.Second)
		before := map[string]int{}
		for _, uuid := range s.rows.instancesOf(parent) {
			before[uuid] = len(s.rowsOf(uuid))
		}
		wait(10 * time.Second)
		s.stop()
		if len(before) != 3 {
			t.Errorf("instances %v, want three in all", before)
		}
		for uuid, rows := range before {
			now := len(s.rowsOf(uuid))
			if isNew := !slices.Contains(first, uuid); isNew && now-rows < 9 || !isNew && now != rows {
				t.Errorf("instance %s has %d rows more in ten seconds after the GPU was split anew; it is new: %t", uuid, now-rows, isNew)
			}
		}
		for uuid, gpu := range s.rows.inventory() {
			if gone := slices.Contains(first, uuid); gone != (gpu["removed"].Int == 1) {
				t.Errorf("inventory of %s: removed %v, want %t", uuid, gpu["removed"], gone)
			}
		}
		events := s.rows.events()
		if count(events, "gpu_lost") != 0 || count(events, "mig_changed") != 1 || count(events, "gpu_found") != 8+3 {
			t.Errorf("events %v: want one change, no loss, and 11 GPUs found", events)
		}
		if got := len(s.rowsOf(parent)); got != 35 {
			t.Errorf("the GPU that was split has %d rows in 35 ticks", got)
		}
	})
}

// TestGPUThatIsSplitAnswersLess: it is probed again, and what it no longer answers is not waited for.
func TestGPUThatIsSplitAnswersLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, open := simulated(t, sim.A100)
		split(t, node, 1, 7)
		s := startSampler(t, open)
		wait(10*time.Second + 500*time.Millisecond)
		split(t, node, 0, 2, 2, 2)
		wait(20 * time.Second)
		split(t, node, 0)
		split(t, node, 1)
		wait(20 * time.Second)
		s.stop()
		for uuid, gpu := range s.rows.inventory() {
			if gpu["parent_gpu_uuid"].OK || gpu["gpu_index"].Int > 1 {
				continue
			}
			if gpu["gpu_index"].Int == 1 {
				if rows := s.rowsOf(uuid); rows[len(rows)-1]["quality"].Int != schema.QualityRing {
					t.Errorf("the rings of a GPU that was split when it was found are not read now that it is whole")
				}
				continue
			}
			rows := s.rowsOf(uuid)
			whole, split, again := rows[8], rows[25], rows[len(rows)-1]
			if whole["quality"].Int != schema.QualityRing || again["quality"].Int != schema.QualityRing {
				t.Errorf("quality %d and %d while the GPU is whole", whole["quality"].Int, again["quality"].Int)
			}
			if split["quality"].Int&schema.QualityRing != 0 || split["power_max_watts"].OK || !split["power_instant_watts"].OK || split["gpu_utilization_permille"].OK {
				t.Errorf("row of a GPU that is split: %v", split)
			}
		}
	})
}

// TestInstancesThatChangeWithoutAnEvent: one that does not answer has its GPU asked.
func TestInstancesThatChangeWithoutAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, open := simulated(t, sim.H100)
		if err := node.Inject(sim.Fault{Kind: sim.HideSymbol, Symbol: "nvmlEventSetWait_v2"}); err != nil {
			t.Fatal(err)
		}
		split(t, node, 0, 3, 4)
		s := startSampler(t, open)
		wait(4*time.Second + 500*time.Millisecond)
		split(t, node, 0, 1)
		wait(3 * time.Second)
		s.stop()
		for uuid, gpu := range s.rows.inventory() {
			rows := len(s.rowsOf(uuid))
			if profile := gpu["mig_profile"].Text; profile == "1g.10gb" && rows != 1 || profile != "1g.10gb" && profile != "" && rows != 3 {
				t.Errorf("instance %s has %d rows", profile, rows)
			}
		}
		if got := len(s.rows.inventory()); got != 8+3 {
			t.Errorf("%d GPUs and instances, want 11", got)
		}
	})
}

// TestPartsOfALostGPUAreGone: the loss is told once, of the GPU.
func TestPartsOfALostGPUAreGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, open := simulated(t, sim.H200)
		split(t, node, 4, 1, 1, 1)
		s := startSampler(t, open)
		wait(5*time.Second + 500*time.Millisecond)
		if err := node.Inject(sim.Fault{Kind: sim.LoseGPU, GPU: 4, For: time.Minute}); err != nil {
			t.Fatal(err)
		}
		wait(30 * time.Second)
		if events := s.rows.events(); count(events, "gpu_lost") != 1 {
			t.Errorf("events %v: want one loss", events)
		}
		wait(2 * time.Minute)
		rows := map[string]int{}
		for uuid, gpu := range s.rows.inventory() {
			if gpu["parent_gpu_uuid"].OK {
				rows[uuid] = len(s.rowsOf(uuid))
			}
		}
		wait(10 * time.Second)
		s.stop()
		if len(rows) != 3 {
			t.Errorf("instances %v, want 3", rows)
		}
		for uuid, before := range rows {
			all := s.rowsOf(uuid)
			if len(all)-before < 9 {
				t.Errorf("instance %s of the GPU that was found again has %d rows more in ten seconds", uuid, len(all)-before)
			}
			if first, last := all[0]["counter_epoch"].Int, all[len(all)-1]["counter_epoch"].Int; last <= first {
				t.Errorf("instance %s is in counter epoch %d, then in %d", uuid, first, last)
			}
		}
	})
}

// splitDevice is a fakeDevice whose parts a test scripts.
type splitDevice struct {
	*fakeDevice

	parts []*fakeDevice
	ret   gpu.Return // of Parts
}

func (d *splitDevice) Parts() ([]gpu.Device, gpu.Return) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.ret.OK() {
		return nil, d.ret
	}
	var parts []gpu.Device
	for _, p := range d.parts {
		parts = append(parts, p)
	}
	return parts, d.ret
}

// splitDriver lists one GPU that is split.
type splitDriver struct {
	*fakeDriver

	device *splitDevice
}

func (d splitDriver) Devices() ([]gpu.Device, gpu.Return) {
	return []gpu.Device{d.device}, gpu.Success
}

// TestInstancesOfAListingThatFailsStay: one that vanishes while they are listed makes the call fail, with codes that else
// mean that there is no use in asking.
func TestInstancesOfAListingThatFailsStay(t *testing.T) {
	for _, ret := range []gpu.Return{gpu.InvalidArgument, gpu.NoPermission, gpu.NotFound, gpu.Unknown} {
		synctest.Test(t, func(t *testing.T) {
			fake := newFakeDriver(1)
			d := splitDriver{fake, &splitDevice{fakeDevice: fake.devices[0], parts: []*fakeDevice{newFakeDevice(fake, "MIG-0"), newFakeDevice(fake, "MIG-1")}}}
			s := startSampler(t, func() (gpu.Driver, error) { return d, nil })
			wait(5*time.Second + 500*time.Millisecond)
			d.device.change(func() { d.device.ret = ret })
			wait(2 * time.Minute)
			s.stop()
			for _, uuid := range []string{"MIG-0", "MIG-1"} {
				if got := len(s.rowsOf(uuid)); got < 123 {
					t.Errorf("%v: %s has %d rows in 125 ticks", ret, uuid, got)
				}
			}
		})
	}
}

// TestInstanceThatIsMadeAnew has a worker for the new handle.
func TestInstanceThatIsMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := newFakeDriver(1)
		old, anew := newFakeDevice(fake, "MIG-0"), newFakeDevice(fake, "MIG-0")
		anew.set("DEV_MEMORY_TEMP", 0, 77)
		d := splitDriver{fake, &splitDevice{fakeDevice: fake.devices[0], parts: []*fakeDevice{old}}}
		s := startSampler(t, func() (gpu.Driver, error) { return d, nil })
		wait(5*time.Second + 500*time.Millisecond)
		old.change(func() { old.answer = gpu.InvalidArgument })
		d.device.change(func() { d.device.parts = []*fakeDevice{anew} })
		wait(10 * time.Second)
		s.stop()
		rows := s.rowsOf("MIG-0")
		last := rows[len(rows)-1]
		if len(rows) < 11 || last["memory_temperature_celsius"].Int != 77 || last["counter_epoch"].Int <= rows[0]["counter_epoch"].Int {
			t.Errorf("%d rows in 15 ticks, the last is %v", len(rows), last)
		}
		if s.rows.inventory()["MIG-0"]["removed"].OK {
			t.Error("the instance that was made anew is removed")
		}
	})
}

// TestGPUTellsWhoUsesItsInstances: they are not asked themselves, which would be a second GPU of that name.
func TestGPUTellsWhoUsesItsInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, open := simulated(t, sim.H100)
		split(t, node, 2, 3, 3)
		var instances, told int
		s := startSampler(t, open, func(c *Config) {
			c.UsageInterval = 5 * time.Second
			c.Usage = func(u Usage) {
				told++
				instances += len(u.Instances)
				if strings.HasPrefix(u.UUID, "MIG-") {
					t.Errorf("%s was asked who uses it", u.UUID)
				}
			}
		})
		wait(12*time.Second + 500*time.Millisecond)
		s.stop()
		if told != 3*8 || instances != 3*2 {
			t.Errorf("%d answers with %d instances, want three of each GPU with two", told, instances)
		}
	})
}

// TestGPUThatIsMadeWholeHasNoInstances: who uses those of before is not told for ever.
func TestGPUThatIsMadeWholeHasNoInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, open := simulated(t, sim.H100)
		split(t, node, 2, 3, 3)
		latest := map[string]int{}
		most := 0
		s := startSampler(t, open, func(c *Config) {
			c.UsageInterval = 5 * time.Second
			c.Usage = func(u Usage) {
				latest[u.UUID] = len(u.Instances)
				most = max(most, len(u.Instances))
			}
		})
		wait(12*time.Second + 500*time.Millisecond)
		split(t, node, 2)
		wait(20 * time.Second)
		s.stop()
		for uuid, instances := range latest {
			if instances != 0 {
				t.Errorf("%s was made whole, and has %d instances", uuid, instances)
			}
		}
		if most != 2 || len(latest) != 8 {
			t.Errorf("%d instances at most, of %d GPUs; want two, of eight", most, len(latest))
		}
	})
}

func TestEveryInstanceHasAnIDOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, open := simulated(t, sim.H100)
		for i := range node.GPUs() {
			split(t, node, i, 1, 1, 1, 1, 1, 1, 1)
		}
		s := startSampler(t, open)
		wait(3*time.Second + 500*time.Millisecond)
		s.stop()
		ids := map[uint64]string{}
		for uuid := range s.rows.inventory() {
			ids[wire.GPUID(uuid)] = uuid
		}
		if len(ids) != 8*8 {
			t.Errorf("%d GPUs and instances, want 64", len(ids))
		}
	})
}
