// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/internal/health"
)

// idle is an agent that does not run, with a spool.
func idle(t *testing.T) *Agent {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Node.Name, cfg.Collector, cfg.SpoolDir = "anna", "127.0.0.1:1", t.TempDir()
	cfg.Open = func() (gpu.Driver, error) { return nil, errors.New("not here") }
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.spool.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func TestAliveWhileTicksGoOn(t *testing.T) {
	a, now := idle(t), time.Now()
	alive := func(want bool, what string) {
		t.Helper()
		if got := a.Alive(now); health.AnyFailing(got) == want {
			t.Errorf("%s: %+v", what, got)
		}
	}
	alive(true, "before the first tick")
	stats := a.source.Stats()
	stats.LastTick.Store(now.Add(-time.Minute).UnixMilli())
	alive(true, "a minute without a tick")
	stats.LastTick.Store(now.Add(-hangs - time.Minute).UnixMilli())
	alive(false, "minutes without a tick")
	missing := "is gone"
	stats.Missing.Store(&missing)
	alive(true, "no driver: a restart would not help")
}

func TestReadyNamesWhatIsWrong(t *testing.T) {
	a := idle(t)
	states := func() map[string]health.Check {
		found := make(map[string]health.Check)
		for _, c := range a.Ready() {
			found[c.Name] = c
		}
		return found
	}
	for name, c := range states() {
		if c.State == health.Failing && name != "disk" {
			t.Errorf("%+v", c)
		}
	}
	missing := "cannot be opened: not here"
	a.source.Stats().Missing.Store(&missing)
	if got := states()["driver"]; got.State != health.Failing || !strings.Contains(got.Reason, missing) {
		t.Errorf("no driver: %+v", got)
	}
	for what, tt := range map[string]struct {
		stats Stats
		check func(Stats) health.Check
		want  health.State
		says  string
	}{
		"collector away":     {Stats{CollectorAway: "refused", BatchesWaiting: 3, OldestWaiting: time.Minute}, func(s Stats) health.Check { return health.Warn("collector", away(s)) }, health.Warning, "refused; 3 batches wait, the oldest for 1m0s"},
		"disk does not work": {Stats{SpoolFailing: true}, a.spoolCheck, health.Failing, "in memory"},
		"spool fills":        {Stats{SpoolBytes: a.cfg.SpoolBytes * 9 / 10}, a.spoolCheck, health.Warning, "(90 %)"},
		"spool is full":      {Stats{SpoolBytes: a.cfg.SpoolBytes}, a.spoolCheck, health.Failing, "dropped"},
	} {
		if got := tt.check(tt.stats); got.State != tt.want || !strings.Contains(got.Reason, tt.says) {
			t.Errorf("%s: %+v", what, got)
		}
	}
	a.cfg.SpoolDir = ""
	if got := a.spoolCheck(Stats{BytesWaiting: a.cfg.MaxQueueBytes}); got.State != health.Failing || !strings.Contains(got.Reason, "queue in memory") {
		t.Errorf("memory is full: %+v", got)
	}
}
