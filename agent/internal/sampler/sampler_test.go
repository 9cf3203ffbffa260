// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// testSampler samples a fake driver in the bubble of synctest, in which time is virtual.
type testSampler struct {
	*Sampler
	rows *recorder
	stop func()
}

func startSampler(t *testing.T, open func() (gpu.Driver, error), change ...func(*Config)) *testSampler {
	t.Helper()
	rows := newRecorder()
	cfg := Config{
		Node: Node{Name: "node-1", ReadingSource: "simulator"}, Open: open, Interval: time.Second,
		HealthInterval: time.Minute, InventoryInterval: time.Hour, RescanInterval: 30 * time.Second,
		StuckAfter: 5 * time.Second, StopWait: 3 * time.Second, Subsecond: true, Sink: rows, Journal: event.NewJournal(rows), Logger: slog.New(slog.DiscardHandler),
	}
	for _, c := range change {
		c(&cfg)
	}
	s := New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return &testSampler{Sampler: s, rows: rows, stop: func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}}
}

func opening(d *fakeDriver) func() (gpu.Driver, error) {
	return func() (gpu.Driver, error) { return d, nil }
}

// rowsOf are the rows of gpu_samples of one GPU.
func (s *testSampler) rowsOf(uuid string) (found []row) {
	for _, r := range s.rows.of(schema.SamplesID) {
		if uint64(r["gpu_id"].Int) == wire.GPUID(uuid) {
			found = append(found, r)
		}
	}
	return found
}

func TestTicksAreAlignedAndEveryGPUIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(8)
		for i, device := range d.devices {
			device.set("DEV_POWER_INSTANT", 0, int64(100_000+i*1000))
		}
		s := startSampler(t, opening(d))
		wait(10*time.Second + 500*time.Millisecond)
		s.stop()
		for i, device := range d.devices {
			rows := s.rowsOf(device.uuid)
			if len(rows) != 10 {
				t.Fatalf("%s has %d rows in ten ticks", device.uuid, len(rows))
			}
			for _, r := range rows {
				if r["ts"].Int%1000 != 0 {
					t.Errorf("%s read at %d ms: not on the second", device.uuid, r["ts"].Int)
				}
				if got := r["power_instant_watts"].Int; got != int64(100+i) {
					t.Errorf("%s: power %d W, want %d", device.uuid, got, 100+i)
				}
				if c, ok := r["power_average_watts"]; ok {
					t.Errorf("%s: power_average_watts is %d; the GPU does not answer it", device.uuid, c.Int)
				}
			}
			if _, ok := rows[0]["interval_milliseconds"]; ok || rows[1]["interval_milliseconds"].Int != 1000 {
				t.Errorf("%s: intervals %v, %v", device.uuid, rows[0]["interval_milliseconds"], rows[1]["interval_milliseconds"])
			}
		}
		if got := s.Stats().MissedTicks.Load(); got != 0 {
			t.Errorf("%d ticks missed", got)
		}
	})
}

func TestGPUThatHangsDoesNotStopTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(8)
		s := startSampler(t, opening(d))
		wait(3*time.Second + 500*time.Millisecond)
		release := d.devices[3].hang()
		wait(20 * time.Second)
		if got := len(s.rowsOf("GPU-3")); got != 3 {
			t.Errorf("the GPU that hangs has %d rows", got)
		}
		for _, device := range d.devices {
			if got := len(s.rowsOf(device.uuid)); device.uuid != "GPU-3" && got != 23 {
				t.Errorf("%s has %d rows in 23 ticks", device.uuid, got)
			}
		}
		if got := s.Stats().GPUs.Load(); got != 7 {
			t.Errorf("%d GPUs answer, want 7", got)
		}
		release()
		wait(2 * time.Second)
		s.stop()
		if events := s.rows.events(); count(events, "gpu_stuck") != 1 || count(events, "gpu_recovered") != 1 {
			t.Errorf("events %v: want the GPU stuck once and recovered once", events)
		}
		if got := len(s.rowsOf("GPU-3")); got != 6 {
			t.Errorf("the GPU that came back has %d rows, want 3 before, the late one and 2 after", got)
		}
	})
}

