// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"regexp"
	"strings"
	"time"

	"github.com/gpufleet/gpufleet/schema/xid"
)

// What the kernel writes when it kills a process, and of errors of the host's own memory. The names are those that
// programs give themselves.
var (
	oomKilled    = regexp.MustCompile(`^(?:Memory cgroup out|Out) of memory(?: \([a-z_]{1,40}\))?: Kill(?:ed)? process ([0-9]{1,10}),? \((.{1,64}?)\)(?: |,|$)`)
	oomKilledUID = regexp.MustCompile(`^(?:Memory cgroup out|Out) of memory: Killed process ([0-9]{1,10}), UID [0-9]{1,10}, \((.{1,64}?)\)`)
	memoryKilled = regexp.MustCompile(`^Memory failure: 0x[0-9a-f]{1,16}: (?:Killing|Sending SIGBUS to) (.{1,64}):([0-9]{1,10}) due to hardware memory corruption`)
	machineCheck = regexp.MustCompile(`^mce: (?:\[Hardware Error\]: CPU [0-9]{1,6}: Machine Check|Uncorrected hardware memory error)`)
)

// hostLine is a line about the host that explains why a program left its GPU.
func (p *parser) hostLine(at Finding, since time.Duration, text string) {
	if m := memoryKilled.FindStringSubmatch(text); m != nil {
		p.killed(at, since, m[2], m[1], "memory_error")
		return
	}
	for _, pattern := range []*regexp.Regexp{oomKilled, oomKilledUID} {
		if m := pattern.FindStringSubmatch(text); m != nil {
			p.killed(at, since, m[1], m[2], "out_of_memory")
			return
		}
	}
	if machineCheck.MatchString(text) {
		at.Kind = MachineCheck
		p.report(at, since)
	}
}

func (p *parser) killed(at Finding, since time.Duration, id, name, why string) {
	at.Kind, at.ProcessID, at.ProcessName, at.Subcode = ProcessKilled, whole(id), printable(name), why
	p.report(at, since)
}

// What the driver of NVIDIA's network cards writes.
var (
	networkSays  = regexp.MustCompile(`^mlx5_core ([0-9a-f:.]{7,20})(?: ([^\s:]{1,32}))?: (?:[a-z0-9_]{1,40}:[0-9]{1,6}:\(pid [0-9]{1,10}\): )?(.*)$`)
	moduleEvent  = regexp.MustCompile(`^Port module event(\[error\])?: module [0-9]{1,4}, (.{1,80})$`)
	networkFault = regexp.MustCompile(`health compromised|Fatal error [0-9]|health recovery failed|Detected insufficient power|ENABLE_HCA.* timeout`)
)

// networkLine is a line about a network card.
func (p *parser) networkLine(at Finding, since time.Duration, text string) {
	m := networkSays.FindStringSubmatch(text)
	if m == nil {
		return
	}
	said := m[3]
	at.PCIBusID, at.Subcode = xid.NormalBusID(m[1]), m[2]
	module := moduleEvent.FindStringSubmatch(said)
	switch {
	case said == "Link down":
		at.Kind = NetworkLinkDown
	case said == "Link up":
		at.Kind = NetworkLinkUp
	case module != nil && module[1] != "":
		at.Kind, at.Subcode = NetworkFault, strings.ToLower(printable(module[2]))
	case module != nil && module[2] == "Cable unplugged":
		at.Kind, at.Subcode = NetworkLinkDown, "cable unplugged"
	case networkFault.MatchString(said):
		at.Kind = NetworkFault
	default:
		return
	}
	p.report(at, since)
}
