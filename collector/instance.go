// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/gpufleet/gpufleet/collector/internal/store"
)

// keptInstances is how many processes a data directory remembers.
const keptInstances = 8

// newInstance draws the number of this process, and notes it in a file of the data directory, one in a line, the newest
// last. Those that are there have ended, for the log, which this process has locked, is beside it: a restart need not wait
// whether a process of its name still runs.
func newInstance(path string) (instance uint64, former []uint64, err error) {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, nil, fmt.Errorf("read the numbers of earlier processes: %w", err)
	}
	for line := range strings.FieldsSeq(string(text)) {
		if n, err := strconv.ParseUint(line, 16, 64); err == nil { // what a crash has cut is no number, or nobody's
			former = append(former, n)
		}
	}
	former = former[max(0, len(former)-keptInstances):]
	instance = store.NewInstance()
	var b strings.Builder
	for _, n := range append(slices.Clip(former), instance) {
		fmt.Fprintf(&b, "%016x\n", n)
	}
	if err := os.WriteFile(path+".new", []byte(b.String()), 0o600); err != nil {
		return 0, nil, fmt.Errorf("note the number of this process: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return 0, nil, fmt.Errorf("note the number of this process: %w", err)
	}
	return instance, former, nil
}
