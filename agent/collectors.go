// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"net"

	"github.com/gpufleet/gpufleet/agent/internal/sender"
)

// collectorProblems is what is wrong with the addresses of the collectors.
func (c Config) collectorProblems() (problems []error) {
	addresses, err := sender.ParseAddresses(c.Collector)
	if err != nil {
		problems = append(problems, err)
	}
	for _, a := range addresses {
		if c.TLS == nil && !loopback(a.Host) {
			problems = append(problems, fmt.Errorf("collector %s is not on this machine: give TLS settings, its token would travel in plain text", a))
		}
	}
	return problems
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
