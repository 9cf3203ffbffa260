// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/collector/internal/index"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// journal is a log that answers when it is told.
type journal struct {
	mu      sync.Mutex // guards the fields below
	kept    []*wire.Batch
	waiting []func(error)
	settled []wire.Key
	came    chan struct{}  // one for each batch
	settle  func(wire.Key) // called by Settle; nil: nobody asks
}

func newJournal() *journal { return &journal{came: make(chan struct{}, 100)} }

func (j *journal) Append(b *wire.Batch, done func(error)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.kept = append(j.kept, b)
	j.waiting = append(j.waiting, done)
	j.came <- struct{}{}
}

func (j *journal) Settle(keys ...wire.Key) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.settle != nil {
		j.settle(keys[0])
	}
	j.settled = append(j.settled, keys...)
}

func (j *journal) onSettle(do func(wire.Key)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.settle = do
}

// answer waits for a batch and answers what there is.
func (j *journal) answer(t *testing.T, err error) {
	t.Helper()
	select {
	case <-j.came:
	case <-time.After(limitless):
		t.Fatal("no batch came")
	}
	j.mu.Lock()
	waiting := j.waiting
	j.waiting = nil
	j.mu.Unlock()
	for _, done := range waiting {
		done(err)
	}
}

func (j *journal) settledKeys() []wire.Key {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.settled)
}

// TestAccepted: a batch goes on once it is durable; its agent is told so, and then that it is stored.
func TestAccepted(t *testing.T) {
	j := newJournal()
	f := serve(t, func(cfg *Config) { cfg.Log = j })
	f.set(func() { f.hold = true })
	a := f.agent(t, nil)
	sent := a.batch(1)
	a.send(sent)
	a.send(a.batch(1)) // while it is on its way to the disk
	j.answer(t, nil)
	a.want(wire.Accepted, 1)
	a.send(a.batch(1)) // once more: one answer is enough
	a.send(a.batch(2))
	j.answer(t, nil)
	a.want(wire.Accepted, 2)
	f.await(t, "the batches in the store", func() bool { return len(f.keys) == 2 })
	if got := j.kept[0]; !slices.Equal(got.Body, sent.DataBody) || !slices.Equal(got.Metadata, sent.AppMetadata) || got.Identity.Key() != a.key(1) {
		t.Error("other bytes are in the log than came")
	}
	if keys := j.settledKeys(); len(keys) > 0 {
		t.Errorf("%v is settled, and not stored", keys)
	}
	f.settle()
	a.want(wire.Stored, 1)
	a.want(wire.Stored, 2)
	if keys := j.settledKeys(); !slices.Equal(keys, []wire.Key{a.key(1), a.key(2)}) {
		t.Errorf("settled %v", keys)
	}
}

// TestNotAccepted: what the log does not take is sent again by its agent, and nothing of it goes on.
func TestNotAccepted(t *testing.T) {
	j := newJournal()
	f := serve(t, func(cfg *Config) { cfg.Log = j })
	a := f.agent(t, nil)
	a.send(a.batch(1))
	j.answer(t, errors.New("no space left on the log's disk"))
	if answer := a.want(wire.Retry, 1); !strings.Contains(answer.Reason, "no space left") {
		t.Errorf("refused because of %q", answer.Reason)
	}
	if keys := f.submitted(); len(keys) > 0 {
		t.Errorf("%v were stored", keys)
	}
	a.send(a.batch(1))
	j.answer(t, nil)
	a.want(wire.Accepted, 1)
	a.want(wire.Stored, 1)
}

// TestAcceptedAndRefused: what ClickHouse will never take leaves the log once it is in the quarantine, and before it may
// come again.
func TestAcceptedAndRefused(t *testing.T) {
	j := newJournal()
	f := serve(t, func(cfg *Config) { cfg.Log = j })
	f.set(func() { f.refuse = func(wire.Key) error { return errors.New("never") } })
	a := f.agent(t, nil)
	j.onSettle(func(k wire.Key) {
		h, err := f.index.Open(t.Context(), index.LifeOf(k), 1, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer h.Close()
		if state := h.Claim(k.Sequence, func(index.End, string) {}); state != index.Flying {
			t.Errorf("state %d: its agent may send it again before it is forgotten", state)
		}
	})
	sent := a.batch(1)
	a.send(sent)
	j.answer(t, nil)
	a.want(wire.Accepted, 1)
	a.want(wire.Rejected, 1)
	f.wantQuarantined(t, sent, a.key(1))
	f.stop() // and what is under way
	if keys := j.settledKeys(); !slices.Equal(keys, []wire.Key{a.key(1)}) {
		t.Errorf("settled %v", keys)
	}
}
