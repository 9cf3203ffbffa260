// SPDX-License-Identifier: Apache-2.0

package batchlog

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/internal/frames"
	"github.com/gpufleet/gpufleet/schema"
)

// TestNextLife finds what was not settled: units as they were noted, and batches that were not joined yet.
func TestNextLife(t *testing.T) {
	dir, all := t.TempDir(), events(t, 8)
	r := start(t, configOf(dir))
	r.mustAppend(all...)
	for token, batches := range map[string][2]int{"settled": {0, 2}, "whole": {2, 4}, "begun": {4, 6}} {
		if err := r.note(token, all[batches[0]], all[batches[1]-1]); err != nil {
			t.Fatal(err)
		}
	}
	r.settle(all[0], all[1], all[4])
	r.stop()
	l, err := Open(configOf(dir))
	if err != nil {
		t.Fatal(err)
	}
	want(t, l, all, Unit{"whole", keysOf(all[2:4]...)}, Unit{"", keysOf(all[5:]...)})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestUnitOfRest: what is joined anew is not in the unit before.
func TestUnitOfRest(t *testing.T) {
	dir, all := t.TempDir(), events(t, 3)
	r := start(t, configOf(dir))
	r.mustAppend(all...)
	for _, u := range [][]int{{0, 1, 2}, {2, 1}} {
		joined := all[:0:0]
		for _, i := range u {
			joined = append(joined, all[i])
		}
		if err := r.note(strings.Repeat("x", len(u)), joined...); err != nil {
			t.Fatal(err)
		}
	}
	r.stop()
	again := start(t, configOf(dir))
	want(t, again.Log, all, Unit{"xx", keysOf(all[2], all[1])}, Unit{"", keysOf(all[0])})
	again.settle(all...)
	want(t, again.Log, all)
}

// TestFilesGo once all that is in them is settled, also those of a unit that was noted in a later file.
func TestFilesGo(t *testing.T) {
	dir, all := t.TempDir(), events(t, 20)
	cfg := configOf(dir)
	cfg.limits = defaultLimits
	cfg.limits.segmentBytes = 2000
	r := start(t, cfg)
	r.mustAppend(all...)
	if err := r.note("unit", all...); err != nil {
		t.Fatal(err)
	}
	if n := len(files(t, dir)); n < 3 {
		t.Fatalf("%d segments", n)
	}
	r.settle(all[1:]...)
	if n := len(files(t, dir)); n < 2 {
		t.Errorf("%d segments, and one has a batch that is not settled", n)
	}
	r.settle(all[0])
	if n := len(files(t, dir)); n > 1 {
		t.Errorf("%d segments of what is settled", n)
	}
	r.stop()
	if left := files(t, dir); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// TestFull refuses batches, and goes on noting what makes room.
func TestFull(t *testing.T) {
	all := events(t, 40)
	cfg := configOf(t.TempDir())
	cfg.MaxBytes = 200 << 10
	cfg.limits = defaultLimits
	cfg.limits.segmentBytes = 2000
	r := start(t, cfg)
	var kept int
	for _, b := range all {
		err := r.append(b)
		if err == nil {
			kept++
			continue
		}
		if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "--log-bytes") {
			t.Fatal(err)
		}
		break
	}
	if kept == 0 || kept == len(all) || r.Bytes() > cfg.MaxBytes {
		t.Fatalf("%d batches kept, %d bytes", kept, r.Bytes())
	}
	if err := r.note("unit", all[:kept]...); err != nil {
		t.Errorf("a unit is not noted: nothing will ever make room: %v", err)
	}
	r.settle(all[:kept]...)
	r.mustAppend(all[kept])
}

// TestFullOfWhatIsStored: a log that is smaller than a segment takes batches again once those in it are settled.
func TestFullOfWhatIsStored(t *testing.T) {
	all := events(t, 40)
	cfg := configOf(t.TempDir())
	cfg.MaxBytes = 200 << 10
	cfg.limits = defaultLimits
	r := start(t, cfg)
	kept := 0
	for r.append(all[kept]) == nil {
		kept++
	}
	if kept == 0 {
		t.Fatal("nothing was kept")
	}
	r.settle(all[:kept]...)
	r.mustAppend(all[kept])
}

// TestNoteBesideAppends: a unit is noted while the answer to an append is held up, as it is by a store that is full.
func TestNoteBesideAppends(t *testing.T) {
	all := events(t, 2)
	r := start(t, configOf(t.TempDir()))
	r.mustAppend(all[0])
	full, room := make(chan struct{}), make(chan struct{})
	r.Append(all[1], func(error) {
		close(full)
		<-room
	})
	<-full
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := r.Note(ctx, schema.EventsID, "unit", keysOf(all[0]))
	close(room)
	if err != nil {
		t.Error(err)
	}
}

func TestOneOwner(t *testing.T) {
	dir := t.TempDir()
	start(t, configOf(dir))
	if _, err := Open(configOf(dir)); !errors.Is(err, frames.ErrLocked) || !strings.Contains(err.Error(), "--data") {
		t.Errorf("opened twice: %v", err)
	}
}

// TestStopped answers what comes too late.
func TestStopped(t *testing.T) {
	r := start(t, configOf(t.TempDir()))
	r.stop()
	if err := r.append(events(t, 1)[0]); !errors.Is(err, errStopped) {
		t.Error(err)
	}
	r.Flush()
}
