// SPDX-License-Identifier: Apache-2.0

package index

import (
	"errors"
	"slices"
	"testing"
)

// TestAgentGoes: who waits is told, the streams end, and nothing of the life is taken any more.
func TestAgentGoes(t *testing.T) {
	l := &ledger{}
	x := newStreams(l)
	ended := 0
	first, err := x.Index.Open(t.Context(), one, 1, func() { ended++ })
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Open(t.Context(), one, 1); err != nil {
		t.Fatal(err)
	}
	told := x.claim(t, 1, Fresh)
	for range 2 {
		first.Over()
	}
	if want := []outcome{{Again, "the agent has gone to another collector"}}; !slices.Equal(*told, want) || ended != 1 {
		t.Errorf("told %v, %d streams ended", *told, ended)
	}
	x.claim(t, 1, Gone)
	x.Done(one.key(1), Stored, "") // what the store still says of it
	if x.claim(t, 1, Gone); len(*told) != 1 {
		t.Errorf("told %v", *told)
	}
	first.Close()
	x.Close(one)
	if len(x.lives) != 0 {
		t.Error("the life is not forgotten")
	}
}

// TestAgentComesBack: what was known under the claim before is out of date, and so is what is under way under it.
func TestAgentComesBack(t *testing.T) {
	l := &ledger{stored: []uint64{1}}
	x := newStreams(l)
	ended := 0
	before, err := x.Index.Open(t.Context(), one, 1, func() { ended++ })
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	var told []outcome
	if state := before.Claim(2, func(end End, reason string) { told = append(told, outcome{end, reason}) }); state != Fresh {
		t.Fatalf("state %d", state)
	}
	l.tenure.Store(2)
	l.stored, l.doubtful = []uint64{1, 3}, true
	if err := x.Open(t.Context(), one, 1); err != nil {
		t.Fatal(err)
	}
	defer x.Close(one)
	if len(told) != 1 || told[0].end != Again || ended != 1 {
		t.Errorf("told %v, %d streams ended", told, ended)
	}
	if h := x.last(one); h.Tenure() != 2 || !h.Doubtful() || before.Tenure() != 1 || before.Doubtful() {
		t.Errorf("tenures %d and %d", before.Tenure(), h.Tenure())
	}
	x.claim(t, 3, Known)
	again := x.claim(t, 2, Fresh)
	before.Done(2, Stored, "") // of the tenure before: it says nothing about this one
	before.Over()
	if x.claim(t, 2, Flying); len(*again) != 0 {
		t.Errorf("told %v", *again)
	}
	x.Done(one.key(2), Stored, "")
	x.claim(t, 2, Known)
}

// TestLateAnswer: of two streams the one that was opened first gets the older answer last, and may not go on with it.
func TestLateAnswer(t *testing.T) {
	l := &ledger{hold: make(chan struct{})}
	x := newStreams(l)
	late := make(chan error, 1)
	go func() {
		_, err := x.Index.Open(t.Context(), one, 1, nil)
		late <- err
	}()
	for l.asked.Load() == 0 {
		if t.Context().Err() != nil {
			t.Fatal("nobody asked")
		}
	}
	quick := &ledger{}
	quick.tenure.Store(2)
	x.ledger = quick
	if err := x.Open(t.Context(), one, 1); err != nil {
		t.Fatal(err)
	}
	close(l.hold)
	if err := <-late; !errors.Is(err, ErrOutdated) {
		t.Errorf("opened, or: %v", err)
	}
	x.claim(t, 1, Fresh)
	x.Done(one.key(1), Stored, "")
	x.Close(one)
	if len(x.lives) != 0 {
		t.Error("the life is not forgotten")
	}
}
