// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"os"
	"runtime/debug"
)

// smallestMemory is what an agent needs to run at all.
const smallestMemory = 16 << 20

// limitMemory has the garbage collector work harder before the program takes more than it was granted. Batches
// that wait come on top: with a limit below what they take, the collector would run all the time.
func (o *options) limitMemory() {
	if os.Getenv("GOMEMLIMIT") != "" {
		return // the runtime has read it
	}
	limit := o.memory
	if limit < math.MaxInt64-o.agent.MaxQueueBytes {
		limit += o.agent.MaxQueueBytes
	}
	debug.SetMemoryLimit(limit)
}
