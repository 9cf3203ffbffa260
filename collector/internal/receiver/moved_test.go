// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// TestAgentHasGone: the store finds that another collector has the agent. The stream ends in a way for which no agent
// leaves its collector, and the log keeps the batch.
func TestAgentHasGone(t *testing.T) {
	j := newJournal()
	left := make(chan wire.Key, 1)
	f := serve(t, func(cfg *Config) { cfg.Log, cfg.Left = j, func(k wire.Key) { left <- k } })
	f.set(func() { f.refuse = func(k wire.Key) error { return store.Moved{Key: k} } })
	a := f.agent(t, nil)
	a.send(a.batch(1))
	j.answer(t, nil)
	a.want(wire.Accepted, 1)
	a.wantEnd(codes.Aborted)
	if k := <-left; k != a.key(1) {
		t.Errorf("%v was left", k)
	}
	f.set(func() { f.refuse, f.tenure = nil, 2 })
	again := f.agent(t, nil)
	again.send(again.batch(1))
	j.answer(t, nil)
	again.want(wire.Accepted, 1)
	again.want(wire.Stored, 1)
	f.stop()
	if keys := j.settledKeys(); !slices.Equal(keys, []wire.Key{a.key(1)}) {
		t.Errorf("settled %v", keys)
	}
	if len(f.recorded()) > 0 {
		t.Error("it is in quarantine")
	}
}

// TestAnotherShardMayHaveIt: a batch that a shard may have which does not answer is to come again, on the same stream, and stays
// in the log, for its agent may be gone.
func TestAnotherShardMayHaveIt(t *testing.T) {
	j := newJournal()
	left := make(chan wire.Key, 1)
	f := serve(t, func(cfg *Config) { cfg.Log, cfg.Left = j, func(k wire.Key) { left <- k } })
	f.set(func() { f.refuse = func(k wire.Key) error { return fmt.Errorf("%v: %w", k, store.ErrFormerAway) } })
	a := f.agent(t, nil)
	a.send(a.batch(1))
	j.answer(t, nil)
	a.want(wire.Accepted, 1)
	a.want(wire.Retry, 1)
	if k := <-left; k != a.key(1) || len(j.settledKeys()) > 0 {
		t.Errorf("%v was left, and %v settled", k, j.settledKeys())
	}
	f.set(func() { f.refuse = nil })
	a.send(a.batch(1))
	j.answer(t, nil)
	a.want(wire.Accepted, 1)
	a.want(wire.Stored, 1)
	f.stop()
	if len(f.recorded()) > 0 {
		t.Error("it is in quarantine")
	}
}

// TestClaimedAtTheSameTime: the agent tries again here, for this collector is as good as any.
func TestClaimedAtTheSameTime(t *testing.T) {
	for name, change := range map[string]func(f *fixture){
		"by another collector": func(f *fixture) { f.away = fmt.Errorf("claim: %w", store.ErrContested) },
		"by another stream":    func(f *fixture) { f.tenure = 1 }, // the ledger's older answer comes last
	} {
		f := serve(t, nil)
		f.set(func() { f.tenure = 2 })
		f.agent(t, nil)
		f.set(func() { change(f) })
		late := f.newAgent(t, f.dial(t), wire.NodeHeader, "node-1")
		late.hello()
		if reason := late.wantEnd(codes.Aborted); !strings.Contains(reason, "at the same time") {
			t.Errorf("%s: %s", name, reason)
		}
		f.stop()
	}
}

// TestDoubtful: what was sent before the agent came may be in the table, if others had the agent.
func TestDoubtful(t *testing.T) {
	for name, c := range map[string]struct {
		tenure  uint32
		headers []string
		want    []bool // of the batches 1, 2 and 3
	}{
		"nobody had the agent":      {1, []string{wire.SentHeader, "2"}, []bool{false, false, false}},
		"two were sent":             {2, []string{wire.SentHeader, "2"}, []bool{true, true, false}},
		"none was sent":             {2, []string{wire.SentHeader, "0"}, []bool{false, false, false}},
		"it does not say":           {2, nil, []bool{true, true, true}},
		"it says nonsense":          {2, []string{wire.SentHeader, "-1"}, []bool{true, true, true}},
		"it says two things":        {2, []string{wire.SentHeader, "0", wire.SentHeader, "1"}, []bool{true, true, true}},
		"it says more than it knew": {2, []string{wire.SentHeader, "18446744073709551615"}, []bool{true, true, true}},
	} {
		f := serve(t, nil)
		f.set(func() { f.tenure, f.hold = c.tenure, true })
		a := f.newAgent(t, f.dial(t), append([]string{wire.NodeHeader, "node-1"}, c.headers...)...)
		a.hello()
		a.want(wire.Welcome, 0)
		for s := uint64(1); s <= 3; s++ {
			a.send(a.batch(s))
		}
		f.await(t, "three batches", func() bool { return len(f.held) == 3 })
		for n, i := range f.held {
			if i.Tenure != c.tenure || i.Doubtful != c.want[n] {
				t.Errorf("%s: batch %d has the tenure %d, and is doubtful: %v", name, n+1, i.Tenure, i.Doubtful)
			}
		}
		f.settle()
		f.stop()
	}
}
