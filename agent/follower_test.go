// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/agent/internal/place"
)

// TestAServiceThatComesLateIsFound has a metadata service that is not up yet, then tells a spot instance, then is
// away again; the agent keeps what it heard, and hears the notices of the place that it found.
func TestAServiceThatComesLateIsFound(t *testing.T) {
	var up atomic.Bool
	var probes atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Metadata-Flavor", "Google")
		answers := map[string]string{
			"/computeMetadata/v1/instance/id": "7", "/computeMetadata/v1/instance/zone": "projects/1/zones/us-central1-a",
			"/computeMetadata/v1/instance/machine-type": "projects/1/machineTypes/a3-highgpu-8g",
			"/computeMetadata/v1/instance/preempted":    "TRUE", "/computeMetadata/v1/instance/maintenance-event": "NONE",
		}
		if r.URL.Path == "/computeMetadata/v1/instance/id" {
			probes.Add(1)
		}
		body, ok := answers[r.URL.Path]
		switch {
		case !up.Load():
			http.Error(w, "not yet", http.StatusServiceUnavailable)
		case !ok:
			http.NotFound(w, r)
		default:
			fmt.Fprint(w, body)
		}
	}))
	defer server.Close()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "product_name"), []byte("Google Compute Engine"), 0o600); err != nil {
		t.Fatal(err)
	}
	moved, told := make(chan Node, 8), make(chan event.Event, 8)
	f := follower{
		node: Node{Name: "node-1"}, interval: 20 * time.Millisecond, spread: place.NewSpread("node-1", "place"), logger: slog.New(slog.DiscardHandler),
		cfg:   PlaceConfig{Endpoints: map[string]string{"gcp": server.URL}, DMI: folder, Poll: 10 * time.Millisecond},
		moved: func(n Node) { moved <- n },
		write: func(e event.Event) error { told <- e; return nil },
	}
	f.probe(t.Context())
	if n := <-moved; n.Provider != "gcp" || n.Region != "" || n.PlaceSource != "dmi" {
		t.Errorf("before the service is up: %+v", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		f.run(ctx)
		close(ended)
	}()
	up.Store(true)
	if n := <-moved; n.Region != "us-central1" || n.InstanceType != "a3-highgpu-8g" || n.Name != "node-1" || n.PlaceSource != "gcp" {
		t.Errorf("once it is up: %+v", n)
	}
	if e := <-told; e.Kind != "interruption_notice" || e.Source != "cloud" || e.NoticeID != "preempted" {
		t.Errorf("event %+v", e)
	}
	up.Store(false)
	for before := probes.Load(); probes.Load() < before+3; { // three more probes find nobody
		select {
		case n := <-moved:
			if n.Region != "us-central1" {
				t.Errorf("while it is away: %+v", n)
			}
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	<-ended
	if len(told) != 0 {
		t.Errorf("told again: %+v", <-told)
	}
}
