// SPDX-License-Identifier: Apache-2.0

// Package kubelet asks the kubelet of this node which devices it gave to which containers, over the
// pod-resources socket. It promises that an answer is whole or an error, that a name which means no GPU
// is left out and counted, and that a kubelet that was restarted is found again by the next call. A
// Client starts no goroutines but those of its gRPC connection, which end with Close.
package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"

	"github.com/gpufleet/gpufleet/agent/internal/owner/device"
)

// DefaultSocket is where the kubelet listens.
const DefaultSocket = "/var/lib/kubelet/pod-resources/kubelet.sock"

// ErrAbsent tells that not even the folder of the socket is there: this is no node of Kubernetes. A kubelet
// that starts anew takes its socket away, and leaves the folder.
var ErrAbsent = errors.New("no kubelet here")

const (
	// callTimeout bounds one answer; the kubelet answers from memory.
	callTimeout = 5 * time.Second
	// maxAnswerBytes bounds one answer: a node of 1,000 pods with 200 devices each needs 10 MB.
	maxAnswerBytes = 32 << 20
	// maxRetryWait bounds the pause between two tries to connect, so that a kubelet that is back is used soon.
	maxRetryWait = 5 * time.Second
)

// Allocation is one device, or a share of one, that a container was given.
type Allocation struct {
	Namespace, Pod, Container string
	Claim                     string // of dynamic resource allocation; "" if a device plugin gave it
	Device                    device.Name
}

// Answer is what the kubelet has given out.
type Answer struct {
	Allocations []Allocation
	Unknown     int    // devices under names of NVIDIA's that mean no GPU here
	Example     string // one of them
}

// Client asks one kubelet. It belongs to one goroutine.
type Client struct {
	socket string
	conn   *grpc.ClientConn // nil before the first call
	lister podresources.PodResourcesListerClient
}

// New prepares to ask the kubelet at a socket. Nothing runs before the first call.
func New(socket string) *Client { return &Client{socket: socket} }

// connect prepares the connection; gRPC connects by itself, and again when it breaks.
func (c *Client) connect() error {
	if c.conn != nil {
		return nil
	}
	conn, err := grpc.NewClient("unix://"+c.socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // a file that only root may open
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswerBytes)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 500 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxRetryWait},
			MinConnectTimeout: callTimeout,
		}),
	)
	if err != nil {
		return err
	}
	c.conn, c.lister = conn, podresources.NewPodResourcesListerClient(conn)
	return nil
}

// Close ends the connection.
func (c *Client) Close() error {
	if c.conn == nil {
		return nil
	}
	return c.conn.Close()
}

// List asks for all that is given out.
func (c *Client) List(ctx context.Context) (Answer, error) {
	if _, err := os.Stat(filepath.Dir(c.socket)); errors.Is(err, fs.ErrNotExist) {
		return Answer{}, fmt.Errorf("ask the kubelet at %s: %w", c.socket, ErrAbsent)
	}
	if err := c.connect(); err != nil {
		return Answer{}, fmt.Errorf("ask the kubelet at %s: %w", c.socket, err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	response, err := c.lister.List(ctx, &podresources.ListPodResourcesRequest{})
	if err != nil {
		return Answer{}, fmt.Errorf("ask the kubelet at %s: %w", c.socket, explain(err))
	}
	return read(response), nil
}

// explain adds to an error of gRPC what to do about it.
func explain(err error) error {
	switch status.Code(err) {
	case codes.Unimplemented:
		return fmt.Errorf("it does not speak pod-resources v1 (Kubernetes 1.20 and later do): %w", err)
	case codes.ResourceExhausted:
		return fmt.Errorf("its answer is too long, or it is asked too often: %w", err)
	case codes.Unavailable:
		if strings.Contains(err.Error(), "permission denied") {
			return fmt.Errorf("%w: the socket is root's; run as root or mount it readable: %w", fs.ErrPermission, err)
		}
	}
	return err
}

// read keeps what concerns GPUs.
func read(response *podresources.ListPodResourcesResponse) Answer {
	var answer Answer
	for _, pod := range response.GetPodResources() {
		for _, container := range pod.GetContainers() {
			at := Allocation{Namespace: pod.GetNamespace(), Pod: pod.GetName(), Container: container.GetName()}
			for _, devices := range container.GetDevices() {
				answer.plugin(at, devices)
			}
			for _, claim := range container.GetDynamicResources() {
				answer.dynamic(at, claim)
			}
		}
	}
	return answer
}

// vendor begins the resource names of NVIDIA's device plugin and of those that take its place.
const vendor = "nvidia.com/"

// plugin adds what a device plugin gave. Other plugins than NVIDIA's give GPUs out too, under names of
// their own; a UUID says what it is, whatever the resource is called.
func (a *Answer) plugin(at Allocation, devices *podresources.ContainerDevices) {
	for _, id := range devices.GetDeviceIds() {
		name, ok := device.Parse(id)
		ours := strings.HasPrefix(devices.GetResourceName(), vendor)
		if ok && (ours || name.UUID != "") {
			at.Device = name
			a.Allocations = append(a.Allocations, at)
		} else if ours {
			a.unknown(devices.GetResourceName() + " " + id)
		}
	}
}

// dynamicDriver is NVIDIA's DRA driver of GPUs. It has another one, of NVLink domains, whose devices are
// no GPUs.
const dynamicDriver = "gpu.nvidia.com"

// dynamic adds what a claim brought.
func (a *Answer) dynamic(at Allocation, claim *podresources.DynamicResource) {
	at.Claim = claim.GetClaimName()
	for _, resource := range claim.GetClaimResources() {
		if resource.GetDriverName() != dynamicDriver {
			continue
		}
		name, ok := device.ParseDynamic(resource.GetDeviceName())
		if !ok {
			a.unknown(dynamicDriver + " " + resource.GetDeviceName())
			continue
		}
		name.Share = resource.ShareId != nil
		at.Device = name
		a.Allocations = append(a.Allocations, at)
	}
}

func (a *Answer) unknown(example string) {
	a.Unknown++
	a.Example = example
}
