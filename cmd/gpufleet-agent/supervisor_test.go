// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// tape keeps what agents send, and reads it when they have ended: what decoders share must not belong to a bubble.
type tape struct {
	mu      sync.Mutex
	batches []*wire.Batch
}

func (p *tape) tee(b *wire.Batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.batches = append(p.batches, b)
}

// each calls a function for every row of a table, with the agent's epoch.
func (p *tape) each(t *testing.T, table uint8, see func(epoch uint64, r arrow.RecordBatch, row int)) {
	t.Helper()
	z, err := wire.NewDecompressor()
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	of, _ := schema.TableByID(table)
	for _, b := range p.batches {
		if b.Identity.Table != table {
			continue
		}
		record, err := wire.NewDecoder(of.WireSchema(), z).Decode(b.Identity, b.Header, b.Body)
		if err != nil {
			t.Fatal(err)
		}
		for row := range int(record.NumRows()) {
			see(b.Identity.Epoch, record, row)
		}
		record.Release()
	}
}

// samples are the times of all rows of gpu_samples, by the agent that wrote them.
func (p *tape) samples(t *testing.T) map[uint64][]time.Time {
	t.Helper()
	found := map[uint64][]time.Time{}
	p.each(t, schema.SamplesID, func(epoch uint64, r arrow.RecordBatch, row int) {
		if times, ok := r.Column(0).(*array.Timestamp); ok {
			found[epoch] = append(found[epoch], times.Value(row).ToTime(arrow.Millisecond))
		}
	})
	return found
}

// events are the kinds and messages of all rows of gpu_events.
func (p *tape) events(t *testing.T) (found []string) {
	t.Helper()
	table, _ := schema.TableByID(schema.EventsID)
	kind, message := table.WireSchema().FieldIndices("kind")[0], table.WireSchema().FieldIndices("message")[0]
	p.each(t, schema.EventsID, func(_ uint64, r arrow.RecordBatch, row int) {
		found = append(found, r.Column(kind).ValueStr(row)+": "+r.Column(message).ValueStr(row))
	})
	return found
}

