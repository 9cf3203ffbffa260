// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gpufleet/gpufleet/agent/loadgen"
	"github.com/gpufleet/gpufleet/bench/peers"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// peerWork is how much the peers get, and where their programs are.
type peerWork struct {
	nodes, seconds, questions int
	otel                      time.Duration
	programs                  string
}

func (w *peerWork) register(f *flag.FlagSet) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	f.IntVar(&w.nodes, "peer-nodes", 64, "peers: simulated nodes of 8 GPUs")
	f.IntVar(&w.seconds, "peer-seconds", 1800, "peers: seconds of readings of each")
	f.IntVar(&w.questions, "peer-questions", 50, "peers: how often each question is asked")
	f.DurationVar(&w.otel, "peer-otel", time.Minute, "peers: how long the OpenTelemetry Collector is sent to; it gets as many of the readings as it takes in that time")
	f.StringVar(&w.programs, "peer-programs", filepath.Join(cache, "gpufleet-bench", "bin"), "peers: folder of their programs (.ci/peers fills it)")
}

// The columns that are asked about.
const (
	askedAverage = "power_instant_watts" // which every model answers
	askedHighest = "gpu_temperature_celsius"
	peerSenders  = 8 // connections to a peer at the same time
)

// comparison is what all pipelines are given and asked.
type comparison struct {
	work    peerWork
	dir     string
	loads   []loadgen.Load
	span    peers.Span
	gpu     uint64
	rows    int
	samples int
	m       *measured
	answers map[string][2]peers.Answer // to both questions, by pipeline
}

// measurePeers sends the same readings through all pipelines, one after the other, and asks each the same questions.
// A peer that is not installed is left out, aloud.
func measurePeers(ctx context.Context, dir string, w peerWork, m *measured) error {
	m.Data = fmt.Sprintf("%d GPUs, %d s at 1 Hz, identical readings; ten readings of each series in a request", 8*w.nodes, w.seconds)
	m.Others = make(map[string]string)
	fmt.Fprintln(os.Stderr, "making", m.Data)
	loads, err := makeLoads(w.nodes, w.seconds)
	if err != nil {
		return err
	}
	c := &comparison{work: w, dir: dir, loads: loads, m: m, answers: make(map[string][2]peers.Answer)}
	if err := c.survey(); err != nil {
		return err
	}
	m.Figures["peer_rows"], m.Figures["peer_samples"] = float64(c.rows), float64(c.samples)
	for _, one := range []struct {
		name    string
		measure func(context.Context) error
	}{{"gpufleet", c.measureOurs}, {"victoriametrics", c.measureVictoriaMetrics}, {"prometheus", c.measurePrometheus}, {"otelcol", c.measureOTel}} {
		fmt.Fprintln(os.Stderr, "measuring", one.name)
		err := one.measure(ctx)
		switch {
		case errors.Is(err, peers.ErrMissing):
			fmt.Fprintf(os.Stderr, "not measured: %v (make bench-peers installs it)\n", err)
			m.Others[one.name] = "not installed"
		case err != nil:
			return fmt.Errorf("measure %s: %w", one.name, err)
		}
	}
	return c.compare()
}

// survey finds out what the readings are.
func (c *comparison) survey() error {
	reader, err := peers.NewReader()
	if err != nil {
		return err
	}
	defer reader.Close()
	first, last := int64(0), int64(0)
	for _, b := range c.batches() {
		f, err := reader.Read(b)
		if err != nil {
			return err
		}
		c.rows += f.Rows
		c.samples += f.Samples()
		for _, s := range f.Series {
			if c.gpu == 0 || s.GPU < c.gpu {
				c.gpu = s.GPU
			}
			if first == 0 {
				first = s.Times[0]
			}
			first, last = min(first, s.Times[0]), max(last, s.Times[len(s.Times)-1])
		}
	}
	if c.samples == 0 {
		return errNothing
	}
	// Whole minutes, so that every pipeline has the same readings in each.
	c.span = peers.Span{Start: time.UnixMilli(first).Truncate(time.Minute), End: time.UnixMilli(last).Truncate(time.Minute).Add(time.Minute)}
	return nil
}

// batches are those of gpu_samples in the order of their times, as a fleet sends them.
func (c *comparison) batches() []*wire.Batch {
	var all []*wire.Batch
	for _, l := range c.loads {
		for _, b := range l.Batches {
			if b.Identity.Table == schema.SamplesID {
				all = append(all, b)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b *wire.Batch) int { return int(a.Identity.Sequence) - int(b.Identity.Sequence) })
	return all
}

// compare holds all answers against ours, and says how our questions' times stand to VictoriaMetrics'.
func (c *comparison) compare() error {
	ours := c.answers["gpufleet"]
	if len(ours[0]) == 0 || len(ours[1]) == 0 {
		return errNothing
	}
	for name, theirs := range c.answers {
		for i, question := range []string{"a", "b"} {
			if err := ours[i].Same(theirs[i]); err != nil {
				return fmt.Errorf("the answers to (%s) of gpufleet and %s differ: %w", question, name, err)
			}
		}
	}
	c.ratios()
	return nil
}

// ratios say how ours stands to VictoriaMetrics, which is the one to beat: below 1 is ahead.
func (c *comparison) ratios() {
	f := c.m.Figures
	ratio := func(name, ours, theirs string) {
		if by := f["peer_victoriametrics_"+theirs]; by > 0 {
			f["peer_"+name+"_ratio"] = f["peer_gpufleet_"+ours] / by
		}
	}
	f["peer_gpufleet_all_cpu_seconds"] = f["peer_gpufleet_cpu_seconds"] + f["peer_gpufleet_rollup_cpu_seconds"]
	ratio("cpu", "all_cpu_seconds", "cpu_seconds")
	ratio("disk", "disk_bytes_per_sample", "disk_bytes_per_sample")
	ratio("wire", "wire_bytes_per_sample", "wire_bytes_per_sample")
	for _, question := range []string{"query_a", "query_b"} {
		ratio(question, question+"_p50_ms", question+"_p50_ms")
		ratio(question+"_nothing_cached", question+"_p50_ms", question+"_nothing_cached_p50_ms")
		ratio(question+"_kept", question+"_kept_p50_ms", question+"_p50_ms")
	}
}

// set notes a figure of a pipeline.
func (c *comparison) set(pipeline, figure string, value float64) {
	c.m.Figures["peer_"+pipeline+"_"+figure] = value
}

// ask asks the same again and again, and notes how long it took from asking to the last byte. The first answers, which
// warm up, do not count.
func (c *comparison) ask(pipeline, question string, once func() ([]byte, error)) ([]byte, error) {
	const warmup = 5
	var took []float64
	var last []byte
	for i := range c.work.questions + warmup {
		started := time.Now()
		answer, err := once()
		if err != nil {
			return nil, fmt.Errorf("ask (%s): %w", question, err)
		}
		if last = answer; i >= warmup {
			took = append(took, float64(time.Since(started).Microseconds())/1000)
		}
	}
	slices.Sort(took)
	c.set(pipeline, "query_"+question+"_p50_ms", took[len(took)/2])
	c.set(pipeline, "query_"+question+"_p95_ms", took[len(took)*95/100])
	return last, nil
}
