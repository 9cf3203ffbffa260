// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/gpufleet/gpufleet/bench/peers"
	"github.com/gpufleet/gpufleet/internal/loopback"
)

func (c *comparison) measureVictoriaMetrics(ctx context.Context) error {
	return c.measureTimeSeries(ctx, "victoriametrics", peers.StartVictoriaMetrics)
}

func (c *comparison) measurePrometheus(ctx context.Context) error {
	return c.measureTimeSeries(ctx, "prometheus", peers.StartPrometheus)
}

// startTimeSeries runs a program of a folder on data in another, at an address.
type startTimeSeries func(ctx context.Context, folder, dir, address string) (*peers.TimeSeries, error)

func (c *comparison) measureTimeSeries(ctx context.Context, name string, start startTimeSeries) error {
	address, err := loopback.FreeAddress(ctx)
	if err != nil {
		return err
	}
	peer, err := start(ctx, c.work.programs, filepath.Join(c.dir, name), address)
	if err != nil {
		return err
	}
	defer peer.Stop()
	c.m.Others[name] = peer.Version
	lines, err := c.requests(func(f peers.Flush) ([]byte, error) { return peers.RemoteWrite(f), nil }, 1<<30)
	if err != nil {
		return err
	}
	err = c.measureIngest(ctx, name, []process{{"peer", peer.PID()}}, func(ctx context.Context) (s sent, err error) {
		err = s.send(ctx, lines, peer.Write)
		return s, err
	})
	if err != nil {
		return err
	}
	landed, err := awaitSamples(ctx, float64(c.samples), nil, peer.Landed)
	if err != nil {
		return err
	}
	c.set(name, "samples_sent", float64(c.samples))
	c.set(name, "samples_landed", landed.samples)
	disk, err := peer.Disk(ctx)
	if err != nil {
		return fmt.Errorf("weigh its data: %w", err)
	}
	c.set(name, "disk_bytes_per_sample", float64(disk)/float64(c.samples))
	return c.askTimeSeries(ctx, name, peer)
}

// landing is how many samples have landed, when the last of them had, and what the processes had spent by then.
type landing struct {
	samples float64
	at      time.Time
	cpu     []float64
}

// awaitSamples waits until so many have landed, or until no more have come for some time. What is spent on counting while
// nothing comes is in nobody's CPU.
func awaitSamples(ctx context.Context, want float64, processes []process, landed func(context.Context) (float64, error)) (landing, error) {
	last := landing{samples: -1}
	for {
		got, err := landed(ctx)
		if err != nil {
			return last, fmt.Errorf("count what landed: %w", err)
		}
		if got > last.samples {
			last = landing{got, time.Now(), cpuOf(processes)}
		}
		if got >= want || time.Since(last.at) > 10*time.Second {
			return last, nil
		}
		if err := pause(ctx, watchEvery/5); err != nil {
			return last, err
		}
	}
}

// askTimeSeries asks both questions: as people ask, and where the peer keeps answers, so that it may not use them. The
// latter is what is compared with the others' answers: a kept answer is for other instants than those that were asked for.
func (c *comparison) askTimeSeries(ctx context.Context, name string, peer *peers.TimeSeries) error {
	var answers [2]peers.Answer
	for i, q := range []struct {
		question, query, label string
		step                   int64
	}{{"a", peers.AverageByNode(askedAverage), peers.NodeLabel, 60}, {"b", peers.HighestOfGPU(askedHighest, c.gpu), "", 10}} {
		ask := func(more string) func() ([]byte, error) {
			return func() ([]byte, error) { return peer.Ask(ctx, q.query, c.span, q.step, more) }
		}
		text, err := c.ask(name, q.question, ask(""))
		if err == nil && peer.NoCache != "" {
			text, err = c.ask(name, q.question+"_nothing_cached", ask(peer.NoCache))
		}
		if err != nil {
			return err
		}
		if answers[i], err = peers.ParseMatrix(text, q.label, q.step); err != nil {
			return err
		}
	}
	c.answers[name] = answers
	return nil
}
