// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/sim"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// sample is a row of gpu_subsecond.
type sample struct {
	at     time.Time
	gpu    uint64
	signal string
	burst  bool
	fault  uint64 // 0: none
}

// traced is a Tee that keeps sub-second samples, and the texts of events.
type traced struct {
	t        *testing.T
	decoders map[uint8]*wire.Decoder

	mu      sync.Mutex // guards the fields below
	samples []sample
	events  []string // "kind: message"
}

func newTraced(t *testing.T) *traced {
	t.Helper()
	z, err := wire.NewDecompressor()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(z.Close)
	made := &traced{t: t, decoders: map[uint8]*wire.Decoder{}}
	for _, id := range []uint8{schema.SubsecondID, schema.EventsID} {
		table, _ := schema.TableByID(id)
		made.decoders[id] = wire.NewDecoder(table.WireSchema(), z)
	}
	return made
}

func (c *traced) tee(b *wire.Batch) {
	decoder := c.decoders[b.Identity.Table]
	if decoder == nil {
		return
	}
	record, err := decoder.Decode(b.Identity, b.Header, b.Body)
	if err != nil {
		c.t.Error(err)
		return
	}
	defer record.Release()
	column := func(name string) int { return record.Schema().FieldIndices(name)[0] }
	c.mu.Lock()
	defer c.mu.Unlock()
	for row := range int(record.NumRows()) {
		text := func(name string) string { return record.Column(column(name)).ValueStr(row) }
		if b.Identity.Table == schema.EventsID {
			c.events = append(c.events, text("kind")+": "+text("message"))
			continue
		}
		s := sample{
			at:  time.UnixMicro(int64(record.Column(column("ts")).(*array.Timestamp).Value(row))),
			gpu: record.Column(column("gpu_id")).(*array.Uint64).Value(row), signal: text("signal"), burst: record.Column(column("burst")).IsValid(row),
		}
		if fault := record.Column(column("fault_id")).(*array.Uint64); fault.IsValid(row) {
			s.fault = fault.Value(row)
		}
		c.samples = append(c.samples, s)
	}
}

