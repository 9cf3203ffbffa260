// SPDX-License-Identifier: Apache-2.0

package exposition

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

const temperature = "gpufleet_gpu_temperature_celsius"

// TestWhatIsOldIsAbsent has a GPU fall silent in several ways.
func TestWhatIsOldIsAbsent(t *testing.T) {
	minute := time.Minute
	number := func(v int64) *int64 { return &v }
	for name, tt := range map[string]struct {
		then              func(n *node)
		readings, limits  string // of gpu_samples and gpu_health
		wantInfo, wantXID bool
	}{
		"fresh":          {func(*node) {}, "61", "700", true, false},
		"two ticks":      {func(n *node) { n.now = n.now.Add(2 * time.Second) }, "61", "700", true, false},
		"more than that": {func(n *node) { n.now = n.now.Add(2*time.Second + time.Millisecond) }, "", "", false, false},
		"lost":           {func(n *node) { n.happens(event.Event{UUID: uuid, Kind: "gpu_lost"}) }, "", "", false, false},
		"stuck":          {func(n *node) { n.happens(event.Event{UUID: uuid, Kind: "gpu_stuck"}) }, "", "", false, false},
		"unbound":        {func(n *node) { n.happens(event.Event{UUID: uuid, Kind: "gpu_unbound"}) }, "", "", false, false},
		"removed": {func(n *node) {
			n.happens(event.Event{UUID: uuid, Kind: "gpu_lost", XID: number(79)})
			n.happens(event.Event{UUID: uuid, Kind: "gpu_removed"})
		}, "", "", false, false},
		"another is lost":    {func(n *node) { n.happens(event.Event{UUID: "GPU-2", Kind: "gpu_lost"}) }, "61", "700", true, false},
		"no driver":          {func(n *node) { n.happens(event.Event{Kind: "driver_missing"}) }, "", "", false, false},
		"driver let go":      {func(n *node) { n.happens(event.Event{Kind: "driver_released"}) }, "", "", false, false},
		"lost with a reason": {func(n *node) { n.happens(event.Event{UUID: uuid, Kind: "gpu_lost", XID: number(79)}) }, "", "", false, true},
		"found again": {func(n *node) {
			n.happens(event.Event{UUID: uuid, Kind: "gpu_lost"})
			n.now = n.now.Add(minute)
			n.sample(0, map[string]int64{"gpu_temperature_celsius": 40})
			n.health(0, map[string]int64{"power_limit_watts": 650})
		}, "40", "650", true, false},
		"health is old": {func(n *node) {
			n.now = n.now.Add(2*minute + time.Millisecond)
			n.sample(time.Second, map[string]int64{"gpu_temperature_celsius": 62})
		}, "62", "", true, false},
		"health does not answer": {func(n *node) {
			n.health(minute, nil)
		}, "61", "", true, false},
		"one reading is not answered": {func(n *node) {
			for range 3 {
				n.now = n.now.Add(time.Second)
				n.sample(time.Second, nil)
			}
		}, "", "700", true, false},
		"one reading is not answered once": {func(n *node) {
			n.now = n.now.Add(time.Second)
			n.sample(time.Second, nil)
		}, "61", "700", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, Options{GPUs: true})
			n.identify(uuid, nil, nil)
			n.sample(0, map[string]int64{"gpu_temperature_celsius": 61})
			n.health(0, map[string]int64{"power_limit_watts": 700})
			tt.then(n)
			text := n.text()
			if got := n.value(temperature); got != tt.readings {
				t.Errorf("temperature is %q, want %q", got, tt.readings)
			}
			if got := n.value("gpufleet_gpu_power_limit_watts"); got != tt.limits {
				t.Errorf("power limit is %q, want %q", got, tt.limits)
			}
			if got := strings.Contains(text, "gpufleet_gpu_info{"); got != tt.wantInfo {
				t.Errorf("gpu_info is there: %v, want %v", got, tt.wantInfo)
			}
			if got := strings.Contains(text, `xid="79"`); got != tt.wantXID {
				t.Errorf("XID 79 is counted: %v, want %v", got, tt.wantXID)
			}
		})
	}
}

// TestSlowReadingsLast: what is read at every fourth tick counts until it should have been read twice more.
func TestSlowReadingsLast(t *testing.T) {
	n := newNode(t, Options{GPUs: true})
	n.identify(uuid, nil, nil)
	for tick := range 20 {
		n.now = n.now.Add(time.Second)
		numbers := map[string]int64{}
		if tick%4 == 0 && tick <= 8 {
			numbers["gpu_temperature_celsius"] = int64(50 + tick)
		}
		n.sample(time.Second, numbers)
		want := tick < 3 || tick >= 4 && tick <= 16 // the first time nobody knows how often it is read
		if got := n.value(temperature) != ""; got != want {
			t.Errorf("tick %d: shown: %v, want %v", tick, got, want)
		}
	}
}

