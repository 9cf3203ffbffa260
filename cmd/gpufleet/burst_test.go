// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/collector/control"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// oneNode is a collector that an agent is connected to.
type oneNode struct{ sent chan wire.Order }

func (o oneNode) Send(_ context.Context, node string, order wire.Order) error {
	if node != "node-1" {
		return errors.New("no agent of it is connected")
	}
	o.sent <- order
	return nil
}

func TestBurst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "collector.sock")
	collector := oneNode{make(chan wire.Order, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() {
		control.Serve(ctx, control.Config{Path: path, Orders: collector, Logger: slog.New(slog.DiscardHandler)})
	})
	defer serving.Wait()
	defer cancel()
	for deadline := time.Now().Add(10 * time.Second); ; <-time.After(time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing listens")
		}
	}
	got := gpufleet(t, "", "burst", "--control", path, "--node", "node-1", "--gpu", "GPU-1", "--for", "30s", "--reason", "slow")
	if got.code != 0 || !strings.Contains(got.stdout, "sent to the agent of node-1") {
		t.Fatalf("ended with %+v", got)
	}
	if order := <-collector.sent; *order.Burst != (wire.Burst{GPU: "GPU-1", Seconds: 30, Reason: "slow"}) {
		t.Errorf("order %+v", *order.Burst)
	}
	data := t.TempDir() // of an `up` that was killed: nobody listens
	left, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(data, "collector.sock")})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	if err := left.Close(); err != nil {
		t.Fatal(err)
	}
	if err := burst(t.Context(), control.Burst{Node: "node-1"}, controlSockets(path, data, false)); err != nil {
		t.Errorf("beside a socket that was left: %v", err)
	} else {
		<-collector.sent
	}
	if paths := controlSockets(path, data, true); !slices.Equal(paths, []string{path}) {
		t.Errorf("named %s, asked %v", path, paths)
	}
	for want, args := range map[string][]string{
		"no agent of it is connected": {"--control", path, "--node", "node-2"},
		"give a node: --node":         {"--control", path},
		"--wait 1h0m0s: 0s to 1m0s":   {"--control", path, "--node", "node-1", "--wait", "1h"},
		"ask the collector at /no":    {"--control", "/no", "--node", "node-1"},
	} {
		if got := gpufleet(t, "", append([]string{"burst"}, args...)...); got.code == 0 || !strings.Contains(got.stderr, want) {
			t.Errorf("%q: ended with %+v, want %s", args, got, want)
		}
	}
}
