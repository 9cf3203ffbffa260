// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"runtime/debug"
	"testing"

	"github.com/gpufleet/gpufleet/agent"
)

func TestMemoryLimit(t *testing.T) {
	for name, tt := range map[string]struct {
		environment    string
		memory, queues int64
		want           int64
	}{
		"flags":           {"", 64 << 20, 32 << 20, 96 << 20},
		"the environment": {"1GiB", 64 << 20, 32 << 20, 1 << 40}, // as it was before: the runtime reads it at its start
		"no overflow":     {"", math.MaxInt64 - 5, 10, math.MaxInt64 - 5},
	} {
		t.Run(name, func(t *testing.T) {
			before := debug.SetMemoryLimit(1 << 40)
			defer debug.SetMemoryLimit(before)
			t.Setenv("GOMEMLIMIT", tt.environment)
			o := options{memory: tt.memory, agent: agent.Config{MaxQueueBytes: tt.queues}}
			o.limitMemory()
			if got := debug.SetMemoryLimit(-1); got != tt.want {
				t.Errorf("limit %d, want %d", got, tt.want)
			}
		})
	}
}
