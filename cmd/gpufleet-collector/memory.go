// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"log/slog"
	"math"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// memoryRatio leaves room for what the runtime does not count: the program itself and the kernel's share of its files.
const memoryRatio = 0.9

// limitMemory has the garbage collector work harder before the process takes more than its cgroup grants. GOMEMLIMIT, if it
// is set, wins. Where nothing is granted there is no limit: what lives depends on how many agents are connected, some 80 KB
// each, beside the batches that --memory-bytes bounds, and below that the garbage collector would run all the time.
func limitMemory(granted memlimit.Provider, log *slog.Logger) {
	limit, err := memlimit.Set(memlimit.WithProvider(granted), memlimit.WithRatio(memoryRatio))
	switch {
	case errors.Is(err, memlimit.ErrNoCgroup), errors.Is(err, memlimit.ErrCgroupsNotSupported):
	case err != nil:
		log.Warn("the garbage collector does not know how much memory is granted: set GOMEMLIMIT", "error", err)
	case limit < math.MaxInt64:
		log.Info("the garbage collector stays below a limit of memory", "bytes", limit)
	}
}
