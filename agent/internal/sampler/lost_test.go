// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/schema"
)

// startLosing begins a life of an agent that ticks seldom and keeps what is lost.
func startLosing(t *testing.T, d *fakeDriver, file string) *testSampler {
	t.Helper()
	return startSampler(t, opening(d), func(c *Config) { c.Interval, c.StuckAfter, c.LostFile = 20*time.Second, time.Minute, file })
}

// TestTheDayGoesOnOverARestart, and ends the inventory as it was written.
func TestTheDayGoesOnOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "lost.json")
		d := newFakeDriver(2)
		s := startLosing(t, d, file)
		wait(time.Minute)
		d.devices[1].lose(true)
		wait(5 * time.Hour)
		s.stop()
		d = newFakeDriver(1)
		s = startLosing(t, d, file)
		wait(18 * time.Hour)
		if events := s.rows.events(); count(events, "gpu_removed") != 0 || count(events, "gpu_lost") != 0 {
			t.Errorf("events %v before the day is over", events)
		}
		s.stop()
		d = newFakeDriver(1)
		s = startLosing(t, d, file)
		wait(3 * time.Hour)
		s.stop()
		if events := s.rows.events(); count(events, "gpu_removed") != 1 {
			t.Errorf("events %v after a day", events)
		}
		if ended := s.rows.inventory()["GPU-1"]; ended["removed"].Int != 1 || ended["model"].Text != "Test GPU" {
			t.Errorf("inventory ends with %v", ended)
		}
		d = newFakeDriver(1)
		s = startLosing(t, d, file)
		wait(3 * time.Hour)
		s.stop()
		if events := s.rows.events(); count(events, "gpu_removed") != 0 {
			t.Errorf("events %v: it was removed before", events)
		}
	})
}

// TestALostGPUThatIsBackAfterARestart is found again; one that was listed while it was lost is missing since then.
func TestALostGPUThatIsBackAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "lost.json")
		d := newFakeDriver(2)
		s := startLosing(t, d, file)
		wait(time.Minute)
		d.devices[1].change(func() { d.devices[1].answer = gpu.GPUIsLost })
		wait(50 * time.Hour)
		s.stop()
		s = startLosing(t, newFakeDriver(1), file)
		wait(20 * time.Hour)
		s.stop()
		if events := s.rows.events(); count(events, "gpu_removed") != 0 {
			t.Errorf("events %v: it was listed less than a day ago", events)
		}
		s = startLosing(t, newFakeDriver(2), file)
		wait(time.Hour)
		s.stop()
		if events := s.rows.events(); count(events, "gpu_recovered") != 1 || count(events, "gpu_found") != 1 {
			t.Errorf("events %v: it came back", events)
		}
		s = startLosing(t, newFakeDriver(1), file)
		wait(48 * time.Hour)
		s.stop()
		if events := s.rows.events(); count(events, "gpu_removed") != 0 {
			t.Errorf("events %v: it was not lost when the agent ended", events)
		}
	})
}

// TestAFileOfLostGPUsThatMakesNoSense is set aside; that of another node tells nothing.
func TestAFileOfLostGPUsThatMakesNoSense(t *testing.T) {
	const lost = `{"missing_since_milliseconds":1,"identity":{"UUID":"GPU-9"}}`
	for name, c := range map[string]struct {
		text           string
		aside, removed bool
	}{
		"this node":       {`{"version":1,"node":"node-1","gpus":[` + lost + `]}`, false, true},
		"another node":    {`{"version":1,"node":"node-2","gpus":[` + lost + `]}`, false, false},
		"another version": {`{"version":2,"node":"node-1","gpus":[` + lost + `]}`, true, false},
		"no name":         {`{"version":1,"node":"node-1","gpus":[{}]}`, true, false},
		"cut short":       {`{"version":1,"node":"node-1","gpus":[`, true, false},
		"too many":        {`{"version":1,"node":"node-1","gpus":[` + strings.Repeat(lost+",", maxLostGPUs) + lost + `]}`, true, false},
		"too large":       {strings.Repeat(" ", maxLostFile) + `{}`, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "lost.json")
				if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
					t.Fatal(err)
				}
				s := startLosing(t, newFakeDriver(1), file)
				wait(2 * time.Minute)
				s.stop()
				if _, err := os.Stat(file + ".damaged"); (err == nil) != c.aside {
					t.Errorf("set aside: %v", err)
				}
				if got := s.rows.inventory()["GPU-9"]["removed"].OK; got != c.removed {
					t.Errorf("removed: %t", got)
				}
				if len(s.rows.of(schema.SamplesID)) == 0 {
					t.Error("nothing is sampled")
				}
			})
		})
	}
}

func FuzzParseLost(f *testing.F) {
	f.Add([]byte(`{"version":1,"node":"n","gpus":[{"missing_since_milliseconds":1790000000000,"identity":{"UUID":"GPU-1","Model":"H100","Minor":3}}]}`))
	f.Add([]byte(`{"version":1,"gpus":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := parseLost(text)
		if err != nil {
			return
		}
		if got.Version != lostVersion || len(got.GPUs) > maxLostGPUs {
			t.Errorf("accepted %+v", got)
		}
		for _, g := range got.GPUs {
			if g.Identity.UUID == "" {
				t.Errorf("accepted %+v", g)
			}
		}
	})
}