// prime has an agent make batches outside of a bubble.
func prime(t *testing.T) {
	t.Helper()
	cfg := testConfig(oneGPU{})
	cfg.Tee = (&tape{}).tee
	if err := runBriefly(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

// given is a configuration as a test wants it, with a driver that has one GPU.
func given(t *testing.T, tee func(*wire.Batch), log *slog.Logger, args ...string) settings {
	t.Helper()
	flags := commandLine(t, args...)
	s := settings{options: options{agent: testConfig(oneGPU{}), memory: 64 << 20}, flags: flags}
	s.agent.Tee, s.agent.Logger, s.agent.Exposition = tee, log, agent.Exposition{GPUs: true}
	s.agent.Collector = ""
	if f := flags.Lookup("interval"); f.Changed {
		s.agent.Interval, _ = flags.GetDuration("interval")
	}
	return s
}

// TestReload has agents replaced, and checks that a bad configuration changes nothing.
func TestReload(t *testing.T) {
	prime(t)
	var sent tape
	var log bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		logger := slog.New(slog.NewTextHandler(&log, nil))
		hangup := make(chan os.Signal, 1)
		var next func() (settings, error)
		s := &supervisor{hangup: hangup, load: func() (settings, error) { return next() }}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.run(ctx, given(t, sent.tee, logger)) }()
		<-time.After(5500 * time.Millisecond)
		reload := func(after time.Duration, result func() (settings, error)) {
			next = result
			hangup <- syscall.SIGHUP
			<-time.After(after)
		}
		reload(5*time.Second, func() (settings, error) { return settings{}, errors.New("agent.yaml:3: no") })
		reload(5*time.Second, func() (settings, error) { return given(t, sent.tee, logger, "--ops-listen", ":1"), nil })
		reload(5*time.Second, func() (settings, error) {
			s := given(t, sent.tee, logger)
			s.agent.Flush = 0
			return s, nil
		})
		reload(5*time.Second, func() (settings, error) {
			return given(t, sent.tee, logger, "--interval", "500ms", "--cluster", "c"), nil
		})
		if !strings.Contains(scrape(s), "gpufleet_gpu_temperature_celsius{") {
			t.Error("/metrics does not show the agent that runs now")
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	wantEvents(t, sent.events(t), "agent_started: ", "config_rejected: agent.yaml:3: no",
		`config_rejected: ops-listen was "127.0.0.1:4492" and is ":1": that takes a restart`,
		"config_rejected: agent configuration: flush of 0s: at least 100ms",
		"agent_stopped: ", "config_reloaded: changed: cluster, interval", "agent_started: ", "agent_stopped: ")
	wantHandover(t, sent.samples(t))
	if !strings.Contains(log.String(), "agent.yaml:3: no") || !strings.Contains(log.String(), "read anew") {
		t.Errorf("the log does not say so:\n%s", &log)
	}
}

// wantEvents looks for events in this order.
func wantEvents(t *testing.T, got []string, want ...string) {
	t.Helper()
	left := want
	for _, e := range got {
		if len(left) > 0 && strings.HasPrefix(e, left[0]) {
			left = left[1:]
		}
	}
	if len(left) > 0 {
		t.Errorf("there is no event %q in this order:\n%s", left[0], strings.Join(got, "\n"))
	}
}

// wantHandover checks that two agents sampled: the first each second and not disturbed, the second twice a second
// and from the next second on.
func wantHandover(t *testing.T, samples map[uint64][]time.Time) {
	t.Helper()
	if len(samples) != 2 {
		t.Fatalf("%d agents have sampled, want 2", len(samples))
	}
	var all []time.Time
	for _, times := range samples {
		all = append(all, times...)
	}
	slices.SortFunc(all, time.Time.Compare)
	short := 0
	for i := range all[1:] {
		switch gap := all[i+1].Sub(all[i]); {
		case gap > 1500*time.Millisecond:
			t.Errorf("nothing was sampled for %s, from %s on", gap, all[i])
		case gap <= 500*time.Millisecond:
			short++
		}
	}
	if short < 6 {
		t.Errorf("the second agent has sampled %d times", short)
	}
}

func scrape(h http.Handler) string {
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return answer.Body.String()
}

// TestLongErrorsAreCutOff: an event has a bound, at a whole character.
func TestLongErrorsAreCutOff(t *testing.T) {
	prime(t)
	var sent tape
	synctest.Test(t, func(t *testing.T) {
		logger := slog.New(slog.DiscardHandler)
		hangup := make(chan os.Signal, 1)
		s := &supervisor{hangup: hangup, load: func() (settings, error) { return settings{}, errors.New(strings.Repeat("ö", longestMessage)) }}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.run(ctx, given(t, sent.tee, logger)) }()
		<-time.After(time.Second)
		hangup <- syscall.SIGHUP
		<-time.After(time.Second)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	wantEvents(t, sent.events(t), "config_rejected: "+strings.Repeat("ö", longestMessage/2)+" …")
}

// TestReleaseOutlivesAReload: a driver that is being replaced is not opened because a token was.
func TestReleaseOutlivesAReload(t *testing.T) {
	prime(t)
	var sent tape
	var began time.Time
	synctest.Test(t, func(t *testing.T) {
		began = time.Now()
		logger := slog.New(slog.DiscardHandler)
		hangup := make(chan os.Signal, 1)
		s := &supervisor{hangup: hangup, load: func() (settings, error) { return given(t, sent.tee, logger), nil }}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.run(ctx, given(t, sent.tee, logger)) }()
		<-time.After(5500 * time.Millisecond)
		if err := s.Resume(); err == nil {
			t.Error("what was not released is resumed")
		}
		if err := s.Release(t.Context(), ""); err != nil {
			t.Error(err)
		}
		hangup <- syscall.SIGHUP
		<-time.After(5 * time.Second)
		if got := s.Status(); got.Released != "asked to" || got.GPUs != 0 || got.Ticks != 0 || got.Configured.Sub(got.Started) != 5500*time.Millisecond {
			t.Errorf("after the reload: %+v", got)
		}
		if err := s.Resume(); err != nil {
			t.Error(err)
		}
		<-time.After(5 * time.Second)
		if got := s.Status(); got.Released != "" || got.GPUs != 1 || got.Node != "node-1" || got.ConfigRejected != "" {
			t.Errorf("after it resumed: %+v", got)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	wantEvents(t, sent.events(t), "driver_released: asked to", "config_reloaded: no flag changed", "driver_released: asked to", "driver_resumed: ")
	for _, times := range sent.samples(t) {
		for _, at := range times {
			if since := at.Sub(began); since > 5600*time.Millisecond && since < 10400*time.Millisecond {
				t.Errorf("a GPU was read %s after the start, while the driver was released", since)
			}
		}
	}
}
