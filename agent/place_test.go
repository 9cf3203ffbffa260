// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/recording"
	"github.com/gpufleet/gpufleet/agent/sim"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// instance is an EC2 instance whose metadata service is told what to say.
type instance struct {
	mu    sync.Mutex
	asked map[string]int    // by path
	says  map[string]string // by path
	then  func()            // called after each request
}

const (
	identityDocument = "/latest/dynamic/instance-identity/document"
	spotAction       = "/latest/meta-data/spot/instance-action"
)

func newInstance() *instance {
	return &instance{asked: make(map[string]int), then: func() {}, says: map[string]string{
		identityDocument: `{"accountId":"123456789012","availabilityZone":"us-east-1b","imageId":"ami-1","instanceId":"i-0a1b2c3d4e5f60718","instanceType":"p5.48xlarge","region":"us-east-1"}`,
		"/latest/meta-data/placement/availability-zone-id": "use1-az6",
		"/latest/meta-data/instance-life-cycle":            "spot",
	}}
}

func (i *instance) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer i.then()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked[r.URL.Path]++
	body, ok := i.says[r.URL.Path]
	switch {
	case r.URL.Path == "/latest/api/token" && r.Method == http.MethodPut:
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
		fmt.Fprint(w, "token")
	case r.Header.Get("X-Aws-Ec2-Metadata-Token") != "token":
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
	case !ok:
		http.NotFound(w, r)
	default:
		fmt.Fprint(w, body)
	}
}

// atInstance is how an agent asks this instance, and no other service.
func atInstance(t *testing.T, i http.Handler) agent.PlaceConfig {
	t.Helper()
	server := httptest.NewServer(i)
	t.Cleanup(server.Close)
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "sys_vendor"), []byte("Amazon EC2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return agent.PlaceConfig{Endpoints: map[string]string{"aws": server.URL}, DMI: folder, Poll: 10 * time.Millisecond}
}

// sampledNode runs an agent on a simulated node until the context ends, and returns what it sent.
func sampledNode(ctx context.Context, t *testing.T, change func(*agent.Config), started func(*agent.Agent)) *recording.Recording {
	t.Helper()
	node, err := sim.NewNode(sim.NodeConfig{Model: sim.H100, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	sent := newTape(t, "node-1")
	var mu sync.Mutex // events are sent by a timer
	cfg := agent.DefaultConfig()
	cfg.Node = agent.Node{Name: "node-1", ReadingSource: "simulator", Region: "mars-1"}
	cfg.Open = func() (gpu.Driver, error) { return node.Driver(), nil }
	cfg.Tee = func(b *wire.Batch) {
		mu.Lock()
		defer mu.Unlock()
		sent.tee(b)
	}
	change(&cfg)
	a, err := agent.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	started(a)
	if err := a.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return sent.load()
}

// TestPlaceAndNoticesAreStored has an agent find out where it is, and hear that it will be taken away.
func TestPlaceAndNoticesAreStored(t *testing.T) {
	here := newInstance()
	here.says[spotAction] = `{"action":"terminate","time":"2026-10-05T08:22:00Z"}`
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	recorded := sampledNode(ctx, t, func(cfg *agent.Config) {
		cfg.FindPlace, cfg.Place = true, atInstance(t, here)
		cfg.Place.Known = agent.Place{Region: "venus-1", Rack: "r7"}
	}, func(a *agent.Agent) {
		here.then = func() { // the notice is told before it is asked for again
			here.mu.Lock()
			defer here.mu.Unlock()
			if here.asked[spotAction] > 2 && a.Stats().Ticks > 1 {
				stop()
			}
		}
	})
	nodes, _ := texts(recorded, schema.NodeInventoryID)
	if len(nodes) != 1 {
		t.Fatalf("%d observations of the node, want 1: it is known before the first tick", len(nodes))
	}
	for _, part := range []string{" aws mars-1 use1-az6 p5.48xlarge i-0a1b2c3d4e5f60718 spot ", " r7 ", " aws_ec2 123456789012 us-east-1b ami-1 ", " aws,configuration"} {
		if !strings.Contains(nodes[0], part) {
			t.Errorf("observation %q lacks %q", nodes[0], part)
		}
	}
	events, _ := texts(recorded, schema.EventsID)
	told := slices.DeleteFunc(events, func(e string) bool { return !strings.Contains(e, "interruption_notice") })
	if len(told) != 1 {
		t.Fatalf("events %q: want one interruption", events)
	}
	for _, part := range []string{" cloud ", "the spot instance will be taken back: terminate (aws spot/instance-action: terminate)", "spot terminate 2026-10-05T08:22:00Z 2026-10-05"} {
		if !strings.Contains(told[0], part) {
			t.Errorf("event %q lacks %q", told[0], part)
		}
	}
}

// TestNobodyIsAskedUnlessTold: what is configured is stored all the same.
func TestNobodyIsAskedUnlessTold(t *testing.T) {
	here := newInstance()
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
	defer stop()
	recorded := sampledNode(ctx, t, func(cfg *agent.Config) {
		cfg.Place = atInstance(t, here)
		cfg.Place.Known = agent.Place{Rack: "r7"}
	}, func(*agent.Agent) {})
	nodes, _ := texts(recorded, schema.NodeInventoryID)
	if len(nodes) != 1 || !strings.Contains(nodes[0], " mars-1 ") || !strings.Contains(nodes[0], " r7 ") || !strings.Contains(nodes[0], "configuration") {
		t.Errorf("observations %q", nodes)
	}
	if len(here.asked) > 0 {
		t.Errorf("asked %v", here.asked)
	}
}

func TestPlacesThatCannotBe(t *testing.T) {
	for reason, change := range map[string]func(*agent.Config){
		"want one of on_demand, spot": func(cfg *agent.Config) { cfg.Node.LifeCycle = "lunar" },
		"left out: rack":              func(cfg *agent.Config) { cfg.Node.Rack = "a\nb" },
		"place interval of 1ms":       func(cfg *agent.Config) { cfg.FindPlace, cfg.PlaceInterval = true, time.Millisecond },
	} {
		cfg := agent.DefaultConfig()
		cfg.Node.Name, cfg.Tee, cfg.Open = "node-1", func(*wire.Batch) {}, func() (gpu.Driver, error) { return nil, nil }
		change(&cfg)
		if _, err := agent.New(cfg); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%v, want %q", err, reason)
		}
	}
}

func TestReadPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "place")
	if err := os.WriteFile(path, []byte("rack = r7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := agent.ReadPlace(path); err != nil || p.Rack != "r7" {
		t.Errorf("%+v, %v", p, err)
	}
	if err := os.WriteFile(path, []byte("rak = r7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{path, path + ".gone"} {
		if _, err := agent.ReadPlace(bad); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
