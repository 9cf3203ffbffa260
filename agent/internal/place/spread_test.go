// SPDX-License-Identifier: Apache-2.0

package place

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestNodesAreSpread counts how many of a fleet that was started at once ask within the busiest second: an even share,
// in the first hour and later, after failures, and each node by its own name alone.
func TestNodesAreSpread(t *testing.T) {
	const nodes = 20_000
	busiest := func(at func(s *Spread) time.Duration) int {
		seconds := map[time.Duration]int{}
		most := 0
		for i := range nodes {
			name := fmt.Sprint("node-", i)
			second := at(NewSpread(name, "place")).Truncate(time.Second)
			if again := at(NewSpread(name, "place")).Truncate(time.Second); again != second {
				t.Fatalf("%s asks at %s, and at %s another time", name, second, again)
			}
			seconds[second]++
			most = max(most, seconds[second])
		}
		return most
	}
	for name, at := range map[string]func(s *Spread) time.Duration{
		"first": func(s *Spread) time.Duration { return s.Regular(time.Hour) },
		"third": func(s *Spread) time.Duration {
			return s.Regular(time.Hour) + s.Regular(time.Hour) + s.Regular(time.Hour)
		},
		"of failures": func(s *Spread) time.Duration { return s.Retry(2 * time.Hour) },
		"after one":   func(s *Spread) time.Duration { return 0*s.Retry(time.Minute) + s.Regular(time.Hour) },
	} {
		if most := busiest(at); most > 5*nodes/3600 {
			t.Errorf("%s: %d of %d nodes ask within one second of an hour", name, most, nodes)
		}
	}
	s := NewSpread("node", "place")
	if first := s.Regular(time.Hour); first < 0 || first >= time.Hour || s.Regular(time.Hour) != time.Hour {
		t.Errorf("first after %s, then not every hour", first)
	}
	for range 1000 {
		if wait := s.Retry(time.Minute); wait < 30*time.Second || wait > time.Minute {
			t.Fatalf("a retry after %s", wait)
		}
	}
	if wait := s.Retry(0) + s.Regular(0); wait != 0 {
		t.Errorf("no wait became %s", wait)
	}
}

// TestNoticesOfAFleetAreSpread has two nodes ask for notices from the same moment on, and their service fail.
func TestNoticesOfAFleetAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var mu sync.Mutex
		began, asked := time.Now(), map[string][]time.Duration{}
		for _, node := range []string{"node-1", "node-2"} {
			w := watch{cfg: Config{Node: node}.withDefaults(), report: func(Notice) {}}
			source := noticeSource{name: "any", every: time.Minute, ask: func(context.Context) ([]Notice, error) {
				mu.Lock()
				defer mu.Unlock()
				asked[node] = append(asked[node], time.Since(began))
				return nil, errors.New("not now")
			}}
			go w.loop(ctx, source)
		}
		wait(10 * time.Minute)
		mu.Lock()
		defer mu.Unlock()
		one, two := asked["node-1"], asked["node-2"]
		if len(one) < 9 || len(two) < 9 {
			t.Fatalf("asked at %v and %v", one, two)
		}
		for i := range 8 {
			if apart := (one[i] - two[i]).Abs(); apart < time.Second {
				t.Errorf("question %d: %s apart", i, apart)
			}
		}
		if one[0] >= time.Minute || one[1]-one[0] != time.Minute {
			t.Errorf("asked at %v", one)
		}
	})
}
