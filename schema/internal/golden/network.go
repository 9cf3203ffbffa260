// SPDX-License-Identifier: Apache-2.0

package golden

import (
	"fmt"
	"strings"

	"github.com/gpufleet/gpufleet/schema"
)

// networkCountersByColumn finds the counter that a column of network_ports holds.
func networkCountersByColumn() map[string]schema.NetworkCounter {
	counters := map[string]schema.NetworkCounter{}
	for _, c := range schema.NetworkCounters() {
		counters[c.Name+"_total"], counters[c.Name+"_delta"] = c, c
	}
	return counters
}

// networkSources names files of sysfs, and what is to be known of the number in them.
func networkSources(list []schema.NetworkSource) string {
	all := make([]string, len(list))
	for i, s := range list {
		all[i] = "`" + s.File + "`"
		if s.NetDevice {
			all[i] += " of the network device"
		}
		if s.Multiply > 1 {
			all[i] += fmt.Sprintf(" × %d", s.Multiply)
		}
		if s.Saturates {
			all[i] += fmt.Sprintf(", stops at %d bits", s.Bits)
		}
	}
	return strings.Join(all, "; else ")
}
