// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh200"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// splitGPU is the first GPU of a machine, split in two.
func splitGPU(t *testing.T) (*machine, *device) {
	t.Helper()
	m := newMachine(dgxh200.New(), "")
	m.gpus[0].split()
	return m, one(t, m)
}

func partsOf(t *testing.T, d *device) []*part {
	t.Helper()
	devices, ret := d.Parts()
	if !ret.OK() {
		t.Fatal(ret)
	}
	parts := make([]*part, len(devices))
	for i := range devices {
		parts[i] = devices[i].(*part)
	}
	return parts
}

func TestPartTellsWhatIsItsOwn(t *testing.T) {
	_, d := splitGPU(t)
	p := partsOf(t, d)[1]
	identity, ret := p.Identity()
	if !ret.OK() || identity.Model != "NVIDIA H200" || identity.MIGProfile != "3g.71gb" || identity.ParentUUID != d.uuid ||
		*identity.GPUInstanceID != 2 || *identity.ComputeInstanceID != 0 || *identity.MemoryTotalBytes != 64<<30 || identity.PCIBusID != "0000:1a:00.0" {
		t.Errorf("identity %+v, %v", identity, ret)
	}
	if identity.Serial != "" || identity.PowerLimitMilliwatts != nil {
		t.Errorf("identity %+v has what is the whole GPU's", identity)
	}
	var values gpu.Parts
	if ret := p.Get(gpu.GetMemoryInfo, &values); !ret.OK() || values[3] != 4<<30 {
		t.Errorf("memory %v, %v", values, ret)
	}
	if ret := p.Get(gpu.GetTemperature, &values); ret != gpu.NotSupported {
		t.Errorf("the temperature of the whole GPU is the instance's: %v", ret)
	}
}

// TestPartSamplesItsOwnGPUInstance: and not the whole GPU; instances that share one have no values.
func TestPartSamplesItsOwnGPUInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, d := splitGPU(t)
		var sampled []int
		m.gpus[0].GpmMigSampleGetFunc = func(gi int, sample nvml.GpmSample) nvml.Return {
			sampled = append(sampled, gi)
			return m.gpus[0].sampleOfPart(gi, sample)
		}
		values := []gpu.ProfileValue{{MetricID: 2}}
		for _, p := range partsOf(t, d) {
			if _, ret := p.Profile(values); ret != gpu.NotReady {
				t.Errorf("first sample: %v", ret)
			}
			<-time.After(time.Second)
			if window, ret := p.Profile(values); !ret.OK() || window != time.Second || !values[0].Return.OK() {
				t.Errorf("second sample: %v, window %s, %+v", ret, window, values)
			}
		}
		if len(sampled) != 4 || sampled[0] != 1 || sampled[3] != 2 {
			t.Errorf("samples of the GPU instances %v, want 1, 1, 2, 2", sampled)
		}
		m.parts[1].GetUUIDFunc, m.parts[1].GetGpuInstanceIdFunc = answer(m.parts[1], "MIG-c"), answer(m.parts[1], 1)
		for _, p := range partsOf(t, d) {
			if _, ret := p.Profile(values); ret != gpu.NotSupported {
				t.Errorf("%s shares its GPU instance and answers %v", p.uuid, ret)
			}
		}
		if ret := d.driver.Close(); !ret.OK() {
			t.Error(ret)
		}
		if n := m.leaks(); n > 0 {
			t.Errorf("%d samples were not freed", n)
		}
	})
}

func TestPartThatIsGone(t *testing.T) {
	m, d := splitGPU(t)
	before := partsOf(t, d)
	m.parts[0].GetUUIDFunc = answer(m.parts[0], "MIG-c")
	if _, ret := before[0].Identity(); ret != gpu.NotFound {
		t.Errorf("the handle stands for another instance, and answers %v", ret)
	}
	after := partsOf(t, d)
	if after[0] == before[0] || after[0].uuid != "MIG-c" || after[1] != before[1] {
		t.Errorf("parts %s, %s after the first was made anew", after[0].uuid, after[1].uuid)
	}
	m.gpus[0].GetMigModeFunc = answerPair(m.gpus[0], nvml.DEVICE_MIG_DISABLE, nvml.DEVICE_MIG_DISABLE)
	if parts := partsOf(t, d); len(parts) != 0 {
		t.Errorf("a GPU that is whole has %d parts", len(parts))
	}
}

// TestPartThatIsMadeAnew: its UUID tells where it is and of what size, so it may be the old one; its handle is not.
func TestPartThatIsMadeAnew(t *testing.T) {
	m, d := splitGPU(t)
	before := partsOf(t, d)
	anew := m.gpus[0].part(1, "MIG-a")
	handles := m.gpus[0].GetMigDeviceHandleByIndexFunc
	m.gpus[0].GetMigDeviceHandleByIndexFunc = func(index int) (nvml.Device, nvml.Return) {
		if index == 0 {
			return anew.Device, nvml.SUCCESS
		}
		return handles(index)
	}
	m.parts[0].GetMemoryInfo_v2Func = func() (nvml.Memory_v2, nvml.Return) { return nvml.Memory_v2{}, nvml.ERROR_INVALID_ARGUMENT }
	after := partsOf(t, d)
	if after[0] == before[0] || after[0].uuid != before[0].uuid || after[1] != before[1] {
		t.Errorf("parts %p and %p of %s, %p and %p of %s", before[0], after[0], after[0].uuid, before[1], after[1], after[1].uuid)
	}
	var values gpu.Parts
	if ret := after[0].Get(gpu.GetMemoryInfo, &values); !ret.OK() {
		t.Errorf("the instance that was made anew answers %v", ret)
	}
	if again := partsOf(t, d); again[0] != after[0] || again[1] != after[1] {
		t.Error("parts that stayed are others")
	}
}

// TestListingThatFails is not a GPU without parts; a driver that cannot split is.
func TestListingThatFails(t *testing.T) {
	m, d := splitGPU(t)
	before := partsOf(t, d)
	uuid := m.parts[1].GetUUIDFunc
	for _, ret := range []nvml.Return{nvml.ERROR_INVALID_ARGUMENT, nvml.ERROR_NO_PERMISSION, nvml.ERROR_NOT_FOUND} {
		m.parts[1].GetUUIDFunc = func() (string, nvml.Return) { return "", ret }
		if parts, got := d.Parts(); got != gpu.Return(ret) || len(parts) > 0 {
			t.Errorf("an instance answers %v: %d parts, %v", gpu.Return(ret), len(parts), got)
		}
	}
	m.parts[1].GetUUIDFunc = uuid
	if after := partsOf(t, d); after[0] != before[0] || after[1] != before[1] {
		t.Error("the parts that stayed are others")
	}
	for ret, want := range map[nvml.Return]gpu.Return{
		nvml.ERROR_NOT_SUPPORTED: gpu.Success, nvml.ERROR_FUNCTION_NOT_FOUND: gpu.Success, nvml.ERROR_NO_PERMISSION: gpu.NoPermission,
	} {
		m.gpus[0].GetMigModeFunc = func() (int, int, nvml.Return) { return 0, 0, ret }
		if parts, got := d.Parts(); got != want || len(parts) > 0 {
			t.Errorf("whether it is split is %v: %d parts, %v", gpu.Return(ret), len(parts), got)
		}
	}
}
