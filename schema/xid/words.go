// SPDX-License-Identifier: Apache-2.0

package xid

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Severity is how soon a person should know.
type Severity string

// The severities.
const (
	Info     Severity = "info"     // for the record
	Warning  Severity = "warning"  // something to do, not at once
	Critical Severity = "critical" // the GPU, or the node, should do no more work until the action is taken
)

// Class is what is broken.
type Class string

// The classes.
const (
	ApplicationFault Class = "application"   // the program that runs on the GPU
	Engine           Class = "engine"        // a compute or copy engine
	Memory           Class = "memory"        // HBM, SRAM and their ECC
	NVLink           Class = "nvlink"        // NVLink, NVSwitch and C2C
	PCIe             Class = "pcie"          // the link to the host
	ThermalPower     Class = "thermal_power" // heat and power supply
	Firmware         Class = "firmware"      // micro-controllers of the GPU and what they store
	Driver           Class = "driver"        // the kernel driver
	Security         Class = "security"      // confidential computing and protection faults
	Video            Class = "video"         // encoders, decoders, JPEG, optical flow
	Unknown          Class = "unknown"
)

// Action is the one thing to do.
type Action string

// The actions.
const (
	NoAction        Action = "none"             // record it
	Watch           Action = "watch"            // nothing at once; look at the GPU at the next service window
	RestartApp      Action = "restart_app"      // restart the application
	RestartVM       Action = "restart_vm"       // restart the virtual machine that has the GPU
	RestartFabric   Action = "restart_fabric"   // restart the fabric manager, or recover the IMEX domain
	Drain           Action = "drain"            // give the GPU no new work and let the old end
	ResetGPU        Action = "reset_gpu"        // drain, then reset the GPU
	RebootNode      Action = "reboot_node"      // drain, then reboot the node
	InspectHardware Action = "inspect_hardware" // have somebody look at the machine
	FollowOther     Action = "follow_other"     // it comes with another fault: do what that one says
	Decode          Action = "decode"           // the rest of the line decides: see NVLink5
)

// Fatality is NVIDIA's word on an SXID.
type Fatality string

// The fatalities.
const (
	NonFatal         Fatality = "non_fatal"
	PotentiallyFatal Fatality = "potentially_fatal" // to the GPUs whose traffic crosses the link: XID 74 follows there
	AlwaysFatal      Fatality = "always_fatal"      // to the whole fabric of the node
)

// Word is a value of a closed set, with its meaning.
type Word struct{ Name, Meaning string }

// Severities lists the severities from mild to grave.
func Severities() []Word {
	return []Word{
		{string(Info), "For the record."},
		{string(Warning), "Something to do, not at once."},
		{string(Critical), "The GPU, or the node, should get no work until the action is taken."},
	}
}

// Classes lists the classes.
func Classes() []Word {
	return []Word{
		{string(ApplicationFault), "The program that runs on the GPU."},
		{string(Engine), "A compute or copy engine."},
		{string(Memory), "HBM, SRAM and their ECC."},
		{string(NVLink), "NVLink, NVSwitch and C2C, the link to a Grace CPU."},
		{string(PCIe), "The link to the host."},
		{string(ThermalPower), "Heat and power supply."},
		{string(Firmware), "Micro-controllers of the GPU, and what they store."},
		{string(Driver), "The kernel driver, and what it says of other faults."},
		{string(Security), "Confidential computing and protection faults."},
		{string(Video), "Encoders, decoders, JPEG and optical flow engines."},
		{string(Unknown), "The catalogue does not have the code."},
	}
}

// Actions lists the actions.
func Actions() []Word {
	return []Word{
		{string(NoAction), "Record it."},
		{string(Watch), "Nothing at once. Look at the GPU at the next service window."},
		{string(RestartApp), "Restart the application."},
		{string(RestartVM), "Restart the virtual machine that has the GPU."},
		{string(RestartFabric), "Restart the fabric manager, or recover the IMEX domain."},
		{string(Drain), "Give the GPU no new work and let the old end."},
		{string(ResetGPU), "Drain, then reset the GPU."},
		{string(RebootNode), "Drain, then reboot the node."},
		{string(InspectHardware), "Have somebody look at the machine."},
		{string(FollowOther), "It comes with another fault: do what that one says."},
		{string(Decode), "The rest of the line decides: see the table of XIDs 144 to 150."},
	}
}

// Generations is a set of GPU generations.
type Generations uint8

// The generations that NVIDIA's catalogue tells apart.
const (
	Ampere         Generations = 1 << iota // A100
	Hopper                                 // H100, H200
	Blackwell                              // B100, B200
	GraceBlackwell                         // GB200
)

// The sets that occur often.
const (
	everyGPU    = Ampere | Hopper | Blackwell | GraceBlackwell
	hopperOn    = Hopper | Blackwell | GraceBlackwell
	blackwellOn = Blackwell | GraceBlackwell
	upToHopper  = Ampere | Hopper
)

// Names lists the generations of the set.
func (g Generations) Names() []string {
	names := []string{}
	for i, name := range []string{"ampere", "hopper", "blackwell", "grace-blackwell"} {
		if g&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// MarshalJSON implements json.Marshaler.
func (g Generations) MarshalJSON() ([]byte, error) { return json.Marshal(g.Names()) }

// Branch is a driver branch: the first number of a driver's version. 0 is an unknown one.
type Branch int

// EveryBranch is the branch of a code that has had an XID 154 from the beginning.
const EveryBranch Branch = 1

// firstKnownBranch is older than any driver that can drive an A100; what is less is no driver's version.
const firstKnownBranch = 100

// ParseBranch reads the branch from a driver's version, such as 580.95.05.
func ParseBranch(version string) (Branch, error) {
	major, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(strings.TrimPrefix(strings.ToLower(major), "r"))
	if err != nil || n < firstKnownBranch || n > 9999 {
		return 0, fmt.Errorf("read driver version %q: want one such as 580.95.05, or a branch such as R580", version)
	}
	return Branch(n), nil
}

// has tells whether a driver of branch b does what began with branch since.
func (b Branch) has(since Branch) bool { return since > 0 && (b >= since || since == EveryBranch) }

// String is the branch as NVIDIA writes it.
func (b Branch) String() string {
	switch b {
	case 0:
		return ""
	case EveryBranch:
		return "always"
	default:
		return "R" + strconv.Itoa(int(b))
	}
}
