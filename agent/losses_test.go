// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/agent/internal/sampler"
	"github.com/gpufleet/gpufleet/agent/internal/spool"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestLossesAreToldTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // two kinds are told at once
		var told []event.Event
		refuse := 1 // the first telling fails
		l := losses{tell: func(e event.Event) error {
			mu.Lock()
			defer mu.Unlock()
			if refuse > 0 {
				refuse--
				return errors.New("cannot be told")
			}
			told = append(told, e)
			return nil
		}}
		for seq := range uint64(1000) {
			l.add(spool.Loss{Kind: spool.Dropped, Batches: 1, Last: wire.Key{Table: schema.SamplesID, Sequence: seq + 1}, Rows: 80, Reason: "send queue is full"})
			l.add(spool.Loss{Kind: spool.Dropped, Batches: 1, Last: wire.Key{Table: schema.EventsID, Sequence: seq + 1}, Rows: 1})
		}
		l.add(spool.Loss{Kind: spool.Rejected, Batches: 1, Last: wire.Key{Table: schema.HealthID, Sequence: 7}, Rows: 8, Reason: "rows from 1970"})
		<-time.After(3 * lossInterval)
		synctest.Wait()
		counts := map[string]int64{}
		for _, e := range told {
			counts[e.Kind] += *e.Count
		}
		if len(told) != 2 || counts["batches_dropped"] != 1000 || counts["batches_rejected"] != 1 {
			t.Errorf("%d events, counts %v: want one event of 1000 dropped and one of 1 rejected", len(told), counts)
		}
	})
}

// TestAStopTellsWhatWaits at once, and nothing later.
func TestAStopTellsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []event.Event
		l := losses{tell: func(e event.Event) error {
			told = append(told, e)
			return errors.New("cannot be told")
		}}
		dropped := spool.Loss{Kind: spool.Dropped, Batches: 2, Last: wire.Key{Table: schema.SamplesID}}
		l.add(dropped)
		l.stop()
		l.add(dropped)
		if len(told) != 1 || *told[0].Count != 2 {
			t.Errorf("told %v at the stop", told)
		}
		<-time.After(time.Hour)
		l.stop()
		if len(told) != 1 {
			t.Errorf("told %v, some of it after the stop", told)
		}
	})
}

// TestAStopWaitsForWhoIsTelling just now.
func TestAStopWaitsForWhoIsTelling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		telling, told := make(chan struct{}), false
		l := losses{tell: func(event.Event) error {
			close(telling)
			<-time.After(time.Second)
			told = true
			return nil
		}}
		l.add(spool.Loss{Kind: spool.Dropped, Batches: 1})
		<-telling
		if l.stop(); !told {
			t.Error("a timer still runs")
		}
	})
}

// failing is a source that has written a fault and an event, and then cannot go on.
type failing struct {
	*Agent
	err error
}

func (f failing) Run(context.Context) error {
	f.losses.add(spool.Loss{Kind: spool.Dropped, Batches: 1, Last: wire.Key{Table: schema.SamplesID}})
	return errors.Join(f.faults.Write(event.Event{Kind: "gpu_lost", UUID: "GPU-1"}), f.journal.Write(event.Event{Kind: "gpu_found"}), f.err)
}

func (failing) Stats() *sampler.Stats { return nil }

// TestNothingIsWrittenAfterRun, even if it ends with an error, and who writes too late is told so.
func TestNothingIsWrittenAfterRun(t *testing.T) {
	for _, fails := range []error{nil, errors.New("the driver is gone")} {
		synctest.Test(t, func(t *testing.T) {
			rows := 0
			cfg := DefaultConfig()
			cfg.Node.Name, cfg.Tee = "node-1", func(b *wire.Batch) { rows += int(b.Identity.Rows) }
			a, err := newAgent(cfg)
			if err != nil {
				t.Fatal(err)
			}
			a.source = failing{a, fails}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := a.Run(ctx); !errors.Is(err, fails) || fails == nil && err != nil {
				t.Errorf("ended with %v", err)
			}
			if rows != 3 {
				t.Errorf("%d rows were written, want the fault, the event and the loss", rows)
			}
			a.lost(spool.Loss{Kind: spool.Dropped, Batches: 1})
			if err := a.journal.Write(event.Event{Kind: "gpu_found"}); err == nil {
				t.Error("a row could be written after the end")
			}
			<-time.After(time.Hour)
			if rows != 3 {
				t.Errorf("%d rows, some of them after the end", rows)
			}
		})
	}
}

// TestALossIsToldToAFullQueue has the telling of a loss close a batch, whose push drops another: a second loss.
func TestALossIsToldToAFullQueue(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Node.Name, cfg.Collector, cfg.MaxQueueBytes = "node-1", "127.0.0.1:1", 1<<20
	cfg.Open = func() (gpu.Driver, error) { return nil, nil }
	a, err := newAgent(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for sequence := range uint64(2) {
		a.spool.Push(&wire.Batch{Identity: wire.Identity{Table: schema.SamplesID, Sequence: sequence + 1}, Body: make([]byte, 1<<19)})
	}
	a.losses.pending = map[string]*lossCount{"batches_dropped": {batches: 1}}
	yesterday := event.Event{Kind: "agent_started", Time: time.Now().AddDate(0, 0, -1)} // a row of today closes its batch
	if err := a.builder.Append(schema.EventsID, yesterday.Cells()); err != nil {
		t.Fatal(err)
	}
	told := make(chan struct{})
	go func() {
		a.losses.report("batches_dropped")
		close(told)
	}()
	select {
	case <-told:
	case <-time.After(10 * time.Second):
		t.Fatal("the loss is not told: its telling waits for itself")
	}
	if err := a.journal.Flush(); err != nil {
		t.Fatal(err)
	}
	if stats := a.spool.Stats(); stats.Dropped != 1 {
		t.Errorf("%d batches were dropped, want 1", stats.Dropped)
	}
}