// tracing runs an agent of a node of eight busy H100s in virtual time. act is called after three minutes; five minutes
// later the agent ends.
func tracing(t *testing.T, act func(a *agent.Agent, n *sim.Node), change ...func(*agent.Config)) (made *traced, stats agent.Stats) {
	t.Helper()
	made = newTraced(t)
	synctest.Test(t, func(t *testing.T) {
		node, err := sim.NewNode(sim.NodeConfig{Model: sim.H100, Seed: 1, Workload: sim.Burn})
		if err != nil {
			t.Fatal(err)
		}
		cfg := agent.DefaultConfig()
		cfg.Node = agent.Node{Name: "node-1", ReadingSource: "simulator"}
		cfg.Open = func() (gpu.Driver, error) { return node.Driver(), nil }
		cfg.Tee, cfg.Subsecond, cfg.Bursts.Proc = made.tee, false, node.Proc()
		for _, c := range change {
			c(&cfg)
		}
		a, err := agent.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		<-time.After(3 * time.Minute)
		act(a, node)
		<-time.After(5 * time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		stats = a.Stats()
	})
	return made, stats
}

func inject(t *testing.T, n *sim.Node, f sim.Fault) {
	t.Helper()
	if err := n.Inject(f); err != nil {
		t.Fatal(err)
	}
}

// of are the samples of a signal that lie on one side of a time.
func (c *traced) of(signal string, from, until time.Time) (found []sample) {
	for _, s := range c.samples {
		if s.signal == signal && !s.at.Before(from) && !s.at.After(until) {
			found = append(found, s)
		}
	}
	return found
}

// saw tells whether an event begins so.
func (c *traced) saw(event string) bool {
	return slices.ContainsFunc(c.events, func(e string) bool { return strings.HasPrefix(e, event) })
}

// TestAFaultIsTraced: two minutes before it, one after, and ten seconds at 10 Hz, of its GPU alone, each sample once.
func TestAFaultIsTraced(t *testing.T) {
	var at time.Time
	made, stats := tracing(t, func(_ *agent.Agent, n *sim.Node) {
		at = time.Now()
		inject(t, n, sim.Fault{Kind: sim.XID, GPU: 2, Code: 31})
	})
	long := time.Hour
	before, after := made.of("power_milliwatts", at.Add(-long), at), made.of("power_milliwatts", at, at.Add(long))
	if len(before) < 5990 || len(before) > 6010 || len(after) < 2990 || len(after) > 3010 { // the ring gives 50 a second
		t.Errorf("%d samples before the fault, %d after", len(before), len(after))
	}
	if got := made.of("temperature_celsius", at, at.Add(11*time.Second)); len(got) != 100 || len(got) != len(made.of("temperature_celsius", at.Add(-long), at.Add(long))) {
		t.Errorf("%d readings of the burst", len(got))
	}
	once, bursts := map[sample]bool{}, 0
	for _, s := range made.samples {
		if s.gpu != made.samples[0].gpu || s.fault == 0 || s.fault != made.samples[0].fault || once[s] {
			t.Fatalf("sample %+v, the first is %+v; there twice: %v", s, made.samples[0], once[s])
		}
		once[s] = true
		if s.burst {
			bursts++
		}
		if s.at.Before(at.Add(-2*time.Minute-time.Second)) || s.at.After(at.Add(time.Minute+time.Second)) {
			t.Errorf("sample of %s after the fault", s.at.Sub(at))
		}
	}
	if !made.saw("burst_started: fault: XID 31") || stats.Bursts != 1 || stats.TracedSamples != uint64(len(made.samples)-bursts) || stats.SkippedRows+stats.MissedTicks > 0 {
		t.Errorf("events %q, stats %+v", made.events, stats)
	}
}

// procs is a /proc that changes.
type procs struct{ now atomic.Pointer[fstest.MapFS] }

func (p *procs) Open(name string) (fs.File, error) { return p.now.Load().Open(name) }

// TestAProfilerThatComesEndsABurst, as docs/faults.md promises: within a second or two, with no sign of it in GPM.
func TestAProfilerThatComesEndsABurst(t *testing.T) {
	var proc procs
	proc.now.Store(&fstest.MapFS{"1/comm": {Data: []byte("systemd\n")}})
	var began time.Time
	made, _ := tracing(t, func(a *agent.Agent, _ *sim.Node) {
		began = time.Now()
		if _, _, err := a.Burst(context.Background(), "", time.Minute, "asked to"); err != nil {
			t.Error(err)
		}
		<-time.After(10 * time.Second)
		proc.now.Store(&fstest.MapFS{"4711/comm": {Data: []byte("ncu\n")}})
	}, func(c *agent.Config) { c.Bursts.Proc = &proc })
	if got := len(made.of("temperature_celsius", began, began.Add(time.Hour))) / 8; got < 100 || got > 120 {
		t.Errorf("%d readings of each GPU, where a profiler came after ten seconds", got)
	}
}

// TestAGPUThatIsLostIsTraced: what it gave before it fell off the bus is on the node. What it tells all others of, that
// their programs were stopped, is no reason to trace them.
func TestAGPUThatIsLostIsTraced(t *testing.T) {
	var at time.Time
	made, _ := tracing(t, func(_ *agent.Agent, n *sim.Node) {
		at = time.Now()
		inject(t, n, sim.Fault{Kind: sim.XID, GPU: 2, Code: 79})
	})
	before := made.of("power_milliwatts", at.Add(-time.Hour), at)
	if len(before) < 2290 || len(before) != len(made.of("power_milliwatts", at.Add(-time.Hour), at.Add(time.Hour))) { // the rings are read each five seconds
		t.Errorf("%d samples before the fault", len(before))
	}
	for _, s := range made.samples {
		if s.gpu != made.samples[0].gpu {
			t.Fatalf("another GPU is traced: %+v", s)
		}
	}
}

// TestWhatIsLostOutlivesTheAgent, if it has a folder for that.
func TestWhatIsLostOutlivesTheAgent(t *testing.T) {
	dir := t.TempDir()
	tracing(t, func(_ *agent.Agent, n *sim.Node) {
		inject(t, n, sim.Fault{Kind: sim.LoseGPU, GPU: 3})
	}, func(c *agent.Config) { c.KernelLog.StateDir = dir })
	text, err := os.ReadFile(filepath.Join(dir, "gpus-lost.json"))
	if err != nil || strings.Count(string(text), "missing_since_milliseconds") != 1 {
		t.Errorf("kept %q, %v", text, err)
	}
}

func TestWhatIsTracedAndBurst(t *testing.T) {
	overheat := func(_ *agent.Agent, n *sim.Node) {
		inject(t, n, sim.Fault{Kind: sim.Overheat, GPU: 5, Celsius: 40, For: 4 * time.Minute})
	}
	xid := func(code uint64) func(*agent.Agent, *sim.Node) {
		return func(_ *agent.Agent, n *sim.Node) { inject(t, n, sim.Fault{Kind: sim.XID, GPU: 2, Code: code}) }
	}
	for name, tt := range map[string]struct {
		act           func(a *agent.Agent, n *sim.Node)
		change        func(*agent.Config)
		burst, traced bool
		event         string
	}{
		"information":       {act: xid(43)},
		"clocks held down":  {act: overheat, burst: true, event: "burst_started: heat, the hardware or the power brake"},
		"bursts off":        {act: xid(31), change: func(c *agent.Config) { c.Bursts.On = false }, traced: true},
		"traces off":        {act: xid(31), change: func(c *agent.Config) { c.Bursts.Before, c.Bursts.After = 0, 0 }, burst: true, event: "burst_started: fault: XID 31"},
		"samples kept":      {act: xid(31), change: func(c *agent.Config) { c.Subsecond = true }, burst: true, traced: true, event: "burst_started"},
		"beside a profiler": {act: func(a *agent.Agent, n *sim.Node) { inject(t, n, sim.Fault{Kind: sim.ProfileGPU}); xid(31)(a, n) }, traced: true, event: "burst_refused: fault: XID 31: the profiler ncu runs on the node"},
		"profiled elsewhere": {act: func(a *agent.Agent, n *sim.Node) {
			inject(t, n, sim.Fault{Kind: sim.ProfileGPU, GPU: 2})
			<-time.After(20 * time.Second)
			xid(31)(a, n)
		}, change: func(c *agent.Config) { c.Bursts.Proc = nil }, traced: true, event: "burst_refused: fault: XID 31: a profiler has its counters"},
		"by hand": {act: func(a *agent.Agent, _ *sim.Node) {
			gpus, lasts, err := a.Burst(context.Background(), "", 2*time.Second, "asked to")
			if err != nil || len(gpus) != 8 || lasts != 2*time.Second {
				t.Errorf("%d GPUs for %s, %v", len(gpus), lasts, err)
			}
		}, burst: true, event: "burst_started: asked to"},
	} {
		t.Run(name, func(t *testing.T) {
			made, stats := tracing(t, tt.act, func(c *agent.Config) {
				if tt.change != nil {
					tt.change(c)
				}
			})
			if got := slices.ContainsFunc(made.samples, func(s sample) bool { return s.burst }); got != tt.burst {
				t.Errorf("readings of a burst: %v", got)
			}
			if got := slices.ContainsFunc(made.samples, func(s sample) bool { return !s.burst && s.fault != 0 }); got != tt.traced {
				t.Errorf("samples that name a fault: %v", got)
			}
			if tt.event != "" && !made.saw(tt.event) {
				t.Errorf("events %q", made.events)
			}
			if tt.event == "" && made.saw("burst_") {
				t.Errorf("events %q", made.events)
			}
			if stats.SkippedRows+stats.MissedTicks > 0 {
				t.Errorf("stats %+v", stats)
			}
		})
	}
}
