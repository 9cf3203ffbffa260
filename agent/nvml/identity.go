// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

var architectures = map[nvml.DeviceArchitecture]string{
	nvml.DEVICE_ARCH_KEPLER: "Kepler", nvml.DEVICE_ARCH_MAXWELL: "Maxwell", nvml.DEVICE_ARCH_PASCAL: "Pascal",
	nvml.DEVICE_ARCH_VOLTA: "Volta", nvml.DEVICE_ARCH_TURING: "Turing", nvml.DEVICE_ARCH_AMPERE: "Ampere",
	nvml.DEVICE_ARCH_ADA: "Ada", nvml.DEVICE_ARCH_HOPPER: "Hopper", nvml.DEVICE_ARCH_BLACKWELL: "Blackwell",
	nvml.DEVICE_ARCH_RUBIN: "Rubin",
}

// reader reads an identity call by call. Each failure leaves its own field empty; only the loss of
// the GPU is remembered, since what is left out then would look like a change of the GPU.
type reader struct {
	*device
	symbols symbols
	lost    gpu.Return
}

// ok tells whether a call succeeded, and remembers a loss.
func (r *reader) ok(ret gpu.Return) bool {
	if ret.Lost() {
		r.lost = ret
	}
	return ret.OK()
}

// Identity reads what seldom changes. A GPU that no longer tells its UUID has no identity, nor has one
// that is lost on the way: then the code says why.
func (d *device) Identity() (gpu.Identity, gpu.Return) {
	if !d.driver.life.enter() {
		return gpu.Identity{}, gpu.Uninitialized
	}
	defer d.driver.life.leave()

	if _, ret := ask(d.driver.symbols, "GetUUID", d.handle.GetUUID); !ret.OK() {
		return gpu.Identity{}, ret
	}
	r := reader{device: d, symbols: d.driver.symbols}
	identity := gpu.Identity{UUID: d.uuid}
	r.names(&identity)
	r.place(&identity)
	r.numbers(&identity)
	r.modes(&identity)
	r.limits(&identity)
	if !r.lost.OK() {
		return gpu.Identity{}, r.lost
	}
	return identity, gpu.Success
}

func (r *reader) names(identity *gpu.Identity) {
	identity.Model = r.text("GetName", r.handle.GetName)
	identity.Serial = r.text("GetSerial", r.handle.GetSerial)
	identity.BoardPartNumber = r.text("GetBoardPartNumber", r.handle.GetBoardPartNumber)
	identity.VBIOSVersion = r.text("GetVbiosVersion", r.handle.GetVbiosVersion)
	identity.InfoROMVersion = r.text("GetInforomImageVersion", r.handle.GetInforomImageVersion)
	identity.GSP = r.text("GetGspFirmwareVersion", r.handle.GetGspFirmwareVersion)
	if architecture, ret := ask(r.symbols, "GetArchitecture", r.handle.GetArchitecture); r.ok(ret) {
		identity.Architecture = architectures[architecture]
	}
	if major, minor, ret := askPair(r.symbols, "GetCudaComputeCapability", r.handle.GetCudaComputeCapability); r.ok(ret) {
		identity.ComputeCapability = fmt.Sprintf("%d.%d", major, minor)
	}
}

// place reads where the GPU sits: in the machine, in the rack, in the NVLink fabric.
func (r *reader) place(identity *gpu.Identity) {
	if pci, ret := ask(r.symbols, "GetPciInfo", r.handle.GetPciInfo); r.ok(ret) {
		identity.PCIBusID = normalBusID(characters(pci.BusId[:]))
	}
	if platform, ret := ask(r.symbols, "GetPlatformInfo", r.handle.GetPlatformInfo); r.ok(ret) {
		identity.ChassisSerial = cleaned(string(platform.ChassisSerialNumber[:]))
		// A GPU that is in no such rack answers with zeros, which place nothing.
		if identity.ChassisSerial != "" {
			identity.SlotNumber = number(platform.SlotNumber)
			identity.TrayIndex = number(platform.TrayIndex)
			identity.HostID = number(platform.HostId)
		}
	}
	// nvml.h: the other fields mean something only once the registration has completed.
	if fabric, ret := r.fabricInfo(); r.ok(ret) && fabric.State == nvml.GPU_FABRIC_STATE_COMPLETED && fabric.Status == 0 {
		identity.FabricClusterUUID = uuidText(fabric.ClusterUuid)
		identity.FabricCliqueID = number(fabric.CliqueId)
	}
}

func (r *reader) numbers(identity *gpu.Identity) {
	identity.Index = read(r, "GetIndex", r.handle.GetIndex)
	identity.Minor = read(r, "GetMinorNumber", r.handle.GetMinorNumber)
	identity.ModuleID = read(r, "GetModuleId", r.handle.GetModuleId)
	identity.PCIeMaxGeneration = read(r, "GetMaxPcieLinkGeneration", r.handle.GetMaxPcieLinkGeneration)
	identity.PCIeMaxWidth = read(r, "GetMaxPcieLinkWidth", r.handle.GetMaxPcieLinkWidth)
	if clock, ret := askOf(r.symbols, "GetMaxClockInfo", nvml.CLOCK_SM, r.handle.GetMaxClockInfo); r.ok(ret) {
		identity.MaxSMClockMegahertz = number(clock)
	}
	if clock, ret := askOf(r.symbols, "GetMaxClockInfo", nvml.CLOCK_MEM, r.handle.GetMaxClockInfo); r.ok(ret) {
		identity.MaxMemoryClockMegahertz = number(clock)
	}
	memory, ret := ask(r.symbols, "GetMemoryInfo_v2", r.handle.GetMemoryInfo_v2)
	if r.ok(ret) {
		identity.MemoryTotalBytes, identity.MemoryReservedBytes = number(memory.Total), number(memory.Reserved)
		return
	}
	// The first version of the call has the same total, and does not tell what is reserved.
	if memory, ret := ask(r.symbols, "GetMemoryInfo", r.handle.GetMemoryInfo); r.ok(ret) {
		identity.MemoryTotalBytes = number(memory.Total)
	}
}

