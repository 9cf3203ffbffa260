// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gpufleet/gpufleet/bench/peers"
)

// request is a body that a peer gets, with the samples that are in it.
type request struct {
	body    []byte
	rows    int
	samples int
}

// requests encodes all readings for a peer beforehand, in lines that keep the order of each node: making them is not
// part of what is measured, as the batches of ours are there beforehand.
func (c *comparison) requests(encode func(peers.Flush) ([]byte, error), most int) ([peerSenders][]request, error) {
	var lines [peerSenders][]request
	reader, err := peers.NewReader()
	if err != nil {
		return lines, err
	}
	defer reader.Close()
	lane := make(map[uint64]int)
	for i, b := range c.batches() {
		if i >= most {
			break
		}
		f, err := reader.Read(b)
		if err != nil {
			return lines, err
		}
		body, err := encode(f)
		if err != nil {
			return lines, err
		}
		if _, ok := lane[f.Node]; !ok {
			lane[f.Node] = len(lane) % peerSenders
		}
		to := lane[f.Node]
		lines[to] = append(lines[to], request{body, f.Rows, f.Samples()})
	}
	return lines, nil
}

// process is one of those whose time and memory count.
type process struct {
	name string
	pid  int
}

// sent is what came of sending all lines.
type sent struct {
	rows, samples, bytes int
	until                time.Time // no more is sent from then on; zero: all is
	landing              landing   // the last one; zero: all had landed when it was sent
}

// send sends the lines side by side.
func (s *sent) send(ctx context.Context, lines [peerSenders][]request, write func(context.Context, []byte) error) error {
	var rows, samples, bytes atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for _, line := range lines {
		group.Go(func() error {
			for _, r := range line {
				if !s.until.IsZero() && time.Now().After(s.until) {
					return nil
				}
				if err := write(ctx, r.body); err != nil {
					return err
				}
				rows.Add(int64(r.rows))
				samples.Add(int64(r.samples))
				bytes.Add(int64(len(r.body)))
			}
			return nil
		})
	}
	err := group.Wait()
	s.rows, s.samples, s.bytes = int(rows.Load()), int(samples.Load()), int(bytes.Load())
	return err
}

// measureIngest runs something and notes what it took of time, CPU and memory, by rows and samples. do tells how many of
// each there were and how many bytes on the wire, and returns once all that will land has.
func (c *comparison) measureIngest(ctx context.Context, pipeline string, processes []process, do func(context.Context) (sent, error)) error {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	most := make([]float64, len(processes))
	var group errgroup.Group
	group.Go(func() error {
		see := func() {
			for i, p := range processes {
				most[i] = max(most[i], rssMegabytes(p.pid))
			}
		}
		for see(); pause(watching, watchEvery/5) == nil; see() {
		}
		return nil
	})
	before := cpuOf(processes)
	own, started := cpuSeconds(os.Getpid()), time.Now()
	s, err := do(ctx)
	own = cpuSeconds(os.Getpid()) - own
	if s.landing.at.IsZero() {
		s.landing.at, s.landing.cpu = time.Now(), cpuOf(processes)
	}
	stop()
	if err := errors.Join(err, group.Wait()); err != nil {
		return err
	}
	if s.samples == 0 {
		return errNothing
	}
	took, all := s.landing.at.Sub(started).Seconds(), 0.0
	for i, p := range processes {
		used := s.landing.cpu[i] - before[i]
		all += used
		c.set(pipeline, p.name+"_cpu_seconds", used)
		c.set(pipeline, p.name+"_rss_mb", most[i])
	}
	c.set(pipeline, "cpu_seconds", all)
	c.set(pipeline, "seconds", took)
	c.set(pipeline, "sender_cpu_seconds", own)
	c.set(pipeline, "rows_per_second", float64(s.rows)/took)
	c.set(pipeline, "samples_per_second", float64(s.samples)/took)
	c.set(pipeline, "rows_per_cpu_second", float64(s.rows)/all)
	c.set(pipeline, "samples_per_cpu_second", float64(s.samples)/all)
	c.set(pipeline, "wire_bytes_per_sample", float64(s.bytes)/float64(s.samples))
	return nil
}

func cpuOf(processes []process) []float64 {
	used := make([]float64, len(processes))
	for i, p := range processes {
		used[i] = cpuSeconds(p.pid)
	}
	return used
}
