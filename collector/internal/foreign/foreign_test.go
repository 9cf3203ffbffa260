// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/schema"
)

var energy = []string{"ts", "interval_milliseconds", "counter_epoch", "energy_millijoules_delta"}

func TestCountersBecomeIncrements(t *testing.T) {
	r := start(t, nil)
	started := func(g Reading, second int) Reading {
		g.Start = noon.Add(time.Duration(second) * time.Second).UnixMilli()
		return g
	}
	e := func(second int, value float64) Reading {
		return dcgm("DEV_TOTAL_ENERGY_CONSUMPTION", "GPU-a", second, value)
	}
	r.must(e(-120, 1000))
	r.must(e(-90, 1500))
	r.must(e(-60, 200))               // counts anew: these 200 are since then
	r.must(e(-75, 1700))              // late, what it gained is in the row after it
	r.must(started(e(-30, 900), -30)) // the sender says that it does not know since when
	r.must(started(e(0, 1000), -30))  // nothing new
	r.must(started(e(30, 1200), 10))  // began anew, and no less: what of it is new is not known
	r.must(started(e(60, 1300), 10))
	r.want(schema.SamplesID, energy,
		"-120 - 0 -", "-90 30000 0 500", "-60 30000 1 200", "-75 - 1 -", "-30 30000 1 700", "0 30000 1 100", "30 30000 2 -", "60 30000 2 100")
	r.wantWhole()
}

// TestCounterOfTheMinute has its total and its increments in gpu_health, once a minute.
func TestCounterOfTheMinute(t *testing.T) {
	r := start(t, nil)
	for i, value := range []float64{5, 6, 9, 9, 12} {
		r.must(dcgm("DEV_PCIE_REPLAY_COUNTER", "GPU-a", 30*i-120, value))
	}
	r.must(dcgm("DEV_TOTAL_ENERGY_CONSUMPTION", "GPU-a", 10, 77)) // another column of the same minute
	r.want(schema.HealthID, []string{"ts", "pcie_replays_total", "pcie_replays_delta", "energy_millijoules_total"},
		"-120 5 - -", "-60 9 4 -", "0 12 3 -", "10 - - 77")
	r.want(schema.SamplesID, energy, "10 - 0 -")
}

// TestPiecesBecomeOneRow: a scrape that comes in several requests at once is one row, and what comes later another
// one with what is new alone.
func TestPiecesBecomeOneRow(t *testing.T) {
	r := start(t, func(c *Config) { c.Gather = 200 * time.Millisecond })
	var pieces sync.WaitGroup
	for _, g := range []Reading{
		dcgm("DEV_GPU_UTIL", "GPU-a", 0, 97), dcgm("DEV_GPU_TEMP", "GPU-a", 0, 60), dcgm("DEV_GPU_UTIL", "GPU-a", 0, 97), dcgm("DEV_GPU_UTIL", "GPU-b", 0, 1),
	} {
		pieces.Go(func() {
			if said, err := r.push(g); err != nil || said != "" {
				t.Errorf("push: %q, %v", said, err)
			}
		})
	}
	pieces.Wait()
	r.must(dcgm("DEV_GPU_TEMP", "GPU-a", 0, 60), dcgm("DEV_POWER_USAGE", "GPU-a", 0, 400))
	rows := strings.Split(r.rows(schema.SamplesID, "ts", "gpu_utilization_permille", "gpu_temperature_celsius", "power_average_watts", "quality"), "\n")
	got := map[string]bool{}
	for _, row := range rows {
		got[row] = true
	}
	if len(rows) != 3 || !got["0 970 60 - 128"] || !got["0 10 - - 128"] || !got["0 - - 400 128"] {
		t.Errorf("rows %q", rows)
	}
}

