// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// events takes all events that wait.
func (r *rig) events() []gpu.Event {
	r.t.Helper()
	var list []gpu.Event
	for {
		event, ret := r.driver.NextEvent(0)
		if ret == gpu.Timeout {
			return list
		}
		if !ret.OK() {
			r.t.Fatalf("waiting for an event: %v", ret)
		}
		list = append(list, event)
	}
}

func TestCascades(t *testing.T) {
	all45 := slices.Repeat([]uint64{45}, 8)
	tests := []struct {
		model  Model
		driver string
		code   uint64
		want   []uint64
	}{
		{H100, "", 48, []uint64{48, 63, 94, 154}},
		{A100, "550.163.01", 48, []uint64{48, 63, 94}},
		{H100, "", 79, append([]uint64{79, 154}, all45...)},
		{H100, "", 74, []uint64{74, 154}},
		{B200, "", 74, []uint64{145, 149, 154}},
		{H100, "", 119, []uint64{119, 45}},
		{H100, "", 63, []uint64{63, 154}},
		{H100, "", 31, []uint64{31}},
	}
	for _, test := range tests {
		r := newRig(t, NodeConfig{Model: test.model, Driver: test.driver})
		identity, _ := r.devices[2].Identity()
		r.inject(Fault{Kind: XID, GPU: 2, Code: test.code})
		var got []uint64
		last := time.Time{}
		for _, e := range r.events() {
			if !e.Time.After(last) {
				t.Errorf("XID %d: event %d is not after the one before", test.code, e.Data)
			}
			last = e.Time
			if e.Kind != gpu.EventXID {
				continue
			}
			got = append(got, e.Data)
			if e.Data == test.code && (e.UUID != identity.UUID || !strings.Contains(e.Message, identity.PCIBusID[:10])) {
				t.Errorf("XID %d: UUID %s, %q; the GPU is %s at %s", e.Data, e.UUID, e.Message, identity.UUID, identity.PCIBusID)
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%v %s, XID %d: %v, want %v", test.model, test.driver, test.code, got, test.want)
		}
	}
}

func TestDoubleBitErrorLeavesItsMarks(t *testing.T) {
	r := newRig(t, NodeConfig{Model: H100, Seed: 1})
	marks := func(index int) [5]int64 {
		return [5]int64{
			r.field(index, "DEV_ECC_DBE_VOL_TOTAL"), r.field(index, "DEV_ECC_DBE_AGG_TOTAL"),
			r.field(index, "DEV_REMAPPED_UNC"), r.field(index, "DEV_REMAPPED_PENDING"),
			r.field(index, "DEV_GET_GPU_RECOVERY_ACTION"),
		}
	}
	r.inject(Fault{Kind: XID, GPU: 1, Code: 48})
	if got, want := marks(1), [5]int64{1, 1, 1, 1, 4}; got != want {
		t.Errorf("after XID 48: %v, want %v", got, want)
	}
	if got := marks(0); got != [5]int64{} {
		t.Errorf("the neighbour: %v", got)
	}
	r.inject(Fault{Kind: ReloadDriver})
	if got, want := marks(1), [5]int64{0, 1, 1, 0, 0}; got != want {
		t.Errorf("after the reload: %v, want %v", got, want)
	}
}

func TestLinkErrorTakesALinkDown(t *testing.T) {
	for _, model := range []Model{H100, B200} {
		r := newRig(t, NodeConfig{Model: model, Seed: 1})
		r.inject(Fault{Kind: XID, GPU: 4, Code: 74})
		up := int64(0)
		for link := range uint32(18) {
			v := r.ask(4, "DEV_NVLINK_GET_STATE", link)
			state, _ := v.Int()
			up += state
		}
		if up != 17 {
			t.Errorf("%v: %d links up", model, up)
		}
		if action := r.field(4, "DEV_GET_GPU_RECOVERY_ACTION"); action != 1 {
			t.Errorf("%v: recovery action %d", model, action)
		}
	}
}

func TestReloadBeginsCountersAnew(t *testing.T) {
	r := newRig(t, NodeConfig{Model: H100, Seed: 1, Workload: Burn})
	if energy := r.field(0, "DEV_TOTAL_ENERGY_CONSUMPTION"); energy < 1_000_000_000 {
		t.Errorf("%d mJ before the reload", energy)
	}
	r.inject(Fault{Kind: ReloadDriver, For: 5 * time.Second})
	if _, ret := r.driver.System(); ret != gpu.DriverNotLoaded {
		t.Errorf("versions while the driver is away: %v", ret)
	}
	if ret := r.devices[0].Fields(nil); ret != gpu.DriverNotLoaded {
		t.Errorf("fields while the driver is away: %v", ret)
	}
	r.pass(15 * time.Second)
	for i := range r.devices {
		energy := r.field(i, "DEV_TOTAL_ENERGY_CONSUMPTION")
		if low, high := int64(10*560_000), int64(10*700_000); energy < low || energy > high {
			t.Errorf("GPU %d: %d mJ in the 10 s since the reload", i, energy)
		}
	}
	if replays := r.field(0, "DEV_PCIE_REPLAY_COUNTER"); replays != 0 {
		t.Errorf("%d replays right after the reload", replays)
	}
}

func TestLostGPU(t *testing.T) {
	r := newRig(t, NodeConfig{Model: H100, Seed: 1})
	for _, f := range []Fault{{Kind: LoseGPU, GPU: 6}, {Kind: XID, GPU: 2, Code: 79}} {
		r.inject(f)
		lost := r.devices[f.GPU]
		var parts gpu.Parts
		_, identity := lost.Identity()
		_, profile := lost.(gpu.Profiler).Profile(nil)
		_, samples := lost.(gpu.Ring).Samples(gpu.RingTotalPower, 0, nil)
		for _, ret := range []gpu.Return{
			identity, lost.Fields(nil), lost.Get(gpu.GetTemperature, &parts), profile, samples,
		} {
			if ret != gpu.GPUIsLost {
				t.Errorf("a call on GPU %d: %v", f.GPU, ret)
			}
		}
	}
	r.inject(Fault{Kind: ReloadDriver}) // does not bring them back
	if left, ret := r.driver.Devices(); !ret.OK() || len(left) != 6 || slices.Contains(left, r.devices[6]) || slices.Contains(left, r.devices[2]) {
		t.Errorf("%d devices are left, %v", len(left), ret)
	}
	r.inject(Fault{Kind: Repair})
	if all, ret := r.driver.Devices(); !ret.OK() || len(all) != 8 {
		t.Errorf("%d devices after the repair, %v", len(all), ret)
	}
	if energy := r.field(6, "DEV_TOTAL_ENERGY_CONSUMPTION"); energy != 0 {
		t.Errorf("%d mJ right after the repair", energy)
	}
}

func TestGPUThatNeedsAReset(t *testing.T) {
	r := newRig(t, NodeConfig{Model: H100, Seed: 1})
	r.inject(Fault{Kind: XID, GPU: 3, Code: 119, For: time.Minute})
	if ret := r.devices[3].Fields(nil); ret != gpu.ResetRequired {
		t.Errorf("fields: %v", ret)
	}
	if all, _ := r.driver.Devices(); len(all) != 8 {
		t.Errorf("%d devices: the GPU hangs, but is there", len(all))
	}
	r.pass(time.Minute)
	if ret := r.devices[3].Fields(nil); !ret.OK() {
		t.Errorf("fields after the repair that was due: %v", ret)
	}
}

func TestBlockedCallHoldsItsGPUAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, err := NewNode(NodeConfig{Model: H100})
		if err != nil {
			t.Fatal(err)
		}
		driver := node.Driver()
		devices, _ := driver.Devices()
		if err := node.Inject(Fault{Kind: BlockCalls, GPU: 1, Symbol: "nvmlDeviceGetFieldValues"}); err != nil {
			t.Fatal(err)
		}
		result := make(chan gpu.Return, 1)
		go func() { result <- devices[1].Fields(nil) }()
		<-time.After(time.Hour)
		select {
		case ret := <-result:
			t.Errorf("the call returned: %v", ret)
		default:
		}
		if ret := devices[0].Fields(nil); !ret.OK() {
			t.Errorf("the neighbour: %v", ret)
		}
		var parts gpu.Parts
		if ret := devices[1].Get(gpu.GetTemperature, &parts); !ret.OK() {
			t.Errorf("another call: %v", ret)
		}
		if ret := driver.Close(); !ret.OK() {
			t.Errorf("closing the driver: %v", ret)
		}
		if ret := <-result; ret != gpu.Uninitialized {
			t.Errorf("the call, released: %v", ret)
		}
	})
}