func TestNoGPUWithoutAName(t *testing.T) {
	n := newNode(t, Options{GPUs: true, DCGM: true})
	n.sample(0, map[string]int64{"gpu_temperature_celsius": 61})
	if text := n.text(); text != "" {
		t.Errorf("a GPU whose UUID is not known is shown:\n%s", text)
	}
}

// TestCountersAreTotals: they move with every tick, from where the driver's own total stood.
func TestCountersAreTotals(t *testing.T) {
	const energy = "gpufleet_gpu_energy_joules_total"
	n := newNode(t, Options{GPUs: true})
	n.identify(uuid, nil, nil)
	sample := func(delta int64) {
		n.now = n.now.Add(time.Second)
		n.sample(time.Second, map[string]int64{"energy_millijoules_delta": delta})
	}
	want := func(when, want string) {
		t.Helper()
		if got := n.value(energy); got != want {
			t.Errorf("%s: energy is %q J, want %q", when, got, want)
		}
	}
	n.sample(0, nil)
	n.health(0, map[string]int64{"energy_millijoules_total": 1_000_000})
	want("before the first increment", "")
	sample(500_000)
	sample(250_000)
	want("after two ticks", "1750")
	n.health(time.Minute, map[string]int64{"energy_millijoules_total": 1_750_000})
	sample(1000)
	want("after a minute", "1751")
	// The driver was loaded again: its total begins anew, and the GPU's first row has no increment.
	n.sample(0, nil)
	n.health(0, map[string]int64{"energy_millijoules_total": 2000})
	sample(1000)
	want("after a reload", "3")
}

// TestACounterMayAnswerLate: its total becomes known after increments were seen, and they count once.
func TestACounterMayAnswerLate(t *testing.T) {
	n := newNode(t, Options{GPUs: true})
	n.identify(uuid, nil, nil)
	n.sample(0, nil)
	n.health(0, nil)
	n.sample(time.Second, map[string]int64{"energy_millijoules_delta": 4000})
	n.health(time.Minute, map[string]int64{"energy_millijoules_total": 10_000})
	n.sample(time.Second, map[string]int64{"energy_millijoules_delta": 1000})
	if got := n.value("gpufleet_gpu_energy_joules_total"); got != "11" {
		t.Errorf("energy is %q J, want 11", got)
	}
}