// TestWhatComesAgainIsNotStoredAgain also after the log failed, when it is not known what of it is on the disk.
func TestWhatComesAgainIsNotStoredAgain(t *testing.T) {
	r := start(t, nil)
	first := dcgm("DEV_TOTAL_ENERGY_CONSUMPTION", "GPU-a", -60, 1000)
	second := dcgm("DEV_TOTAL_ENERGY_CONSUMPTION", "GPU-a", -30, 1500)
	r.must(first)
	r.set(func(d *disk) { d.failing = errDisk })
	for range 3 {
		if _, err := r.push(second); !errors.Is(err, errDisk) {
			t.Fatalf("push: %v", err)
		}
	}
	if _, err := r.push(dcgm("DEV_TOTAL_ENERGY_CONSUMPTION", "GPU-a", 0, 1800)); !errors.Is(err, errDisk) {
		t.Fatalf("push of more: %v", err)
	}
	r.set(func(d *disk) { d.failing = nil })
	for range 2 {
		r.must(second)
		r.must(first)
	}
	r.must(dcgm("DEV_TOTAL_ENERGY_CONSUMPTION", "GPU-a", 0, 1800))
	r.want(schema.SamplesID, energy, "-60 - 0 -", "-30 30000 0 500", "0 30000 0 300")
	r.wantWhole()
	if len(r.settled) != len(r.kept) {
		t.Errorf("%d of %d batches settled", len(r.settled), len(r.kept))
	}
}

// TestAnIncrementThatNoColumnHolds is NULL, and not the greatest number that fits.
func TestAnIncrementThatNoColumnHolds(t *testing.T) {
	r := start(t, nil)
	for i, value := range []float64{0, 1 << 33, 1<<33 + 5} {
		r.must(dcgm("DEV_PCIE_REPLAY_COUNTER", "GPU-a", 60*i-120, value))
	}
	r.want(schema.HealthID, []string{"pcie_replays_total", "pcie_replays_delta"}, "0 -", "8589934592 -", "8589934597 5")
}

// TestAVanishedNodeHoldsNothing: what the log did not take goes into it with the next request, whoever it is from.
func TestAVanishedNodeHoldsNothing(t *testing.T) {
	r := start(t, nil)
	r.set(func(d *disk) { d.failing = errDisk })
	if _, err := r.push(dcgm("DEV_GPU_UTIL", "GPU-a", 0, 1)); !errors.Is(err, errDisk) {
		t.Fatalf("push: %v", err)
	}
	r.set(func(d *disk) { d.failing = nil })
	other := dcgm("DEV_GPU_UTIL", "GPU-b", 0, 2)
	other.Labels["Hostname"] = "node-2"
	r.must(other)
	r.want(schema.SamplesID, []string{"gpu_utilization_permille"}, "10", "20")
	if !r.memory.TryAcquire(r.cfg.MaxBytes) {
		t.Error("memory is held")
	}
}

func TestBusy(t *testing.T) {
	r := start(t, func(c *Config) { c.MaxBytes = 64 << 10 })
	r.set(func(d *disk) { d.holding = true })
	second, busy := 0, error(nil)
	for ; busy == nil && second < 60; second++ {
		_, busy = r.push(dcgm("DEV_GPU_UTIL", "GPU-a", second, 50))
	}
	if !errors.Is(busy, ErrBusy) {
		t.Fatalf("never busy: %v", busy)
	}
	r.finish()
	r.must(dcgm("DEV_GPU_UTIL", "GPU-a", second-1, 50)) // the refused one comes again
	rows := strings.Count(r.rows(schema.SamplesID, "ts"), "\n") + 1
	if rows != second {
		t.Errorf("%d rows of %d seconds", rows, second)
	}
	r.wantWhole()
}

