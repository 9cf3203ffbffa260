// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/sim"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// TestCollectorShowsReadingsAndFaults has an agent show a simulated node: rows of the sampler and events of
// the journal both reach the page.
func TestCollectorShowsReadingsAndFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, err := sim.NewNode(sim.NodeConfig{Model: sim.H100, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		cfg := agent.DefaultConfig()
		cfg.Node, cfg.Network.Sysfs = agent.Node{Name: "node-1", ReadingSource: "simulator"}, nil
		cfg.Open = func() (gpu.Driver, error) { return node.Driver(), nil }
		cfg.Tee = func(*wire.Batch) {}
		cfg.Exposition = agent.Exposition{GPUs: true, DCGM: true}
		a, err := agent.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		<-time.After(3 * time.Second)
		if err := node.Inject(sim.Fault{Kind: sim.XID, GPU: 2, Code: 31}); err != nil {
			t.Fatal(err)
		}
		<-time.After(3 * time.Second)
		shown := series(t, a.Collector())
		for name, want := range map[string]int{
			"gpufleet_gpu_info": 8, "gpufleet_gpu_power_instant_watts": 8, "DCGM_FI_DEV_GPU_TEMP": 8, "gpufleet_gpu_xid_total": 1,
		} {
			if shown[name] != want {
				t.Errorf("%d series of %s, want %d", shown[name], name, want)
			}
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestCallsAreTimedByName: what the driver's calls take is exported under names that are known beforehand.
func TestCallsAreTimedByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, err := sim.NewNode(sim.NodeConfig{Model: sim.H100, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		cfg := agent.DefaultConfig()
		cfg.Node, cfg.Network.Sysfs = agent.Node{Name: "node-1", ReadingSource: "simulator"}, nil
		cfg.Open = func() (gpu.Driver, error) { return node.Driver(), nil }
		cfg.Tee = func(*wire.Batch) {}
		a, err := agent.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		reader := sdkmetric.NewManualReader()
		provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
		if err := a.Instrument(provider.Meter("test")); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		<-time.After(10*time.Second + 500*time.Millisecond)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		calls, cut := timedCalls(t, reader)
		if calls["nvmlDeviceGetFieldValues"] < 80 || calls["nvmlDeviceGetSamples"] == 0 || calls["nvmlGpmSampleGet"] < 80 {
			t.Errorf("calls %v of eight GPUs in ten seconds", calls)
		}
		if a.Stats().DriverCalls != total(calls) {
			t.Errorf("%d calls were timed, %d were counted", total(calls), a.Stats().DriverCalls)
		}
		if cut != 0 {
			t.Errorf("sampling is cut to %d", cut)
		}
	})
}

func total(calls map[string]uint64) (n uint64) {
	for _, c := range calls {
		n += c
	}
	return n
}

// timedCalls counts the calls in the histogram by name; cut is -1 if it is not exported.
func timedCalls(t *testing.T, reader sdkmetric.Reader) (calls map[string]uint64, cut int64) {
	t.Helper()
	var got metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &got); err != nil {
		t.Fatal(err)
	}
	calls, cut = map[string]uint64{}, -1
	for _, m := range got.ScopeMetrics[0].Metrics {
		switch data := m.Data.(type) {
		case metricdata.Histogram[float64]:
			for _, p := range data.DataPoints {
				name, _ := p.Attributes.Value("call")
				calls[name.AsString()] += p.Count
			}
		case metricdata.Gauge[int64]:
			if m.Name == "gpufleet.agent.sampling.cut" {
				cut = data.DataPoints[0].Value
			}
		}
	}
	return calls, cut
}

// series counts the series of each name.
func series(t *testing.T, c prometheus.Collector) map[string]int {
	t.Helper()
	registry := prometheus.NewRegistry()
	if err := registry.Register(c); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, f := range families {
		counts[f.GetName()] = len(f.GetMetric())
	}
	return counts
}

func TestNoCollectorUnlessAsked(t *testing.T) {
	cfg := agent.DefaultConfig()
	cfg.Node, cfg.Tee = agent.Node{Name: "node-1"}, func(*wire.Batch) {}
	cfg.Open = func() (gpu.Driver, error) { return nil, nil }
	a, err := agent.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if c := a.Collector(); c != nil {
		t.Errorf("it shows %v", c)
	}
}
