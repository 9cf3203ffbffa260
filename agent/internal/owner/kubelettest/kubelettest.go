// SPDX-License-Identifier: Apache-2.0

// Package kubelettest is a kubelet for tests: a real gRPC server of pod-resources on a real unix socket,
// which gives recorded answers and can be stopped and started again in mid-run. The answers have the
// shape that kubelets of that kind give, with names and UUIDs of nobody.
package kubelettest

import (
	"context"
	"embed"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"
)

//go:embed answers/*.json
var answers embed.FS

// Answer reads one of the recorded answers: gpu, timeslicing, mig, gke, dra.
func Answer(t testing.TB, name string) *podresources.ListPodResourcesResponse {
	t.Helper()
	text, err := fs.ReadFile(answers, "answers/"+name+".json")
	if err != nil {
		t.Fatal(err)
	}
	response := &podresources.ListPodResourcesResponse{}
	if err := protojson.Unmarshal(text, response); err != nil {
		t.Fatalf("recorded answer %s: %v", name, err)
	}
	return response
}

// Kubelet answers at a socket while it runs.
type Kubelet struct {
	podresources.UnimplementedPodResourcesListerServer

	Socket string

	mu     sync.Mutex // guards the fields below
	server *grpc.Server
	done   chan struct{} // closed when the server has ended
	answer *podresources.ListPodResourcesResponse
	err    error
	asked  int
}

// New makes a kubelet that does not run yet. It is stopped with the test.
func New(t testing.TB) *Kubelet {
	t.Helper()
	// A socket's path has 107 bytes at most, and a test's own folder may be longer.
	dir, err := os.MkdirTemp("", "kubelet") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	k := &Kubelet{Socket: filepath.Join(dir, "kubelet.sock"), answer: &podresources.ListPodResourcesResponse{}}
	t.Cleanup(func() {
		k.Stop()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return k
}

// Start listens. A socket that a kubelet left behind is replaced, as kubelets do.
func (k *Kubelet) Start(t testing.TB) {
	t.Helper()
	if err := os.Remove(k.Socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", k.Socket)
	if err != nil {
		t.Fatal(err)
	}
	server, done := grpc.NewServer(), make(chan struct{})
	podresources.RegisterPodResourcesListerServer(server, k)
	k.mu.Lock()
	k.server, k.done = server, done
	k.mu.Unlock()
	go func() {
		defer close(done)
		_ = server.Serve(listener) // ends with Stop
	}()
}

// Stop ends the kubelet and every connection to it, and takes its socket away.
func (k *Kubelet) Stop() {
	k.mu.Lock()
	server, done := k.server, k.done
	k.server = nil
	k.mu.Unlock()
	if server != nil {
		server.Stop()
		<-done
	}
}

// Give makes the kubelet answer with a response from now on, or with an error.
func (k *Kubelet) Give(answer *podresources.ListPodResourcesResponse, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.answer, k.err = answer, err
}

// Asked counts the calls so far.
func (k *Kubelet) Asked() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.asked
}

// List implements the service.
func (k *Kubelet) List(context.Context, *podresources.ListPodResourcesRequest) (*podresources.ListPodResourcesResponse, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked++
	return k.answer, k.err
}