func TestRefusals(t *testing.T) {
	r := start(t, func(c *Config) { c.MaxGPUs = 2 })
	node := func(g Reading, host string) Reading { g.Labels["Hostname"] = host; return g }
	var unknown []Reading
	for i := range 40 {
		unknown = append(unknown, dcgm(fmt.Sprintf("DEV_NEW_%02d", i), "GPU-a", 0, 1))
	}
	inWatts := dcgm("DEV_GPU_TEMP", "GPU-a", 0, 50)
	inWatts.Unit = "W"
	for name, c := range map[string]struct {
		readings []Reading
		says     string
	}{
		"unknown":         {unknown, "40 of metrics that are not known here: DCGM_FI_DEV_NEW_00, DCGM_FI_DEV_NEW_01"},
		"unknown, many":   {unknown, "DCGM_FI_DEV_NEW_09 and 30 more (docs/neighbours.md lists what is)"},
		"too old":         {[]Reading{dcgm("DEV_GPU_UTIL", "GPU-a", -8*86400, 1)}, "1: more than 168h0m0s old or 5m0s ahead"},
		"from the future": {[]Reading{dcgm("DEV_GPU_UTIL", "GPU-a", 301, 1)}, "clock of the sender"},
		"another unit":    {[]Reading{inWatts}, `DCGM_FI_DEV_GPU_TEMP in "W"`},
		"no GPU":          {[]Reading{dcgm("DEV_GPU_UTIL", "", 0, 1)}, "no GPU is named"},
		"no node":         {[]Reading{node(dcgm("DEV_GPU_UTIL", "GPU-a", 0, 1), "")}, "no node is named"},
		"a long GPU":      {[]Reading{dcgm("DEV_GPU_UTIL", "GPU-a", 0, 1, "GPU_I_ID", strings.Repeat("7", 250))}, "no GPU is named"},
		"a bad node":      {[]Reading{node(dcgm("DEV_GPU_UTIL", "GPU-a", 0, 1), "a/../b")}, "slashes"},
	} {
		said, err := r.push(c.readings...)
		if err != nil || !strings.Contains(said, c.says) {
			t.Errorf("%s: %q, %v, want %q", name, said, err, c.says)
		}
	}
	r.must(dcgm("DEV_GPU_UTIL", "GPU-a", 0, 1), dcgm("DEV_GPU_UTIL", "GPU-b", 0, 1))
	if said, err := r.push(dcgm("DEV_GPU_UTIL", "GPU-c", 0, 1), dcgm("DEV_GPU_UTIL", "GPU-a", 1, 1)); err != nil || !strings.Contains(said, "1: more than 2 GPUs") {
		t.Errorf("a third GPU: %q, %v", said, err)
	}
	r.want(schema.SamplesID, []string{"ts", "gpu_utilization_permille"}, "0 10", "0 10", "1 10")
}

// TestWhatIsToldIsBounded whatever senders call things: gRPC would refuse a larger answer.
func TestWhatIsToldIsBounded(t *testing.T) {
	r := start(t, nil)
	long := strings.Repeat("é", 50_000)
	var readings []Reading
	for i := range 100 {
		unknown, unit := dcgm(fmt.Sprint("NEW", i, long), "GPU-a", 0, 1), dcgm("DEV_GPU_TEMP", "GPU-a", 0, 1)
		unit.Unit = fmt.Sprint(i, long)
		readings = append(readings, unknown, unit)
	}
	said, err := r.push(readings...)
	if err != nil || len(said) > 16<<10 || !utf8.ValidString(said) {
		t.Errorf("%d bytes, %v", len(said), err)
	}
	for _, says := range []string{"100 of metrics that are not known here: DCGM_FI_NEW0é", "and 90 more", `1: DCGM_FI_DEV_GPU_TEMP in "0é`, "80: for other reasons"} {
		if !strings.Contains(said, says) {
			t.Errorf("%q is not told", says)
		}
	}
}

// TestLateBeyondMemory: what may have come before and is forgotten is refused, and not stored twice.
func TestLateBeyondMemory(t *testing.T) {
	r := start(t, nil)
	for second := range remembered + 1 {
		r.must(dcgm("DEV_GPU_UTIL", "GPU-a", second, 1))
	}
	said, err := r.push(dcgm("DEV_GPU_UTIL", "GPU-a", 0, 1))
	if err != nil || !strings.Contains(said, "later than 64 readings") {
		t.Errorf("forgotten: %q, %v", said, err)
	}
	r.must(dcgm("DEV_GPU_UTIL", "GPU-a", 1, 1))
	if rows := strings.Count(r.rows(schema.SamplesID, "ts"), "\n") + 1; rows != remembered+1 {
		t.Errorf("%d rows", rows)
	}
}

// TestABacklogAtOnce: more times of one GPU in one request than are remembered.
func TestABacklogAtOnce(t *testing.T) {
	r := start(t, nil)
	var backlog []Reading
	for second := range 3 * remembered {
		backlog = append(backlog, dcgm("DEV_TOTAL_ENERGY_CONSUMPTION", "GPU-a", second, float64(10*second)))
	}
	said, err := r.push(backlog...)
	if err != nil {
		t.Fatal(err)
	}
	rows := strings.Count(r.rows(schema.SamplesID, "ts"), "\n") + 1
	var refused int
	if said != "" {
		if _, err := fmt.Sscanf(said, "%d:", &refused); err != nil {
			t.Fatal(err)
		}
	}
	if rows+refused != len(backlog) {
		t.Errorf("%d rows and %d refused (%s) of %d", rows, refused, said, len(backlog))
	}
}

