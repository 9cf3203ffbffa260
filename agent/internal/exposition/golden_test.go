// SPDX-License-Identifier: Apache-2.0

package exposition

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/agent/internal/sampler"
	"github.com/gpufleet/gpufleet/agent/sim"
)

// simulate samples a simulated node in virtual time, and calls look each 100 ms, with the time since the start.
func simulate(t *testing.T, o Options, lasts time.Duration, look func(p *Page, since time.Duration)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		node, err := sim.NewNode(sim.NodeConfig{Model: sim.H100, Seed: 1, Driver: "590.48.01"})
		if err != nil {
			t.Fatal(err)
		}
		p := New(Config{Options: o, Node: "node-1", Interval: time.Second, HealthInterval: time.Minute, Late: 6 * time.Second, Now: time.Now})
		w := NewWatch(sink{}, p)
		journal := event.NewJournal(w)
		s := sampler.New(sampler.Config{
			Node: sampler.Node{Name: "node-1"}, Open: func() (gpu.Driver, error) { return node.Driver(), nil },
			Interval: time.Second, HealthInterval: time.Minute, InventoryInterval: time.Hour, RescanInterval: 30 * time.Second,
			StuckAfter: 5 * time.Second, StopWait: time.Second, Flush: 5 * time.Second, Sink: w, Journal: journal, Logger: slog.New(slog.DiscardHandler),
		})
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			if err := s.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		started := time.Now()
		for time.Since(started) < lasts {
			<-time.After(100 * time.Millisecond)
			synctest.Wait()
			look(p, time.Since(started))
		}
		stop()
		running.Wait()
		if err := journal.Flush(); err != nil {
			t.Error(err)
		}
	})
}

// TestGoldenPages compares what Prometheus gets of the first GPU of a simulated node.
func TestGoldenPages(t *testing.T) {
	for name, o := range map[string]Options{"gpufleet.prom": {GPUs: true}, "dcgm.prom": {DCGM: true}} {
		t.Run(name, func(t *testing.T) {
			var got []byte
			simulate(t, o, 61*time.Second, func(p *Page, since time.Duration) {
				if since >= 61*time.Second {
					got = firstGPU(page(t, p))
				}
			})
			golden := filepath.Join("testdata", name)
			want, err := os.ReadFile(golden)
			if err == nil && bytes.Equal(got, want) {
				return
			}
			t.Errorf("the page is not %s (%v); if it should be as it is now: mv %s %s\n%s",
				golden, err, keep(t, name, got), golden, cmp.Diff(string(want), string(got)))
		})
	}
}

// firstGPU leaves the lines of the GPU with index 0, with their comments.
func firstGPU(page []byte) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(page) {
		if bytes.HasPrefix(line, []byte("#")) || bytes.Contains(line, []byte(`gpu_index="0"`)) || bytes.Contains(line, []byte(`gpu="0"`)) {
			out.Write(line)
		}
	}
	return out.Bytes()
}

// TestNamesAsPrometheusWantsThem has promlint judge all names of our own. DCGM's are not ours to change.
func TestNamesAsPrometheusWantsThem(t *testing.T) {
	n := newNode(t, Options{GPUs: true})
	n.identify(uuid, nil, nil)
	everything := func(c *columns) map[string]int64 {
		numbers := map[string]int64{}
		for column := range c.places {
			numbers[column] = 1
		}
		return numbers
	}
	first := everything(samples())
	delete(first, "interval_milliseconds")
	n.sample(0, first)
	n.health(0, everything(health()))
	code := int64(79)
	n.happens(event.Event{UUID: uuid, Kind: "xid", XID: &code})
	text := page(t, n.Page)
	for _, s := range n.own {
		if name := s.desc.String(); n.value(nameOf(name)) == "" {
			t.Errorf("there is no value of %s", name)
		}
	}
	problems, err := promlint.New(bytes.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// nameOf is the name in the text of a Desc.
func nameOf(desc string) string {
	_, rest, _ := strings.Cut(desc, `fqName: "`)
	name, _, _ := strings.Cut(rest, `"`)
	return name
}

// TestReadingsAreThereAllTheTime: whenever it scrapes, Prometheus finds each GPU, once it is known how often each
// reading comes. This fails if rows are held
// back before they are written: Config.Late must then say for how long.
func TestReadingsAreThereAllTheTime(t *testing.T) {
	simulate(t, Options{GPUs: true}, 100*time.Second, func(p *Page, since time.Duration) {
		text := string(page(t, p))
		for _, name := range []string{"gpufleet_gpu_info", "gpufleet_gpu_temperature_celsius", "gpufleet_gpu_memory_used_bytes", "gpufleet_gpu_power_average_watts", "gpufleet_gpu_memory_clock_hertz"} {
			if got := strings.Count(text, "\n"+name+"{"); since > 36*time.Second && got != 8 {
				t.Errorf("after %s: %s is there of %d GPUs", since, name, got)
			}
		}
	})
}
