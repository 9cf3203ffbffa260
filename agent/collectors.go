// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"

	"github.com/gpufleet/gpufleet/internal/collectors"
	"github.com/gpufleet/gpufleet/internal/loopback"
)

// collectorProblems is what is wrong with the addresses of the collectors.
func (c Config) collectorProblems() (problems []error) {
	addresses, err := collectors.Parse(c.Collector)
	if err != nil {
		problems = append(problems, err)
	}
	for _, a := range addresses {
		if c.TLS == nil && !loopback.Is(a.Host) {
			problems = append(problems, fmt.Errorf("collector %s is not on this machine: give TLS settings, its token would travel in plain text", a))
		}
	}
	return problems
}
