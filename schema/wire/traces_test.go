// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"testing"

	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestTracesHeader(t *testing.T) {
	for text, want := range map[string]uint64{"1000": 1000, "1": 1, "0": 0, "": 0, "-1": 0, "1e3": 0, "99999999999999999999": 0, " 5": 0} {
		if got := wire.ParseTraces(text); got != want {
			t.Errorf("%q: one in %d, want %d", text, got, want)
		}
	}
}