func TestDaysAreApart(t *testing.T) {
	r := start(t, nil)
	midnight := 12 * 3600
	r.must(dcgm("DEV_GPU_UTIL", "GPU-a", midnight-1-86400, 1), dcgm("DEV_GPU_UTIL", "GPU-a", midnight-86400, 2))
	r.want(schema.SamplesID, []string{"ts"}, "-43201", "-43200")
	batches := 0
	for _, b := range r.kept {
		if b.Identity.Table == schema.SamplesID {
			batches++
		}
	}
	if batches != 2 {
		t.Errorf("%d batches for two days", batches)
	}
}

// TestALaterBatchIsDurableFirst: increments go on from the newest row, also if the batch before it went into the log later.
func TestALaterBatchIsDurableFirst(t *testing.T) {
	r := start(t, nil)
	midnight := -12 * 3600
	e := func(second int, value float64) Reading {
		return dcgm("DEV_TOTAL_ENERGY_CONSUMPTION", "GPU-a", midnight+second, value)
	}
	r.set(func(d *disk) { d.failOnce = schema.SamplesID })
	if _, err := r.push(e(-1, 100), e(0, 150)); !errors.Is(err, errDisk) {
		t.Fatalf("push: %v", err)
	}
	r.must(e(-1, 100), e(0, 150))
	r.must(e(9, 160))
	r.want(schema.SamplesID, energy, "-43200 1000 0 50", "-43201 - 0 -", "-43191 9000 0 10")
	r.wantWhole()
}

func TestQuarantine(t *testing.T) {
	r := start(t, nil)
	r.set(func(d *disk) { d.refusing = store.Refused{Reason: errors.New("no such column")} })
	r.must(dcgm("DEV_GPU_UTIL", "GPU-a", 0, 1))
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	if len(r.rejected) != 3 || !strings.Contains(strings.Join(r.rejected, "\n"), "no such column") || len(r.settled) != 3 {
		t.Errorf("quarantined %q, settled %v", r.rejected, r.settled)
	}
}

// TestMoved: what another collector is to store, or may be on a shard that does not answer, is neither in the quarantine nor
// out of the log.
func TestMoved(t *testing.T) {
	for _, err := range []error{store.Moved{}, fmt.Errorf("batch: %w", store.ErrFormerAway)} {
		r := start(t, nil)
		r.set(func(d *disk) { d.refusing = err })
		r.must(dcgm("DEV_GPU_UTIL", "GPU-a", 0, 1))
		r.disk.mu.Lock()
		if len(r.rejected) != 0 || len(r.settled) != 0 || len(r.left) != 3 {
			t.Errorf("%v: quarantined %q, settled %v, left %v", err, r.rejected, r.settled, r.left)
		}
		r.disk.mu.Unlock()
		if !r.memory.TryAcquire(r.cfg.MaxBytes) {
			t.Errorf("%v: memory is held", err)
		}
	}
}

func TestEpochsOfCollectorsDiffer(t *testing.T) {
	seen := map[uint64]bool{}
	for i := range 20 {
		e := epoch(fmt.Sprintf("collector-%d", i), noon)
		if seen[e] || e > uint64(noon.UnixMilli()) || uint64(noon.UnixMilli())-e >= 60_000 {
			t.Errorf("epoch %d", e)
		}
		seen[e] = true
	}
}

// TestStopWhileTheStoreIsFull: what is in the log is durable, and no stop waits for a store that does not take it.
func TestStopWhileTheStoreIsFull(t *testing.T) {
	r := start(t, nil)
	r.set(func(d *disk) { d.full = true })
	r.must(dcgm("DEV_GPU_UTIL", "GPU-a", 0, 1))
	r.stop()
	if len(r.settled) != 0 || len(r.kept) == 0 {
		t.Errorf("%d batches in the log, %d settled", len(r.kept), len(r.settled))
	}
	if !r.memory.TryAcquire(r.cfg.MaxBytes) {
		t.Error("memory of batches that are in the log alone is held")
	}
}