// TestNoTwoRowsOfAGPUHaveOneTime: a call that hangs returns just before a tick, in the millisecond of that tick.
func TestNoTwoRowsOfAGPUHaveOneTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(1)
		s := startSampler(t, opening(d), func(cfg *Config) { cfg.Phase = 500 * time.Microsecond })
		wait(3*time.Second + 100*time.Microsecond)
		release := d.devices[0].hang()
		wait(2*time.Second + 200*time.Microsecond)
		release() // the tick of 3 s: its row is of 5.0003 s
		wait(2 * time.Second)
		s.stop()
		times := map[int64]int{}
		for _, r := range s.rowsOf("GPU-0") {
			times[r["ts"].Int]++
			if times[r["ts"].Int] > 1 {
				t.Errorf("%d rows of %d ms", times[r["ts"].Int], r["ts"].Int)
			}
		}
		if len(times) != 5 { // of 1 to 3 s, 6 and 7 s
			t.Errorf("%d rows: %v", len(times), times)
		}
		if got := s.Stats().SkippedRows.Load(); got != 2 {
			t.Errorf("%d rows skipped, want those of 4 and 5 s", got)
		}
	})
}

func TestStopDoesNotWaitForAGPUThatHangsForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(2)
		s := startSampler(t, opening(d))
		wait(2500 * time.Millisecond)
		d.devices[0].hang()
		wait(2 * time.Second)
		before := time.Now()
		s.stop()
		if took := time.Since(before); took > 7*time.Second {
			t.Errorf("stop took %s", took)
		}
	})
}

func TestLostGPUIsReportedOnceAndFoundAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(2)
		s := startSampler(t, opening(d))
		wait(5*time.Second + 500*time.Millisecond)
		d.devices[1].lose(true)
		wait(20 * time.Second)
		if got := s.Stats().GPUs.Load(); got != 1 {
			t.Errorf("%d GPUs answer, want 1", got)
		}
		d.devices[1].lose(false)
		wait(40 * time.Second)
		s.stop()
		events := s.rows.events()
		if count(events, "gpu_lost") != 1 || count(events, "gpu_found") != 2 || count(events, "gpu_recovered") != 1 {
			t.Errorf("events %v: want one loss, and the GPU found again", events)
		}
		if got := len(s.rowsOf("GPU-0")); got != 65 {
			t.Errorf("the healthy GPU has %d rows in 65 ticks", got)
		}
	})
}

func TestDriverIsOpenedAgainWhenAllGPUsAreGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := newFakeDriver(1), newFakeDriver(1)
		opened := 0
		s := startSampler(t, func() (gpu.Driver, error) {
			opened++
			switch opened {
			case 1:
				return first, nil
			case 2:
				return nil, errors.New("driver is being loaded")
			default:
				return second, nil
			}
		})
		wait(3500 * time.Millisecond)
		first.devices[0].lose(true)
		wait(2 * time.Minute)
		s.stop()
		if opened < 3 {
			t.Fatalf("driver opened %d times", opened)
		}
		if got := len(s.rowsOf("GPU-0")); got < 60 {
			t.Errorf("%d rows: the second driver was not sampled", got)
		}
	})
}

func TestCounterResetStartsANewEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(1)
		d.devices[0].set("DEV_TOTAL_ENERGY_CONSUMPTION", 0, 1000)
		s := startSampler(t, opening(d))
		wait(1500 * time.Millisecond)
		d.devices[0].set("DEV_TOTAL_ENERGY_CONSUMPTION", 0, 1500)
		wait(time.Second)
		d.devices[0].set("DEV_TOTAL_ENERGY_CONSUMPTION", 0, 200)
		wait(time.Second)
		s.stop()
		rows := s.rowsOf("GPU-0")
		if _, ok := rows[0]["energy_millijoules_delta"]; ok {
			t.Error("the first row has an increment")
		}
		for i, want := range []int64{500, 200} {
			if got := rows[i+1]["energy_millijoules_delta"].Int; got != want {
				t.Errorf("row %d: increment %d, want %d", i+1, got, want)
			}
		}
		if a, b := rows[1]["counter_epoch"].Int, rows[2]["counter_epoch"].Int; a != 1 || b != 2 {
			t.Errorf("counter epochs %d and %d, want 1 and 2", a, b)
		}
		if events := s.rows.events(); count(events, "counters_reset") != 1 {
			t.Errorf("events %v: want one reset", events)
		}
	})
}

func TestHealthIsReadOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(1)
		d.devices[0].set("DEV_ECC_DBE_VOL_TOTAL", 0, 3)
		d.devices[0].set("DEV_TOTAL_ENERGY_CONSUMPTION", 0, 1000)
		s := startSampler(t, opening(d))
		wait(5*time.Minute + 500*time.Millisecond)
		s.stop()
		rows := s.rows.of(schema.HealthID)
		if len(rows) < 5 || len(rows) > 7 {
			t.Fatalf("%d rows of gpu_health in five minutes", len(rows))
		}
		last := rows[len(rows)-1]
		if last["ecc_volatile_uncorrected_errors_total"].Int != 3 || last["ecc_volatile_uncorrected_errors_delta"].Int != 0 {
			t.Errorf("ECC errors: total %v, increment %v", last["ecc_volatile_uncorrected_errors_total"], last["ecc_volatile_uncorrected_errors_delta"])
		}
		if last["energy_millijoules_total"].Int != 1000 {
			t.Errorf("energy total %v", last["energy_millijoules_total"])
		}
		id, _ := gpu.FieldID("DEV_ECC_DBE_VOL_TOTAL", gpu.OlderNumbering)
		if asked := d.devices[0].asked[id]; asked > len(rows)+1 {
			t.Errorf("the ECC field was asked for %d times for %d rows", asked, len(rows))
		}
	})
}

func TestDriverEventsBecomeRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(1)
		s := startSampler(t, opening(d))
		wait(1500 * time.Millisecond)
		d.events <- gpu.Event{Time: time.Now(), UUID: "GPU-0", Kind: gpu.EventXID, Data: 79, GI: gpu.NoInstance, CI: gpu.NoInstance}
		d.events <- gpu.Event{Time: time.Now(), UUID: "GPU-0", Kind: gpu.EventXID, Data: unknownXID, GI: 2, CI: 0}
		wait(100 * time.Millisecond)
		s.stop()
		var xids []row
		for _, e := range s.rows.of(schema.EventsID) {
			if e["kind"].Text == "xid" {
				xids = append(xids, e)
			}
		}
		if len(xids) != 2 {
			t.Fatalf("%d XID events", len(xids))
		}
		if xids[0]["xid"].Int != 79 || xids[0]["source"].Text != "nvml" || uint64(xids[0]["gpu_id"].Int) != wire.GPUID("GPU-0") {
			t.Errorf("first event %v", xids[0])
		}
		if _, ok := xids[1]["xid"]; ok {
			t.Error("a code that the driver does not know was stored")
		}
		if xids[1]["gpu_instance"].Int != 2 {
			t.Errorf("second event %v: want GPU instance 2", xids[1])
		}
	})
}

func TestInventoryIsObservedAtTheStartAndEachHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(2)
		s := startSampler(t, opening(d))
		wait(2*time.Hour + time.Minute)
		s.stop()
		gpus, nodes := s.rows.of(schema.GPUInventoryID), s.rows.of(schema.NodeInventoryID)
		if len(gpus) != 6 || len(nodes) != 3 {
			t.Fatalf("%d observations of 2 GPUs, %d of the node, in two hours", len(gpus), len(nodes))
		}
		if nodes[0]["gpu_count"].Int != 2 || nodes[0]["content_hash"] != nodes[2]["content_hash"] {
			t.Errorf("nodes %v and %v: want equal ones with 2 GPUs", nodes[0], nodes[2])
		}
		if gpus[0]["content_hash"] == gpus[1]["content_hash"] {
			t.Error("two GPUs have one hash")
		}
	})
}

// firsts notes the table of the first row of each GPU.
type firsts struct {
	*recorder
	tables map[int64]uint8 // by gpu_id
}

func (f *firsts) Append(table uint8, cells []batch.Cell) error {
	id := cells[1].Int // of gpu_inventory, gpu_samples and gpu_health
	if _, seen := f.tables[id]; !seen && slices.Contains([]uint8{schema.SamplesID, schema.HealthID, schema.GPUInventoryID}, table) {
		f.tables[id] = table
	}
	return f.recorder.Append(table, cells)
}

// TestWhatAGPUIsComesFirst: a fault that the first row of gpu_health tells of needs the GPU's name.
func TestWhatAGPUIsComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &firsts{recorder: newRecorder(), tables: map[int64]uint8{}}
		s := startSampler(t, opening(newFakeDriver(2)), func(c *Config) { c.Sink = f })
		wait(10 * time.Second)
		s.stop()
		if len(f.tables) != 2 {
			t.Fatalf("rows of %d GPUs, want 2", len(f.tables))
		}
		for id, table := range f.tables {
			if table != schema.GPUInventoryID {
				t.Errorf("the first row of GPU %d is of table %d", id, table)
			}
		}
	})
}

func count(list []string, what string) (n int) {
	for _, s := range list {
		if s == what {
			n++
		}
	}
	return n
}
