// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/schema"
)

// sample reads a device once, after probing it.
func sample(t *testing.T, d *fakeDevice) (*worker, row) {
	t.Helper()
	w := newWorker(d, manner{branch: 580, interval: time.Second, now: time.Now, clocks: clocksSince(time.Now())}, 1)
	serve(t, w, request{attach: true, health: true})
	r := newRecorder()
	if err := r.Append(schema.SamplesID, w.sampleCells); err != nil {
		t.Fatal(err)
	}
	if err := r.Append(schema.HealthID, w.healthCells); err != nil {
		t.Fatal(err)
	}
	merged := r.rows[schema.SamplesID][0]
	maps.Copy(merged, r.rows[schema.HealthID][0])
	return w, merged
}

func TestFirstSupportedSourceIsUsed(t *testing.T) {
	d := newFakeDriver(1).devices[0]
	d.set("DEV_NVLINK_THROUGHPUT_DATA_TX", gpu.ScopeAll, 7)
	if _, r := sample(t, d); r["nvlink_tx_bytes_total"].Int != 7*1024 {
		t.Errorf("NVLink bytes by the driver's sum: %v, want 7 KiB", r["nvlink_tx_bytes_total"])
	}
	d.set(linkCountField, 0, 3)
	for link := range uint32(3) {
		d.set("DEV_NVLINK_COUNT_XMIT_BYTES", link, int64(100+link))
	}
	if _, r := sample(t, d); r["nvlink_tx_bytes_total"].Int != 303 {
		t.Errorf("NVLink bytes by link: %v, want 303", r["nvlink_tx_bytes_total"])
	}
}

func TestSumIsAbsentWhenOneLinkDoesNotAnswer(t *testing.T) {
	d := newFakeDriver(1).devices[0]
	d.set(linkCountField, 0, 2)
	d.set("DEV_NVLINK_COUNT_XMIT_BYTES", 0, 5)
	d.set("DEV_NVLINK_COUNT_XMIT_BYTES", 1, 5)
	w, _ := sample(t, d)
	id, _ := gpu.FieldID("DEV_NVLINK_COUNT_XMIT_BYTES", gpu.OlderNumbering)
	delete(d.fields, [2]uint32{id, 1})
	serve(t, w, request{health: true})
	for i, m := range allMetrics() {
		if m.Name == "nvlink_tx_bytes" && w.readings[i].ok {
			t.Errorf("the sum over the links that answer was taken: %d", w.readings[i].value)
		}
	}
}

func TestUnsupportedFieldsAreNotAskedAgain(t *testing.T) {
	d := newFakeDriver(1).devices[0]
	d.set("DEV_POWER_INSTANT", 0, 1)
	w, _ := sample(t, d)
	serve(t, w, request{health: true})
	serve(t, w, request{health: true})
	power, _ := gpu.FieldID("DEV_POWER_INSTANT", gpu.OlderNumbering)
	energy, _ := gpu.FieldID("DEV_TOTAL_ENERGY_CONSUMPTION", gpu.OlderNumbering)
	if d.asked[power] < 3 || d.asked[energy] != 1 {
		t.Errorf("supported field asked %d times, unsupported one %d times", d.asked[power], d.asked[energy])
	}
}

func TestEveryReadingIsOneFieldCall(t *testing.T) {
	d := newFakeDriver(1).devices[0]
	d.set("DEV_POWER_INSTANT", 0, 1)
	d.set("DEV_TOTAL_ENERGY_CONSUMPTION", 0, 1)
	w, _ := sample(t, d)
	w.calls = 0
	serve(t, w, request{})
	if w.calls != 1 {
		t.Errorf("%d driver calls for a tick of a GPU that answers fields alone", w.calls)
	}
}

func TestProfileValuesArePerMille(t *testing.T) {
	d := newFakeDriver(1).devices[0]
	d.profile = func(values []gpu.ProfileValue) gpu.Return {
		for i := range values {
			values[i].Return, values[i].Value = gpu.Success, 12.34
			if values[i].MetricID == 2 {
				values[i].Return = gpu.NotSupported
			}
		}
		return gpu.Success
	}
	_, r := sample(t, d)
	if r["graphics_active_permille"].Int != 123 {
		t.Errorf("12.34 %% is stored as %v", r["graphics_active_permille"])
	}
	if c, ok := r["sm_active_permille"]; ok {
		t.Errorf("a metric that is not supported is stored as %d", c.Int)
	}
	if r["pcie_tx_mebibytes_per_second"].Int != 12 {
		t.Errorf("12.34 MiB/s is stored as %v", r["pcie_tx_mebibytes_per_second"])
	}
}