// TestUnits has one metric of each unit that is not a base unit.
func TestUnits(t *testing.T) {
	n := newNode(t, Options{GPUs: true})
	n.identify(uuid, nil, nil)
	n.sample(0, nil)
	n.health(0, map[string]int64{
		"throttle_power_microseconds_total": 0, "nvlink_speed_megabytes_per_second": 53_125, "power_smoothing_floor_milliwatts": 2500,
		"nvlink5_symbol_bit_error_rate": int64(math.Float64bits(1.5e-12)), "ecc_lifetime_corrected_errors_total": 7,
	})
	n.sample(time.Second, map[string]int64{
		"gpu_utilization_permille": 985, "sm_clock_megahertz": 1980, "pcie_tx_mebibytes_per_second": 3, "throttle_power_microseconds_delta": 1500,
		"memory_used_bytes": 85_899_345_920, "power_instant_watts": 700,
	})
	for name, want := range map[string]string{
		"gpufleet_gpu_utilization_ratio":                   "0.985",
		"gpufleet_gpu_sm_clock_hertz":                      "1.98e+09",
		"gpufleet_gpu_pcie_tx_bytes_per_second":            "3.145728e+06",
		"gpufleet_gpu_throttle_power_seconds_total":        "0.0015",
		"gpufleet_gpu_nvlink_speed_bytes_per_second":       "5.3125e+10",
		"gpufleet_gpu_power_smoothing_floor_watts":         "2.5",
		"gpufleet_gpu_nvlink5_symbol_bit_error_rate":       "1.5e-12",
		"gpufleet_gpu_ecc_lifetime_corrected_errors_total": "7",
		"gpufleet_gpu_memory_used_bytes":                   "8.589934592e+10",
		"gpufleet_gpu_power_instant_watts":                 "700",
	} {
		if got := n.value(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// TestXIDsAreCountedOnce: a fault is written again when more is known of it.
func TestXIDsAreCountedOnce(t *testing.T) {
	n := newNode(t, Options{GPUs: true, DCGM: true})
	n.identify(uuid, nil, nil)
	n.sample(0, nil)
	code := func(v int64) *int64 { return &v }
	for _, e := range []event.Event{
		{UUID: uuid, Kind: "xid", XID: code(31), Fault: &event.Fault{ID: 1}},
		{UUID: uuid, Kind: "xid", XID: code(31), Fault: &event.Fault{ID: 1}},
		{UUID: uuid, Kind: "xid", XID: code(31), Fault: &event.Fault{ID: 2}},
		{UUID: uuid, Kind: "xid", XID: code(31)},
		{UUID: uuid, Kind: "xid", XID: code(79), Fault: &event.Fault{ID: 3}},
		{UUID: uuid, Kind: "xid"}, // the driver did not say which
		{Kind: "xid", XID: code(62)},
	} {
		n.happens(e)
	}
	lastXID := `err_code="79",gpu="",modelName="NVIDIA H100 80GB HBM3",pci_bus_id=""} 79`
	text := n.text()
	for _, want := range []string{`xid="31"} 3`, `xid="79"} 1`, lastXID} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %s:\n%s", want, text)
		}
	}
	if strings.Count(text, "gpufleet_gpu_xid_total") != 2 {
		t.Errorf("not two codes:\n%s", text)
	}
	n.happens(event.Event{UUID: uuid, Kind: "gpu_lost"})
	if text := n.text(); !strings.Contains(text, lastXID) || !strings.Contains(text, `xid="31"} 3`) {
		t.Errorf("a lost GPU no longer says why:\n%s", text)
	}
}

// TestWhoHasAGPU: owners come and go, and share.
func TestWhoHasAGPU(t *testing.T) {
	n := newNode(t, Options{GPUs: true, DCGM: true})
	n.identify(uuid, nil, nil)
	n.sample(0, map[string]int64{"gpu_temperature_celsius": 61})
	owner := func(assignment int64, ended bool, texts map[string]string) {
		numbers := map[string]int64{"assignment_id": assignment}
		if ended {
			numbers["valid_to"] = start.UnixMilli()
		}
		cells := cellsOf(t, schema.WorkloadID, numbers, texts)
		cells[columnsOf(schema.WorkloadID).gpu] = batch.ID(wire.GPUID(uuid))
		n.Take(schema.WorkloadID, cells)
	}
	has := func(when string, want bool, part string) {
		t.Helper()
		if text := n.text(); strings.Contains(text, part) != want {
			t.Errorf("%s: has %s: %v, want %v\n%s", when, part, !want, want, text)
		}
	}
	pod := map[string]string{"pod": "train-0", "namespace": "ml", "container": "main"}
	owner(1, false, pod)
	owner(1, false, pod)
	has("one pod", true, `gpu_uuid="`+uuid+`",job_id="",mig_profile="",model="NVIDIA H100 80GB HBM3",namespace="ml",node="node-1",pci_bus_id="",pod="train-0"} 1`)
	has("one pod", true, `UUID="`+uuid+`",container="main",device="",gpu="",modelName="NVIDIA H100 80GB HBM3",namespace="ml",pci_bus_id="",pod="train-0"} 61`)
	owner(2, false, map[string]string{"job_id": "4711"})
	has("a job besides", true, `job_id="4711"`)
	has("a job besides", false, `namespace="ml",pci_bus_id="",pod="train-0"} 61`)
	owner(1, true, pod)
	owner(2, true, nil)
	owner(3, false, map[string]string{"owner_kind": "none"})
	has("nobody", false, "gpufleet_gpu_workload_info")
}

// TestMIG: an instance has its own labels, and DCGM's names take those of its GPU.
func TestMIG(t *testing.T) {
	const instance = "MIG-99999999-2222-3333-4444-555555555555"
	n := newNode(t, Options{GPUs: true, DCGM: true})
	n.identify(uuid, map[string]string{"pci_bus_id": "0000:1b:00.0"}, map[string]int64{"gpu_index": 3})
	n.identify(instance, map[string]string{"parent_gpu_uuid": uuid, "mig_profile": "1g.10gb"}, map[string]int64{"gpu_instance_id": 7})
	n.row(schema.SamplesID, instance, 0, map[string]int64{"memory_used_bytes": 1 << 30})
	text := n.text()
	for _, want := range []string{
		`gpufleet_gpu_memory_used_bytes{gpu_index="",gpu_instance="7",gpu_uuid="` + instance + `",mig_profile="1g.10gb",model="NVIDIA H100 80GB HBM3",node="node-1",pci_bus_id=""} 1.073741824e+09`,
		`DCGM_FI_DEV_FB_USED{DCGM_FI_DRIVER_VERSION="",GPU_I_ID="7",GPU_I_PROFILE="1g.10gb",Hostname="node-1",UUID="` + uuid + `",device="nvidia3",gpu="3",modelName="NVIDIA H100 80GB HBM3",pci_bus_id="00000000:1B:00.0"} 1024`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks\n%s\nin\n%s", want, text)
		}
	}
}

