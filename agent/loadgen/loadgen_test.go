// SPDX-License-Identifier: Apache-2.0

package loadgen

import (
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/sim"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestLoadHasEveryRowOnceInOrder(t *testing.T) {
	clock := NewClock(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	fleet, err := sim.NewFleet(sim.FleetConfig{Nodes: 4, Seed: 1, Clock: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	drivers := make(map[string]gpu.Driver)
	for _, n := range fleet.Nodes() {
		drivers[n.Name()] = n.Driver()
	}
	loads, err := Make(drivers, clock, 60, 10*time.Second, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range loads {
		rows, next := map[uint8]uint32{}, map[uint8]uint64{}
		for _, b := range l.Batches {
			i := b.Identity
			if next[i.Table]++; i.Sequence != next[i.Table] || i.Epoch != l.Epoch {
				t.Errorf("%s: batch %v, want sequence %d of epoch %d", l.Node, i.Key(), next[i.Table], l.Epoch)
			}
			rows[i.Table] += i.Rows
		}
		if rows[schema.SamplesID] != 480 || l.Rows != 480 || rows[schema.HealthID] != 8 {
			t.Errorf("%s: %d samples (%d counted), %d of health; want 480 and 8 in a minute of 8 GPUs", l.Node, rows[schema.SamplesID], l.Rows, rows[schema.HealthID])
		}
	}
	for _, b := range loads[0].Again(7).Batches {
		i, err := wire.ParseIdentity(b.Metadata, b.Header, b.Body)
		if err != nil || i != b.Identity || i.Epoch != 7 {
			t.Errorf("renamed batch says %+v, is %+v: %v", i, b.Identity, err)
		}
	}
	if len(loads) != 4 {
		t.Errorf("%d loads", len(loads))
	}
}
