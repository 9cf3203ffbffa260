// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestServersCount: counters of a pod are the same for the same seed and time, never go down within its life, and gain
// what so many GPUs can.
func TestServersCount(t *testing.T) {
	now := time.Date(2026, 11, 26, 15, 0, 0, 0, time.UTC)
	config := NodeConfig{Model: H100, Seed: 3, Workload: Inference, Clock: func() time.Time { return now }}
	first, err := NewNode(config)
	if err != nil {
		t.Fatal(err)
	}
	again, err := NewNode(config)
	if err != nil {
		t.Fatal(err)
	}
	answers := func(n *Node) (count uint64) {
		pod := n.Pods()[0]
		_, rest, found := strings.Cut(n.MetricsPage(&pod), fmt.Sprintf("vllm:generation_tokens_total{engine=\"0\",model_name=%q} ", pod.Model))
		if _, err := fmt.Sscan(rest, &count); err != nil || !found {
			t.Fatalf("no answers are counted: %v", err)
		}
		return count
	}
	pod := first.Pods()[0]
	before := answers(first)
	for range 200 {
		now = now.Add(7 * time.Second)
		if !first.Pods()[0].Started.Equal(pod.Started) {
			return // the next tenant counts anew
		}
		count := answers(first)
		if most := before + 7*answersPerSecond*uint64(len(pod.GPUs)) + 1; count < before || count > most {
			t.Fatalf("%d tokens after %d, at most %d", count, before, most)
		}
		if other := answers(again); other != count {
			t.Fatalf("%d tokens, and %d of the same node", count, other)
		}
		before = count
	}
}