// modes reads what is in force now, not what will be after a reset.
func (r *reader) modes(identity *gpu.Identity) {
	if current, _, ret := askPair(r.symbols, "GetEccMode", r.handle.GetEccMode); r.ok(ret) {
		identity.ECCEnabled = number(current)
	}
	if current, _, ret := askPair(r.symbols, "GetMigMode", r.handle.GetMigMode); r.ok(ret) {
		identity.MIGEnabled = number(current)
	}
	identity.PersistenceEnabled = read(r, "GetPersistenceMode", r.handle.GetPersistenceMode)
}

// limits reads what only fields tell. The temperature limits of GPUs before Ada are not among the
// fields; there they are thresholds in °C, where later GPUs count degrees below the limit.
func (r *reader) limits(identity *gpu.Identity) {
	targets := []struct {
		name      string
		into      **int64
		threshold nvml.TemperatureThresholds // TEMPERATURE_THRESHOLD_COUNT if it is no temperature
	}{
		{"DEV_POWER_CURRENT_LIMIT", &identity.PowerLimitMilliwatts, nvml.TEMPERATURE_THRESHOLD_COUNT},
		{"DEV_POWER_DEFAULT_LIMIT", &identity.PowerLimitDefaultMilliwatts, nvml.TEMPERATURE_THRESHOLD_COUNT},
		{"DEV_POWER_MIN_LIMIT", &identity.PowerLimitMinMilliwatts, nvml.TEMPERATURE_THRESHOLD_COUNT},
		{"DEV_POWER_MAX_LIMIT", &identity.PowerLimitMaxMilliwatts, nvml.TEMPERATURE_THRESHOLD_COUNT},
		{"DEV_NVLINK_LINK_COUNT", &identity.NVLinkCount, nvml.TEMPERATURE_THRESHOLD_COUNT},
		{"DEV_TEMPERATURE_SHUTDOWN_TLIMIT", &identity.ShutdownCelsius, nvml.TEMPERATURE_THRESHOLD_SHUTDOWN},
		{"DEV_TEMPERATURE_SLOWDOWN_TLIMIT", &identity.SlowdownCelsius, nvml.TEMPERATURE_THRESHOLD_SLOWDOWN},
		{"DEV_TEMPERATURE_GPU_MAX_TLIMIT", &identity.GPUMaxCelsius, nvml.TEMPERATURE_THRESHOLD_GPU_MAX},
		{"DEV_TEMPERATURE_MEM_MAX_TLIMIT", &identity.MemoryMaxCelsius, nvml.TEMPERATURE_THRESHOLD_MEM_MAX},
	}
	values := make([]gpu.FieldValue, len(targets))
	for i, target := range targets {
		values[i].FieldID, _ = gpu.FieldID(target.name, gpu.NumberingUnknown)
	}
	answered := r.ok(r.fields(values))
	for i, target := range targets {
		if answered && r.ok(values[i].Return) {
			if value, ok := values[i].Int(); ok {
				*target.into = &value
				continue
			}
		}
		if target.threshold == nvml.TEMPERATURE_THRESHOLD_COUNT {
			continue
		}
		if celsius, ret := askOf(r.symbols, "GetTemperatureThreshold", target.threshold, r.handle.GetTemperatureThreshold); r.ok(ret) {
			*target.into = number(celsius)
		}
	}
}

// text reads a string; "" if it cannot be had.
func (r *reader) text(call string, f func() (string, nvml.Return)) string {
	text, ret := ask(r.symbols, call, f)
	if !r.ok(ret) {
		return ""
	}
	return cleaned(text)
}

// read reads a number; nil if it cannot be had.
func read[T ~int | ~int32](r *reader, call string, f func() (T, nvml.Return)) *int64 {
	value, ret := ask(r.symbols, call, f)
	if !r.ok(ret) {
		return nil
	}
	return number(value)
}

func number[T ~int | ~int32 | ~uint8 | ~uint32 | ~uint64](value T) *int64 {
	wide := int64(value)
	return &wide
}

// cleaned cuts a text of the driver at its end and strips its padding.
func cleaned(text string) string {
	text, _, _ = strings.Cut(text, "\x00")
	return strings.TrimSpace(text)
}

// characters is the text in an array of C characters.
func characters(array []int8) string {
	text := make([]byte, len(array))
	for i, c := range array {
		text[i] = byte(c)
	}
	return cleaned(string(text))
}

// kernelDomainDigits is how many digits the kernel pads the PCI domain to; NVML pads it to eight.
const kernelDomainDigits = 4

// normalBusID writes domain:bus:device.function as the kernel does, so that log lines can be joined.
func normalBusID(id string) string {
	domain, rest, found := strings.Cut(strings.ToLower(id), ":")
	if !found {
		return ""
	}
	for len(domain) > kernelDomainDigits && domain[0] == '0' {
		domain = domain[1:]
	}
	return domain + ":" + rest
}

// uuidText writes a UUID in the usual form; "" for one that was never set.
func uuidText(id [16]uint8) string {
	if id == ([16]uint8{}) {
		return ""
	}
	text := hex.EncodeToString(id[:])
	return strings.Join([]string{text[:8], text[8:12], text[12:16], text[16:20], text[20:]}, "-")
}