// TestHostileTexts: a name from outside that is no UTF-8 does not spoil the page.
func TestHostileTexts(t *testing.T) {
	n := newNode(t, Options{GPUs: true, DCGM: true})
	n.identify(uuid, map[string]string{"model": "H\xff00\n\"x\"", "pci_bus_id": "\xc3"}, nil)
	n.sample(0, map[string]int64{"gpu_temperature_celsius": 61})
	if got := n.value(temperature); got != "61" {
		t.Errorf("temperature is %q, want 61", got)
	}
}

// TestBounds: what is remembered of GPUs, codes and owners does not grow for ever.
func TestBounds(t *testing.T) {
	n := newNode(t, Options{GPUs: true})
	n.identify(uuid, nil, nil)
	for i := range 2 * mostXIDs {
		code := int64(i)
		n.happens(event.Event{UUID: uuid, Kind: "xid", XID: &code})
	}
	for i := range 2 * mostGPUs {
		n.row(schema.SamplesID, strings.Repeat("x", i), 0, nil)
	}
	for i := range 2 * mostOwners {
		cells := cellsOf(t, schema.WorkloadID, map[string]int64{"assignment_id": int64(i)}, map[string]string{"pod": "p"})
		cells[columnsOf(schema.WorkloadID).gpu] = batch.ID(wire.GPUID(uuid))
		n.Take(schema.WorkloadID, cells)
	}
	g := n.byID[wire.GPUID(uuid)]
	if len(g.xids) != mostXIDs || len(n.gpus) != mostGPUs || len(g.owners) != mostOwners {
		t.Errorf("%d codes, %d GPUs, %d owners are remembered", len(g.xids), len(n.gpus), len(g.owners))
	}
}

// TestARowCostsNoMemory: nobody may scrape for years.
func TestARowCostsNoMemory(t *testing.T) {
	n := newNode(t, Options{GPUs: true, DCGM: true})
	row := func(table uint8) []batch.Cell {
		cells := cellsOf(t, table, map[string]int64{schema.ColumnInterval: 1000}, nil)
		cells[columnsOf(table).gpu] = batch.ID(wire.GPUID(uuid))
		for i := range cells {
			cells[i].OK = true
		}
		return cells
	}
	for _, table := range []uint8{schema.SamplesID, schema.HealthID, schema.SubsecondID, schema.NetworkPortsID} {
		cells := make([]batch.Cell, columnsOf(table).count)
		if columnsOf(table).interval >= 0 && columnsOf(table).gpu >= 0 {
			cells = row(table)
		}
		if got := testing.AllocsPerRun(100, func() { n.Take(table, cells) }); got != 0 {
			t.Errorf("a row of table %d costs %v allocations", table, got)
		}
	}
}

// sink refuses rows of one table.
type sink struct{ refused uint8 }

func (s sink) Append(table uint8, _ []batch.Cell) error {
	if table == s.refused {
		return errors.New("no room")
	}
	return nil
}

func (sink) FlushDue(time.Time) error { return nil }
func (sink) FlushTable(uint8) error   { return nil }

// TestWatchShowsWhatIsStored: a row that the sink refuses is not shown.
func TestWatchShowsWhatIsStored(t *testing.T) {
	n := newNode(t, Options{GPUs: true})
	w := NewWatch(sink{refused: schema.HealthID}, n.Page)
	n.identify(uuid, nil, nil)
	id := wire.GPUID(uuid)
	for _, table := range []uint8{schema.SamplesID, schema.HealthID} {
		cells := cellsOf(t, table, map[string]int64{"ts": start.UnixMilli(), "gpu_id": int64(id)}, nil)
		if err := w.Append(table, cells); (err != nil) != (table == schema.HealthID) {
			t.Errorf("table %d: %v", table, err)
		}
	}
	if g := n.byID[id]; g.sampleAt == 0 || g.healthAt != 0 {
		t.Errorf("the page was shown samples: %v, health: %v", g.sampleAt > 0, g.healthAt > 0)
	}
}

func BenchmarkTake(b *testing.B) {
	p := New(Config{Options: Options{GPUs: true}, Interval: time.Second, HealthInterval: time.Minute})
	cells := make([]batch.Cell, samples().count)
	for i := range cells {
		cells[i] = batch.Number(int64(i) + 1)
	}
	b.ReportAllocs()
	for b.Loop() {
		p.Take(schema.SamplesID, cells)
	}
}