func TestHiddenSymbols(t *testing.T) {
	r := newRig(t, NodeConfig{Model: H100})
	for _, symbol := range []string{
		"nvmlDeviceGetClockInfo", "nvmlDeviceGetSamples", "nvmlGpmMetricsGet", "nvmlEventSetWait_v2",
	} {
		r.inject(Fault{Kind: HideSymbol, Symbol: symbol})
	}
	var parts gpu.Parts
	sm, memory := r.devices[0].Get(gpu.GetClockSM, &parts), r.devices[7].Get(gpu.GetClockMemory, &parts)
	_, samples := r.ring(0, gpu.RingTotalPower, 0)
	_, profile := r.devices[0].(gpu.Profiler).Profile(nil)
	for _, ret := range []gpu.Return{sm, memory, samples, profile} {
		if ret != gpu.FunctionNotFound {
			t.Errorf("a call without its symbol: %v", ret)
		}
	}
	if _, ret := r.driver.NextEvent(0); ret != gpu.NotSupported {
		t.Errorf("events without their symbol: %v", ret)
	}
	r.field(0, "DEV_POWER_INSTANT")
}

func TestFaultsThatMakeNoSense(t *testing.T) {
	node, err := NewNode(NodeConfig{Model: GB200})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []Fault{
		{Kind: XID, GPU: 4, Code: 48},
		{Kind: XID, GPU: -1, Code: 48},
		{Kind: XID},
		{Kind: HideSymbol},
		{Kind: HideSymbol, Symbol: "nvmlInit_v2"},
		{Kind: SlowGPU},
		{Kind: SlowGPU, Pace: 1.1},
		{Kind: SplitGPU, GPU: 4},
		{Kind: SplitGPU, Sevenths: []int{5}},
		{Kind: SplitGPU, Sevenths: []int{4, 4}},
		{Kind: SplitGPU, Sevenths: []int{3, 3, 1}},
		{Kind: ProfileGPU, GPU: -1},
		{Kind: BindGPU + 1},
	} {
		if err := node.Inject(f); err == nil {
			t.Errorf("%+v was accepted", f)
		}
	}
}

