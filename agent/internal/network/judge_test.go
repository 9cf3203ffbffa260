// SPDX-License-Identifier: Apache-2.0

package network

import (
	"os"
	"testing"
	"time"
)

// TestTheCarrierTellsOfLossesThatWereSeen: of each that was seen the carrier's count may tell up to five seconds later,
// and then it is the same loss; what it tells beyond, or later, is another.
func TestTheCarrierTellsOfLossesThatWereSeen(t *testing.T) {
	type step struct {
		at     time.Duration
		seen   bool
		count  uint64
		unseen int
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"at once", []step{{0, false, 7, 0}, {1 * time.Second, true, 8, 0}}},
		{"late", []step{{0, true, 7, 0}, {5 * time.Second, false, 8, 0}}},
		{"once each", []step{{0, true, 7, 0}, {time.Second, false, 8, 0}, {2 * time.Second, false, 9, 1}}},
		{"two that were seen", []step{{0, true, 7, 0}, {2 * time.Second, true, 7, 0}, {3 * time.Second, false, 9, 0}, {4 * time.Second, false, 10, 1}}},
		{"two that were seen, one after the other", []step{{0, true, 7, 0}, {time.Second, true, 8, 0}, {2 * time.Second, false, 9, 0}, {3 * time.Second, false, 10, 1}}},
		{"more than were seen", []step{{0, true, 7, 0}, {time.Second, false, 10, 2}}},
		{"too late", []step{{0, true, 7, 0}, {6 * time.Second, false, 7, 0}, {7 * time.Second, false, 8, 1}}},
		{"too late for both", []step{{0, true, 7, 0}, {1 * time.Second, true, 7, 0}, {7 * time.Second, false, 9, 2}}},
		{"it began again", []step{{0, false, 7, 0}, {time.Second, false, 2, 0}, {2 * time.Second, false, 3, 1}}},
		{"rubbish", []step{{0, false, 0, 0}, {time.Second, false, 1 << 62, mostLosses}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, began := newPort("mlx5_0", 1), time.Now()
			for i, s := range tt.steps {
				p.now.carrier = reading{count: s.count, ok: true}
				if got := p.lostCarrier(began.Add(s.at), s.seen); got != s.unseen {
					t.Errorf("step %d: %d losses that nobody saw, want %d", i, got, s.unseen)
				}
			}
		})
	}
}

// TestLossesWhileLinkDownedCannotBeRead are told by its next reading.
func TestLossesWhileLinkDownedCannotBeRead(t *testing.T) {
	s, set := ib(t)
	link := func(text string) { s.set("mlx5_0", map[string]string{"ports/1/counters/link_downed": text}) }
	watch(t, os.DirFS(s.root), nil, func(r *recorder) {
		pass(time.Minute)
		link("?")
		set(stopped, polling) // this one is seen
		pass(2 * time.Second)
		set(active, linkUp)
		pass(time.Minute)
		link("2")
		pass(time.Minute)
		wantKinds(t, r, "after one that was seen and one that was not", "mlx5_0 port_down", "mlx5_0 port_up")
		link("3")
		pass(time.Minute)
		wantKinds(t, r, "after three", "mlx5_0 port_down", "mlx5_0 port_up", "mlx5_0 port_flapping")
	})
}
