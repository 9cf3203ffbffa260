// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"

	"github.com/gpufleet/gpufleet/agent/internal/owner/device"
	"github.com/gpufleet/gpufleet/agent/internal/owner/kubelettest"
)

// client asks a kubelet, until the test ends.
func client(t *testing.T, socket string) *Client {
	t.Helper()
	c := New(socket)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func given(at, claim, uuid string, minor, gi, ci, profile, start int, share bool) Allocation {
	parts := strings.Split(at, "/")
	return Allocation{
		Namespace: parts[0], Pod: parts[1], Container: parts[2], Claim: claim,
		Device: device.Name{UUID: uuid, Minor: minor, GI: gi, CI: ci, Profile: profile, Start: start, Share: share},
	}
}

func TestListRecordedAnswers(t *testing.T) {
	const gpuA, gpuB, none = "GPU-5c89852c-1268-c3f3-1b07-caf5db65f1a0", "GPU-1f0c2b3d-aaaa-bbbb-cccc-0123456789ab", device.None
	cases := []struct {
		answer string
		want   Answer
	}{
		{"gpu", Answer{Unknown: 1, Example: "nvidia.com/mlnxnics 0000:3b:00.2", Allocations: []Allocation{
			given("serving/llama-70b-6c9f7d8b54-x2x7k/vllm", "", gpuA, none, none, none, none, none, false),
			given("serving/llama-70b-6c9f7d8b54-x2x7k/vllm", "", gpuB, none, none, none, none, none, false),
		}}},
		{"timeslicing", Answer{Allocations: []Allocation{
			given("research/notebook-ada-0/notebook", "", gpuA, none, none, none, none, none, true),
			given("research/notebook-ben-0/notebook", "", gpuA, none, none, none, none, none, true),
		}}},
		{"mig", Answer{Allocations: []Allocation{
			given("serving/embed-0/server", "", "MIG-6bd1a2ab-4f0e-5b3c-9c1d-0f1e2d3c4b5a", none, none, none, none, none, false),
			given("serving/embed-1/server", "", "MIG-0aa1a2ab-4f0e-5b3c-9c1d-0f1e2d3c4b5b", none, none, none, none, none, true),
			given("legacy/old-driver/main", "", gpuB, none, 2, 0, none, none, false),
		}}},
		{"gke", Answer{Allocations: []Allocation{
			given("default/train-0/main", "", "", 0, none, none, none, none, false),
			given("default/train-0/main", "", "", 1, none, none, none, none, false),
			given("default/shared-0/main", "", "", 2, none, none, none, none, true),
			given("default/split-0/main", "", "", 3, 1, none, none, none, false),
		}}},
		{"dra", Answer{Unknown: 1, Example: "gpu.nvidia.com gpu-vfio-2", Allocations: []Allocation{
			given("research/trainer-0/main", "trainer-0-gpus-8xkzp", "", 0, none, none, none, none, false),
			given("research/trainer-0/main", "trainer-0-gpus-8xkzp", "", 1, none, none, 19, 4, false),
			given("research/sharer/main", "shared", "", 2, none, none, none, none, true),
		}}},
	}
	k := kubelettest.New(t)
	k.Start(t)
	c := client(t, k.Socket)
	for _, tc := range cases {
		t.Run(tc.answer, func(t *testing.T) {
			k.Give(kubelettest.Answer(t, tc.answer), nil)
			got, err := c.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// A UUID says what it is, whoever gives it out; a number is NVIDIA's only under NVIDIA's name.
func TestListOfOtherPlugins(t *testing.T) {
	k := kubelettest.New(t)
	k.Start(t)
	k.Give(&podresources.ListPodResourcesResponse{PodResources: []*podresources.PodResources{{
		Name: "p", Namespace: "n", Containers: []*podresources.ContainerResources{{Name: "c", Devices: []*podresources.ContainerDevices{
			{ResourceName: "volcano.sh/vgpu-number", DeviceIds: []string{"GPU-5c89852c-1268-c3f3-1b07-caf5db65f1a0-3"}},
			{ResourceName: "example.com/card", DeviceIds: []string{"nvidia0"}},
		}}},
	}}}, nil)
	got, err := client(t, k.Socket).List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Allocations) != 1 || !got.Allocations[0].Device.Share || got.Unknown != 0 {
		t.Errorf("%+v", got)
	}
}

func TestListWithoutAKubelet(t *testing.T) {
	socket := kubelettest.New(t).Socket
	if _, err := client(t, socket+"/no/kubelet.sock").List(t.Context()); !errors.Is(err, ErrAbsent) {
		t.Errorf("no folder: %v is not ErrAbsent", err)
	}
	if _, err := client(t, socket).List(t.Context()); err == nil || errors.Is(err, ErrAbsent) {
		t.Errorf("a folder without a socket: %v", err)
	}
}

// The kubelet goes, leaves nothing or a dead socket behind, and comes back: each time the calls fail for
// a while, and then work again, on the same client.
func TestListFindsAKubeletThatRestarts(t *testing.T) {
	k := kubelettest.New(t)
	c := client(t, k.Socket)
	answer := kubelettest.Answer(t, "gpu")
	for round := range 3 {
		k.Give(answer, nil)
		k.Start(t)
		if got := eventually(t, c); len(got.Allocations) != 2 {
			t.Fatalf("round %d: %+v", round, got)
		}
		k.Stop()
		if _, err := c.List(t.Context()); err == nil {
			t.Fatalf("round %d: a kubelet that is not there answered", round)
		}
		if err := os.WriteFile(k.Socket, nil, 0o600); err != nil { // what is left behind is no socket that listens
			t.Fatal(err)
		}
		if _, err := c.List(t.Context()); err == nil || errors.Is(err, ErrAbsent) {
			t.Fatalf("round %d: a dead socket: %v", round, err)
		}
	}
}

// eventually asks until there is an answer; gRPC waits between two tries to connect.
func eventually(t *testing.T, c *Client) Answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		got, err := c.List(ctx)
		if err == nil {
			return got
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the kubelet was not found again: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestListExplainsErrors(t *testing.T) {
	k := kubelettest.New(t)
	k.Start(t)
	c := client(t, k.Socket)
	for _, tc := range []struct {
		err  error
		want string
	}{
		{status.Error(codes.Unimplemented, "unknown service"), "does not speak pod-resources v1"},
		{status.Error(codes.ResourceExhausted, "rejected by rate limit"), "asked too often"},
		{status.Error(codes.Internal, "no pods"), "no pods"},
	} {
		k.Give(nil, tc.err)
		if _, err := c.List(t.Context()); err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), k.Socket) {
			t.Errorf("%v: %v", tc.err, err)
		}
	}
}

// A peer that takes the connection and never answers costs one call's time, not the agent.
func TestListEndsWithItsContext(t *testing.T) {
	k := kubelettest.New(t)
	listener, err := net.Listen("unix", k.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := client(t, k.Socket).List(ctx); status.Code(errors.Unwrap(err)) != codes.DeadlineExceeded {
		t.Errorf("%v", err)
	}
}

// An answer beyond the limit is refused as a whole.
func TestListRefusesALongAnswer(t *testing.T) {
	k := kubelettest.New(t)
	k.Start(t)
	k.Give(&podresources.ListPodResourcesResponse{PodResources: []*podresources.PodResources{{Name: strings.Repeat("x", maxAnswerBytes)}}}, nil)
	if _, err := client(t, k.Socket).List(t.Context()); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("%v", err)
	}
}
