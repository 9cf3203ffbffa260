// SPDX-License-Identifier: Apache-2.0

package rollups

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
)

// TestRollupsAreWhatTheSamplesMake lets batches come in any order, twice, late, with gaps and resets, while the rollups
// are made; then every row is what all samples make.
func TestRollupsAreWhatTheSamplesMake(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			f := newFleet(t)
			f.readings()
			r := rand.New(rand.NewPCG(seed, 9))
			const length = hour + 20*minute
			batches := history(r, f.begin, 3, length)
			// Most come in time; some are shuffled to anywhere; a fifth come again.
			r.Shuffle(len(batches)/3, func(i, j int) { batches[i], batches[j] = batches[j], batches[i] })
			b := f.builder(f.config("c"))
			units := slices.Collect(slices.Chunk(batches, 4))
			for i, unit := range units {
				f.insert(unit...)
				if r.IntN(4) == 0 {
					f.insert(units[r.IntN(i+1)]...)
				}
				f.now = max(f.now, f.begin+int64(i+1)*length/int64(len(units)))
				if r.IntN(4) == 0 {
					f.catchUp(b)
				}
				if r.IntN(8) == 0 {
					b = f.builder(f.config("c")) // another life
				}
			}
			f.now = f.begin + 4*hour
			f.catchUp(b)
			f.wantRight()
		})
	}
}

type killed struct{}

// TestBuilderIsKilledAtEachStep ends builders at every step; what they leave is made right by the next.
func TestBuilderIsKilledAtEachStep(t *testing.T) {
	f := newFleet(t)
	f.readings()
	r := rand.New(rand.NewPCG(5, 9))
	steps := []string{StepMinutes, StepMoved, StepMended, StepHours, StepRecorded}
	part := int64(hour)
	late := history(r, f.begin, 3, part) // comes one hour late
	for i := range late {
		late[i].gpu += 10
	}
	reached := map[string]bool{}
	for n, step := range steps {
		f.now = f.begin + int64(n)*part + part/2
		new := history(r, f.begin+int64(n)*part, 2, part)
		for i := range new {
			new[i].seq += 10_000 * (n + 1)
		}
		f.insert(new...)
		f.insert(late[n*len(late)/len(steps) : (n+1)*len(late)/len(steps)]...)
		for _, times := range []int{1, 2} {
			f.now += part / 2
			f.killAt(step, times, reached)
		}
	}
	for _, step := range steps {
		if !reached[step] {
			t.Errorf("no builder came to %q", step)
		}
	}
	f.now += 3 * hour
	f.catchUp(f.builder(f.config("c")))
	f.wantRight()
}

// killAt makes passes of a new builder until it comes to a step for so many times, or has nothing to do.
func (f *fleet) killAt(step string, times int, reached map[string]bool) {
	f.Helper()
	cfg := f.config("c")
	cfg.OnStep = func(s string) {
		if s != step {
			return
		}
		if times--; times == 0 {
			reached[step] = true
			panic(killed{})
		}
	}
	defer func() {
		if r := recover(); r != nil && r != (killed{}) {
			panic(r)
		}
	}()
	f.catchUp(f.builder(cfg))
}

// TestTwoBuildersRace lets two make the same rollups at the same time, while samples come, and a rebuild besides.
func TestTwoBuildersRace(t *testing.T) {
	f := newFleet(t)
	f.readings()
	batches := history(rand.New(rand.NewPCG(8, 9)), f.begin, 3, hour+10*minute)
	f.now = f.begin + 5*minute
	f.catchUp(f.builder(f.config("c")))
	f.now = f.begin + 2*hour
	ctx, cancel := context.WithCancel(t.Context())
	var working sync.WaitGroup
	for range 2 {
		b := f.builder(f.config("same")) // neither gives way
		working.Go(func() {
			for ctx.Err() == nil {
				if _, err := b.Pass(ctx); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	for i := 0; i < len(batches); i += 8 {
		f.insert(batches[i:min(i+8, len(batches))]...)
		if i/8 == len(batches)/16 {
			r := Range{From: timeOf(f.begin), To: timeOf(f.begin + hour), Limits: f.config("").Limits}
			if _, err := Rebuild(t.Context(), f.conn, f.db.Name, r, nil); err != nil {
				t.Error(err)
			}
		}
	}
	cancel()
	working.Wait()
	f.now += 2 * hour
	f.catchUp(f.builder(f.config("c")))
	f.wantRight()
}

// TestOneOfSeveralCollectorsWorks lets the others watch, and one of them go on when it is gone.
func TestOneOfSeveralCollectorsWorks(t *testing.T) {
	f := newFleet(t)
	f.readings()
	f.now = f.begin + 10*minute
	b := f.builder(f.config("b"))
	f.catchUp(b)
	f.catchUp(b)
	f.now += minute
	a := f.builder(f.config("a"))
	f.catchUp(a) // the first by name takes over
	f.now += 2 * minute
	f.catchUp(b)
	if b.leading || !a.leading {
		t.Errorf("a leads: %t, b leads: %t; want a alone", a.leading, b.leading)
	}
	f.now += 3 * minute // a is gone
	f.catchUp(b)
	if !b.leading {
		t.Error("nobody makes the rollups any more")
	}
	f.want(strconv.FormatInt(f.begin+15*minute, 10), "SELECT toUnixTimestamp(max(built_until)) FROM rollup_progress")
}