// Nobody asks the node, and the events come when their time has come.
func TestFaultsComeByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, err := NewNode(NodeConfig{Model: H100, Seed: 8, FaultsPerGPUHour: 0.5})
		if err != nil {
			t.Fatal(err)
		}
		driver := node.Driver()
		defer driver.Close()
		begin, count := time.Now(), 0
		for time.Since(begin) < 100*time.Hour {
			asked := time.Now()
			event, ret := driver.NextEvent(time.Hour)
			switch {
			case ret == gpu.Timeout:
				if waited := time.Since(asked); waited != time.Hour {
					t.Fatalf("timed out after %v", waited)
				}
			case !ret.OK():
				t.Fatal(ret)
			case time.Since(event.Time) > time.Millisecond:
				t.Errorf("an event of %v ago", time.Since(event.Time))
			default:
				count++
			}
		}
		if count < 300 || count > 3000 { // 400 faults, most of them with several events
			t.Errorf("%d events in 100 hours of 8 GPUs", count)
		}
	})
}

func TestInjectedFaultWakesTheReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, err := NewNode(NodeConfig{Model: H100})
		if err != nil {
			t.Fatal(err)
		}
		driver, other := node.Driver(), node.Driver()
		defer driver.Close()
		begin := time.Now()
		time.AfterFunc(10*time.Second, func() {
			if err := node.Inject(Fault{Kind: XID, GPU: 7, Code: 94}); err != nil {
				t.Error(err)
			}
		})
		event, ret := driver.NextEvent(time.Hour)
		if !ret.OK() || event.Data != 94 || time.Since(begin) != 10*time.Second {
			t.Errorf("%+v, %v after %v", event, ret, time.Since(begin))
		}
		if event, ret := other.NextEvent(0); !ret.OK() || event.Data != 94 {
			t.Errorf("the other opening: %+v, %v", event, ret)
		}
		time.AfterFunc(time.Second, func() { other.Close() })
		if _, ret := other.NextEvent(time.Hour); ret != gpu.Uninitialized {
			t.Errorf("closed while waiting: %v", ret)
		}
		if ret := other.Close(); ret != gpu.Uninitialized {
			t.Errorf("closed twice: %v", ret)
		}
	})
}

// TestAProfilerHoldsTheCounters: they count nothing for others while it runs, and its process is listed.
func TestAProfilerHoldsTheCounters(t *testing.T) {
	r := newRig(t, NodeConfig{Model: H100, Seed: 1, Workload: Burn})
	busy := func() float64 { return r.profile(3, time.Second, metricGraphics)[0] }
	processes := func() (names []string) {
		entries, err := fs.ReadDir(r.node.Proc(), ".")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			text, err := fs.ReadFile(r.node.Proc(), e.Name()+"/comm")
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, strings.TrimSpace(string(text)))
		}
		return names
	}
	if got := busy(); got < 50 {
		t.Errorf("busy %v before", got)
	}
	r.inject(Fault{Kind: ProfileGPU, GPU: 3, For: 10 * time.Second})
	if got := busy(); got != 0 {
		t.Errorf("busy %v beside a profiler", got)
	}
	if got := processes(); !slices.Equal(got, append([]string{"ncu"}, slices.Repeat([]string{"gpu_burn"}, 8)...)) {
		t.Errorf("processes %q", got)
	}
	r.profile(3, 10*time.Second, metricGraphics)
	if got := busy(); got < 50 {
		t.Errorf("busy %v after", got)
	}
	if got := processes(); slices.Contains(got, "ncu") {
		t.Errorf("processes %q", got)
	}
}
