// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/place"
)

// TestProbesOfAFleetAreSpread has two nodes start at once, in a place that nobody tells, and counts the time between
// their probes; and again in a place that is known.
func TestProbesOfAFleetAreSpread(t *testing.T) {
	for name, settled := range map[string]bool{"not found": false, "found": true} {
		t.Run(name, func(t *testing.T) {
			var waits [2]time.Duration
			for i, node := range []string{"node-1", "node-2"} {
				synctest.Test(t, func(t *testing.T) {
					f := follower{
						node: Node{Name: node}, interval: time.Hour, spread: place.NewSpread(node, "place"), moved: func(Node) {},
						logger: slog.New(slog.DiscardHandler), settled: settled, cfg: PlaceConfig{Known: Place{Provider: "rack"}, DMI: t.TempDir()},
						place: Place{Provider: "another"}, // so that the first probe ends the wait
					}
					began := time.Now()
					f.untilMoved(t.Context())
					waits[i] = time.Since(began)
				})
			}
			apart, most := (waits[0] - waits[1]).Abs(), firstRetry
			if settled {
				most = time.Hour
			}
			if apart < time.Second || max(waits[0], waits[1]) > most {
				t.Errorf("probes after %v", waits)
			}
		})
	}
}

// TestAProbeThatIsCutShortSaysNothing: what was not asked to the end would be taken for what is not there.
func TestAProbeThatIsCutShortSaysNothing(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	here := Place{Provider: "rack", Region: "hall-2"}
	f := follower{
		node: Node{Name: "node-1"}, cfg: PlaceConfig{Known: Place{Provider: "rack"}, DMI: t.TempDir()}, place: here, settled: true,
		moved: func(n Node) { t.Errorf("moved to %+v", n) }, logger: slog.New(slog.DiscardHandler),
	}
	f.probe(ended)
	if !f.settled || f.place.Region != here.Region || f.told != nil {
		t.Errorf("place %+v, settled %v, told %v", f.place, f.settled, f.told)
	}
}

// TestAFollowerEndsWithItsContext, in the wait for the next probe and after a probe that was cut short.
func TestAFollowerEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		f := follower{
			node: Node{Name: "node-1"}, interval: time.Hour, spread: place.NewSpread("node-1", "place"), settled: true,
			cfg: PlaceConfig{Known: Place{Provider: "rack"}, DMI: t.TempDir()}, place: Place{Provider: "rack"},
			moved: func(Node) { cancel() }, logger: slog.New(slog.DiscardHandler),
		}
		began := time.Now()
		f.run(ctx) // the first probe tells where the node is, and thereby ends the context
		if took := time.Since(began); took > time.Hour {
			t.Errorf("ended after %s", took)
		}
	})
}
