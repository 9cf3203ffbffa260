// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"golang.org/x/sync/semaphore"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gpufleet/gpufleet/collector/internal/batchtest"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestBucket(t *testing.T) {
	var b bucket
	at := func(seconds float64) time.Time { return noon.Add(time.Duration(seconds * float64(time.Second))) }
	for i, c := range []struct {
		at, n float64
		wait  time.Duration
	}{
		{0, 15, 0},
		{0, 6, 500 * time.Millisecond}, // 5 are left of 20, and 2 come a second
		{0.5, 6, 0},
		{0.4, 1, 500 * time.Millisecond}, // a clock that went back gives nothing
		{100, 500, 0},                    // what is larger than all goes when it is full
		{101, 1, 239500 * time.Millisecond},
		{400, 20, 0},
	} {
		if wait := b.take(2, c.n, at(c.at)); wait != c.wait {
			t.Errorf("take %d: wait %s, want %s", i, wait, c.wait)
		}
	}
	if wait := (&bucket{}).take(0, 1e9, noon); wait != 0 {
		t.Errorf("without a limit: wait %s", wait)
	}
}

// limitedTo serves with such limits, a clock, and counters.
func limitedTo(t *testing.T, l AgentLimits) (*fixture, *clock, func() map[string]int64) {
	t.Helper()
	hands, reader := &clock{at: noon}, metric.NewManualReader()
	f := serve(t, func(cfg *Config) {
		cfg.Agents, cfg.now = l, hands.now
		cfg.Meter = metric.NewMeterProvider(metric.WithReader(reader)).Meter("test")
	})
	return f, hands, func() map[string]int64 { return counters(t, reader) }
}

// TestBatchLimits: what is over a limit is left with its agent, with the reason, and taken later; another agent's goes on.
func TestBatchLimits(t *testing.T) {
	bytes := len((&agent{t: t, table: batchtest.Table(t, schema.EventsID), name: "node-1", epoch: 1000}).batch(1).GetDataBody())
	for reason, l := range map[string]AgentLimits{
		"agent_batches": {BatchesPerSecond: 0.2}, // two at once
		"agent_bytes":   {BytesPerSecond: float64(bytes) * 2.5 / burst},
	} {
		t.Run(reason, func(t *testing.T) {
			f, hands, counted := limitedTo(t, l)
			noisy := f.agent(t, nil)
			quiet := f.agent(t, func(a *agent) { a.name = "node-2" })
			for i := range uint64(2) {
				noisy.send(noisy.batch(1 + i))
				noisy.want(wire.Stored, 1+i)
			}
			for i := range uint64(20) {
				noisy.send(noisy.batch(3 + i))
				if text := noisy.want(wire.Retry, 3+i).Reason; !strings.Contains(text, "again in ") || !strings.Contains(text, "--agent-") {
					t.Errorf("says %q", text)
				}
			}
			quiet.send(quiet.batch(1))
			quiet.want(wire.Stored, 1)
			if got := counted()["gpufleet.collector.retried.batches[reason="+reason+" table=gpu_events]"]; got != 20 {
				t.Errorf("%d counted", got)
			}
			hands.set(noon.Add(time.Minute))
			noisy.send(noisy.batch(3))
			noisy.want(wire.Stored, 3)
		})
	}
}

func TestBatchOfTooManyRows(t *testing.T) {
	f, _, _ := limitedTo(t, AgentLimits{BatchRows: 4})
	a := f.agent(t, nil)
	sent := a.batch(1)
	a.send(sent)
	if text := a.want(wire.Rejected, 1).Reason; !strings.Contains(text, "--agent-rows") {
		t.Errorf("says %q", text)
	}
	f.wantQuarantined(t, sent, a.key(1))
}

// TestGPULimit: made-up GPUs are not taken, and leave no trace; a day later they are counted anew.
func TestGPULimit(t *testing.T) {
	f, hands, counted := limitedTo(t, AgentLimits{GPUs: 7})
	a := f.agent(t, func(a *agent) { a.table = batchtest.Table(t, schema.SamplesID) })
	a.send(a.batch(1)) // five ids
	a.want(wire.Stored, 1)
	a.send(a.batch(1000)) // five others
	if text := a.want(wire.Retry, 1000).Reason; !strings.Contains(text, "more than 7 GPUs") {
		t.Errorf("says %q", text)
	}
	a.send(a.batch(1))
	a.want(wire.Stored, 1)
	if got := counted()["gpufleet.collector.retried.batches[reason=agent_gpus table=gpu_samples]"]; got != 1 {
		t.Errorf("%d counted", got)
	}
	hands.set(noon.Add(24 * time.Hour))
	a.send(a.batch(1000))
	a.want(wire.Stored, 1000)
}