// TestSlowProfilesAreAskedSeldom: with the others, so that all are of one window, and NULL in the rows between.
func TestSlowProfilesAreAskedSeldom(t *testing.T) {
	const graphics, sm = 1, 2
	d := newFakeDriver(1).devices[0]
	var asked [][]uint32
	refused := map[uint32]bool{}
	d.profile = func(values []gpu.ProfileValue) gpu.Return {
		var ids []uint32
		for i := range values {
			values[i].Return, values[i].Value = gpu.Success, 10
			if refused[values[i].MetricID] {
				values[i].Return = gpu.NotSupported
			}
			ids = append(ids, values[i].MetricID)
		}
		asked = append(asked, ids)
		return gpu.Success
	}
	w, _ := sample(t, d)
	columns := cellIndex(schema.SamplesID)
	for name, r := range map[string]struct {
		request
		slow bool
	}{"tick": {request{}, false}, "harvest": {request{harvest: true}, false}, "10 s": {request{slow: true}, true}, "minute": {request{health: true}, false}} {
		asked = nil
		serve(t, w, r.request)
		if len(asked) != 1 || slices.Contains(asked[0], graphics) != r.slow || !slices.Contains(asked[0], sm) {
			t.Errorf("%s: asked for %v", name, asked)
		}
		if w.sampleCells[columns["graphics_active_permille"]].OK != r.slow || !w.sampleCells[columns["sm_active_permille"]].OK {
			t.Errorf("%s: graphics is %v, SM %v", name, w.sampleCells[columns["graphics_active_permille"]], w.sampleCells[columns["sm_active_permille"]])
		}
	}
	refused[graphics], refused[3] = true, true
	serve(t, w, request{slow: true})
	asked = nil
	serve(t, w, request{slow: true})
	serve(t, w, request{})
	if len(asked) != 2 || !slices.Equal(asked[0], asked[1]) || slices.Contains(asked[0], graphics) || slices.Contains(asked[0], 3) || !slices.Contains(asked[0], sm) {
		t.Errorf("of what the GPU does not have: asked for %v", asked)
	}
}

func TestTickAllocatesNothing(t *testing.T) {
	d := newFakeDriver(1).devices[0]
	d.set("DEV_POWER_INSTANT", 0, 1)
	d.getters[gpu.GetUtilizationRates] = []int64{50, 20}
	w, _ := sample(t, d)
	if n := testing.AllocsPerRun(100, func() { serve(t, w, request{}) }); n > 0 {
		t.Errorf("%.0f allocations a tick", n)
	}
}

func serve(t *testing.T, w *worker, r request) {
	t.Helper()
	if ret := w.serve(r); !ret.OK() {
		t.Fatalf("read: %v", ret)
	}
}

func TestPCIeBytesWrapAndAreUnknownWhenTooFast(t *testing.T) {
	now := time.Unix(1000, 0)
	d := newFakeDriver(1).devices[0]
	rate := 1.0 // MiB/s
	d.profile = func(values []gpu.ProfileValue) gpu.Return {
		for i := range values {
			values[i].Return, values[i].Value = gpu.Success, rate
		}
		return gpu.Success
	}
	w := newWorker(d, manner{branch: 580, interval: time.Second, now: func() time.Time { return now }, clocks: clocksSince(time.Now())}, 1)
	read := func(value int64, r request) row {
		now = now.Add(time.Second)
		d.set("DEV_PCIE_COUNT_TX_BYTES", 0, value)
		serve(t, w, r)
		return sampleRow(t, w)
	}
	read(3000, request{attach: true})
	if r := read(1000, request{}); r["pcie_tx_bytes_delta"].Int != 1<<32-2000 || r["counter_epoch"].Int != 1 {
		t.Errorf("a counter that fell gained %v in epoch %d, want a wrap", r["pcie_tx_bytes_delta"], r["counter_epoch"].Int)
	}
	rate = 4096
	if c, ok := read(2000, request{})["pcie_tx_bytes_delta"]; ok {
		t.Errorf("at 4 GiB/s it gained %d", c.Int)
	}
}

func TestLinksThatAnswerAreKept(t *testing.T) {
	d := newFakeDriver(1).devices[0]
	d.set(linkCountField, 0, 4)
	d.set("DEV_NVLINK_COUNT_XMIT_BYTES", 1, 10)
	d.set("DEV_NVLINK_COUNT_XMIT_BYTES", 3, 20)
	w, r := sample(t, d)
	if r["nvlink_tx_bytes_total"].Int != 30 {
		t.Errorf("sum of links 1 and 3 is %v, want 30", r["nvlink_tx_bytes_total"])
	}
	d.set("DEV_NVLINK_COUNT_XMIT_BYTES", 0, 1000) // link 0 comes up
	serve(t, w, request{reprobe: true, health: true})
	if c, ok := sampleRow(t, w)["nvlink_tx_bytes_delta"]; ok {
		t.Errorf("another set of links gained %d", c.Int)
	}
	d.set("DEV_NVLINK_COUNT_XMIT_BYTES", 0, 1005)
	serve(t, w, request{})
	if c := sampleRow(t, w)["nvlink_tx_bytes_delta"]; c.Int != 5 || !c.OK {
		t.Errorf("the links gained %v, want 5", c)
	}
}

func TestProbeThatFailsIsDoneAgain(t *testing.T) {
	d := newFakeDriver(1).devices[0]
	d.fails = 1
	w := newWorker(d, manner{branch: 580, interval: time.Second, now: time.Now, clocks: clocksSince(time.Now())}, 1)
	if ret := w.serve(request{attach: true}); ret.OK() {
		t.Fatal("a probe that failed is taken for one")
	}
	serve(t, w, request{attach: true})
	d.fails = 1
	serve(t, w, request{reprobe: true})
	d.set("DEV_POWER_INSTANT", 0, 100_000)
	serve(t, w, request{})
	if r := sampleRow(t, w); r["power_instant_watts"].Int != 100 {
		t.Errorf("row %v: the probe that failed was not done again", r)
	}
}
