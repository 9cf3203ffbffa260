// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"strconv"
)

// TracesHeader is the gRPC header by which a stream says that its agent traces one batch in so many: the collector's spans
// of such a batch are then part of the agent's. One that is older does not look, and an agent that traces nothing does
// not send it.
const TracesHeader = "gpufleet-traces"

// ParseTraces reads the value of TracesHeader; 0 says that nothing is traced, as does what is no number.
func ParseTraces(text string) uint64 {
	every, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return every
}
