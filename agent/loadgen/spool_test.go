// SPDX-License-Identifier: Apache-2.0

package loadgen

import (
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/sim"
)

// TestADayFitsTheSpool measures what eight GPUs make in ten minutes, and multiplies: 4 GiB, the default, are to hold a
// day of it, and of readings that are four times as noisy (ADR 3), beside sub-second samples. Of these the driver's
// rings make at most 200 a second and GPU, in less than 16 bytes each.
func TestADayFitsTheSpool(t *testing.T) {
	const (
		minutes, noise   = 10, 4
		aroundBatch      = 40 // head of a record and zeros behind it
		subsecondPerDay  = 200 * 16 * 8 * 86400
		defaultSpoolSize = 4 << 30
	)
	clock := NewClock(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	node, err := sim.NewNode(sim.NodeConfig{Model: sim.H100, Seed: 1, Clock: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	loads, err := Make(map[string]gpu.Driver{"node-1": node.Driver()}, clock, 60*minutes, 5*time.Second, true)
	if err != nil {
		t.Fatal(err)
	}
	var bytes int64
	for _, b := range loads[0].Batches {
		bytes += int64(b.Bytes()) + aroundBatch
	}
	day := bytes * 24 * 60 / minutes
	t.Logf("%d batches of 8 GPUs in %d minutes: %d MB a day, %d MB if they are noisy", len(loads[0].Batches), minutes, day>>20, noise*day>>20)
	if noise*day+subsecondPerDay > defaultSpoolSize {
		t.Errorf("a day takes %d bytes", noise*day+subsecondPerDay)
	}
}