// TestStreamAndEpochLimits: streams over a limit are refused with when to come again.
func TestStreamAndEpochLimits(t *testing.T) {
	f, hands, counted := limitedTo(t, AgentLimits{Streams: 2, EpochsPerHour: 3})
	open := func(epoch uint64) *agent { return f.agent(t, func(a *agent) { a.epoch = epoch }) }
	refused := func(epoch uint64) time.Duration {
		a := f.newAgent(t, f.dial(t), wire.NodeHeader, "node-1")
		a.epoch = epoch
		a.hello()
		_, err := a.put.Recv()
		s := status.Convert(err)
		if s.Code() != codes.ResourceExhausted || len(s.Details()) != 1 {
			t.Fatalf("ended with %v", err)
		}
		info, ok := s.Details()[0].(*errdetails.RetryInfo)
		if !ok || !strings.Contains(s.Message(), "again in ") {
			t.Fatalf("says %v: %v", s.Details(), err)
		}
		return info.GetRetryDelay().AsDuration()
	}
	one, two := open(1), open(2)
	if wait := refused(2); wait != 10*time.Second {
		t.Errorf("streams: again in %s", wait)
	}
	other := f.agent(t, func(a *agent) { a.name = "node-2" })
	other.send(other.batch(1))
	other.want(wire.Stored, 1)
	end(t, one, two)
	hands.set(noon.Add(10 * time.Minute))
	end(t, open(3))
	if wait := refused(4); wait != 50*time.Minute {
		t.Errorf("lives: again in %s", wait)
	}
	end(t, open(1)) // is known
	hands.set(noon.Add(time.Hour))
	end(t, open(4))
	got := counted()
	for _, reason := range []string{"agent_streams", "agent_epochs"} {
		if got["gpufleet.collector.refused.streams[code=ResourceExhausted reason="+reason+"]"] != 1 {
			t.Errorf("counted %v", got)
		}
	}
}

// end closes streams and waits until the collector has ended them.
func end(t *testing.T, agents ...*agent) {
	t.Helper()
	for _, a := range agents {
		if err := a.put.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := a.put.Recv(); !errors.Is(err, io.EOF) {
			t.Fatalf("ended with %v", err)
		}
	}
}

// TestNoisyAgentHoldsHalfTheMemory: one that ignores its window waits for itself; what others send goes on.
func TestNoisyAgentHoldsHalfTheMemory(t *testing.T) {
	f := serve(t, func(cfg *Config) { cfg.MaxMemoryBytes = 2 << 20 })
	f.set(func() { f.hold = true })
	samples := batchtest.Table(t, schema.SamplesID)
	noisy := f.agent(t, func(a *agent) { a.table = samples })
	go func() {
		for s := range uint64(20) {
			noisy.send(data(noisy.large(s+1, 300)))
		}
	}()
	f.await(t, "its own half", func() bool { return len(f.held) > 1 })
	quiet := f.agent(t, func(a *agent) { a.table, a.name = samples, "node-2" })
	quiet.send(quiet.batch(1))
	f.await(t, "another agent's batch", func() bool {
		for _, i := range f.held {
			if i.Key.Node == wire.NodeID("node-2") {
				return true
			}
		}
		return false
	})
	stored := 0
	for stored < 21 {
		f.await(t, "the rest", func() bool { return len(f.held) > 0 })
		stored += f.settle()
	}
	quiet.want(wire.Stored, 1)
}

// TestHoldIsHalfOfTheMemory of a table, to the byte; one batch may always come, however large.
func TestHoldIsHalfOfTheMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := &guest{parts: map[uint8]*semaphore.Weighted{}}
		hold := func(table uint8, bytes int64) (release func()) {
			t.Helper()
			release, err := one.hold(t.Context(), table, bytes, 100)
			if err != nil {
				t.Fatal(err)
			}
			return release
		}
		first, second := hold(1, 20), hold(1, 30)
		other := hold(2, 200) // counts as what there is of its table
		waits := make(chan func(), 1)
		var waiting sync.WaitGroup
		waiting.Go(func() { waits <- hold(1, 1) })
		synctest.Wait()
		if len(waits) != 0 {
			t.Error("holds more than half")
		}
		first()
		waiting.Wait()
		(<-waits)()
		second()
		other()
		if one.held != 0 {
			t.Errorf("%d are held", one.held)
		}
	})
}

// TestGuestsAreForgotten once they have gone and hold nothing.
func TestGuestsAreForgotten(t *testing.T) {
	g := guests{limits: DefaultAgentLimits(), nodes: map[uint64]*guest{}}
	for i := range uint64(3) {
		if _, err := g.enter(i, strconv.FormatUint(i, 10), 1, noon); err != nil {
			t.Fatal(err)
		}
	}
	release, err := g.nodes[1].hold(t.Context(), 1, 1<<20, 1<<10)
	if err != nil {
		t.Fatal(err)
	}
	g.leave(0, noon)
	g.leave(1, noon)
	for _, c := range []struct {
		after time.Duration
		want  int
	}{{59 * time.Minute, 3}, {time.Hour, 2}} {
		if g.forget(noon.Add(c.after)); len(g.nodes) != c.want {
			t.Errorf("%d are known after %s, want %d", len(g.nodes), c.after, c.want)
		}
	}
	release()
	if g.forget(noon.Add(time.Hour)); len(g.nodes) != 1 {
		t.Errorf("%d are known", len(g.nodes))
	}
}
