// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
)

// cluster is a kubelet at a socket and an API server, which know one pod at a time.
type cluster struct {
	podresources.UnimplementedPodResourcesListerServer

	t      *testing.T
	socket string
	api    *httptest.Server
	files  string // folder of the service account
	stop   func() // ends the kubelet

	mu      sync.Mutex // guards the fields below
	gpu     string     // UUID
	pod     string     // "" if nobody has the GPU
	started time.Time  // of the pod
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	folder, err := os.MkdirTemp("", "kubelet") //nolint:usetesting // a socket's path has 107 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, socket: filepath.Join(folder, "kubelet.sock"), files: t.TempDir(), stop: func() {}}
	c.api = httptest.NewTLSServer(c)
	t.Cleanup(func() {
		c.stop()
		c.api.Close()
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.api.Certificate().Raw})
	for name, text := range map[string][]byte{"token": []byte("secret"), "ca.crt": authority} {
		if err := os.WriteFile(filepath.Join(c.files, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// start runs the kubelet.
func (c *cluster) start() {
	c.t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", c.socket)
	if err != nil {
		c.t.Fatal(err)
	}
	server := grpc.NewServer()
	podresources.RegisterPodResourcesListerServer(server, c)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) }) // ends with Stop
	c.stop = func() {
		server.Stop()
		serving.Wait()
		c.stop = func() {}
	}
}

// give gives the GPU to a pod that starts now, and tells when that is, for SQL.
func (c *cluster) give(pod string) (started string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pod, c.started = pod, time.Now().Truncate(time.Millisecond)
	return fmt.Sprintf("fromUnixTimestamp64Milli(%d)", c.started.UnixMilli())
}

// List implements the kubelet's service.
func (c *cluster) List(context.Context, *podresources.ListPodResourcesRequest) (*podresources.ListPodResourcesResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pod == "" {
		return &podresources.ListPodResourcesResponse{}, nil
	}
	return &podresources.ListPodResourcesResponse{PodResources: []*podresources.PodResources{{
		Name: c.pod, Namespace: "ml", Containers: []*podresources.ContainerResources{
			{Name: "main", Devices: []*podresources.ContainerDevices{{ResourceName: "nvidia.com/gpu", DeviceIds: []string{c.gpu}}}},
		},
	}}}, nil
}

// ServeHTTP is the API server.
func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer secret" || r.URL.Path != "/api/v1/namespaces/ml/pods/"+c.pod {
		http.NotFound(w, r)
		return
	}
	name, _, _ := strings.Cut(c.pod, "-")
	fmt.Fprintf(w, `{"kind": "Pod", "metadata": {"namespace": "ml", "name": %[1]q, "uid": "uid-of-%[1]s", "labels": {"team": "vision", "model": "vit"},
		"ownerReferences": [{"kind": "StatefulSet", "name": %[2]q, "controller": true}]}, "status": {"startTime": %[3]q}}`,
		c.pod, name, c.started.UTC().Format(time.RFC3339Nano))
}

// oneGPU is a driver with one GPU, which does not tell of processes.
type oneGPU struct{ gpu.Driver }

type plainDevice struct{ gpu.Device }

func (d oneGPU) Devices() ([]gpu.Device, gpu.Return) {
	devices, ret := d.Driver.Devices()
	for i := range devices {
		devices[i] = plainDevice{devices[i]}
	}
	return devices[:min(1, len(devices))], ret
}

// atTime joins each sample with whoever had its GPU at that time.
const atTime = " FROM gpu_samples AS s JOIN workload_intervals AS w ON w.gpu_id = s.gpu_id WHERE s.ts >= w.valid_from AND (w.valid_to IS NULL OR s.ts < w.valid_to) "

// TestOwners: whose a sample is, is an answer of SQL, also for samples that were made while the kubelet was away.
func TestOwners(t *testing.T) {
	db := clickhousetest.Start(t)
	address, stop := startCollector(t, collectorConfig(t, db.Writer))
	c := newCluster(t)
	c.give("train-0")
	c.start()
	f := startFleet(t, fleetConfig{
		nodes: 1, seed: 7, collector: address, interval: 200 * time.Millisecond, flush: 500 * time.Millisecond,
		change: func(cfg *agent.Config) {
			open := cfg.Open
			cfg.Open = func() (gpu.Driver, error) {
				d, err := open()
				return oneGPU{d}, err
			}
			driver, _ := cfg.Open()
			devices, _ := driver.Devices()
			c.gpu = devices[0].UUID()
			driver.Close()
			cfg.Owners.Find, cfg.Owners.Interval, cfg.Owners.KubeletSocket = true, time.Second, c.socket
			cfg.Owners.API = agent.PodAPI{APIServer: c.api.URL, TokenFile: filepath.Join(c.files, "token"), CAFile: filepath.Join(c.files, "ca.crt")}
		},
	})
	awaitAnswer(t, db.Reader, "SELECT owner_kind, namespace, pod, pod_uid, container, team, workload_model, deployment, shared, node_name FROM fleet_workload",
		"kubernetes\tml\ttrain-0\tuid-of-train-0\tmain\tvision\tvit\ttrain\t0\t"+f.names[0])
	c.stop()
	came := c.give("serve-1")
	awaitAnswer(t, db.Reader, "SELECT count() > 15, any(pod)"+atTime+"AND s.ts >= "+came, "1\ttrain-0") // as far as anybody knows
	c.start()
	awaitAnswer(t, db.Reader, "SELECT pod, deployment FROM fleet_workload", "serve-1\tserve")
	c.give("")
	awaitAnswer(t, db.Reader, "SELECT owner_kind, reason FROM fleet_workload", "none\tnot_allocated")

	f.wantExactlyOnce(db.Reader)
	// One owner after the other, without a gap, and each sample has one of them. What was made while the kubelet was
	// away belongs to the pod that came meanwhile.
	awaitAnswer(t, db.Reader, "SELECT pod, valid_to IS NULL FROM workload_intervals ORDER BY valid_from", "train-0\t0\nserve-1\t0\n\\N\t1")
	awaitAnswer(t, db.Reader, "SELECT arrayDistinct(groupArray(owners)) FROM (SELECT s.ts, count() AS owners"+atTime+"GROUP BY s.ts)", "[1]")
	awaitAnswer(t, db.Reader, "SELECT count() = (SELECT count() FROM gpu_samples)"+atTime, "1")
	awaitAnswer(t, db.Reader, "SELECT pod, s.ts >= "+came+" AS later, count() > 0"+atTime+"AND w.pod IS NOT NULL GROUP BY pod, later ORDER BY min(s.ts)", "train-0\t0\t1\nserve-1\t1\t1")
	for _, sql := range documentedQueries(t, "ownership.md") {
		clickhousetest.Query(t, db.Reader, sql) // fails the test if it is refused
	}
	stop()
}

// documentedQueries are the queries that a document shows.
func documentedQueries(t *testing.T, document string) (queries []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", document))
	if err != nil {
		t.Fatal(err)
	}
	for i, block := range strings.Split(string(text), "```") {
		if i%2 == 1 && strings.HasPrefix(strings.TrimSpace(block), "SELECT") {
			queries = append(queries, block)
		}
	}
	if len(queries) == 0 {
		t.Errorf("%s shows no query", document)
	}
	return queries
}
