// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeOrders knows one node.
type fakeOrders struct {
	mu   sync.Mutex // guards sent
	sent []wire.Order
}

func (o *fakeOrders) Send(ctx context.Context, node string, order wire.Order) error {
	if node != "node-1" {
		<-ctx.Done()
		return errors.New("it is not connected")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sent = append(o.sent, order)
	return order.Validate()
}

func TestBothEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	orders := &fakeOrders{}
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() { Serve(ctx, Config{Path: path, Orders: orders, Logger: slog.New(slog.DiscardHandler)}) })
	defer serving.Wait()
	defer cancel()
	deadline := time.After(10 * time.Second)
	for {
		if file, err := os.Stat(path); err == nil {
			if file.Mode().Perm() != 0o600 {
				t.Errorf("rights %v", file.Mode())
			}
			break
		}
		select {
		case <-deadline:
			t.Fatal("nothing listens")
		case <-time.After(time.Millisecond):
		}
	}
	c := Client{Path: path}
	if err := c.Burst(t.Context(), Burst{Node: "node-1", GPU: "GPU-1", Seconds: 2.5, Reason: "slow", WaitSeconds: 1}); err != nil {
		t.Error(err)
	}
	want := []wire.Order{{Burst: &wire.Burst{GPU: "GPU-1", Seconds: 2.5, Reason: "slow"}}}
	if diff := cmp.Diff(want, orders.sent); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	for part, b := range map[string]Burst{
		"it is not connected":           {Node: "node-2", WaitSeconds: 0.001},
		"wait of 1e+10 seconds":         {Node: "node-1", WaitSeconds: 1e10},
		"wait of -1 seconds":            {Node: "node-1", WaitSeconds: -1},
		"order of a burst of 1e+06 sec": {Node: "node-1", Seconds: 1e6},
	} {
		if err := c.Burst(t.Context(), b); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%+v: %v, want %s", b, err, part)
		}
	}
	if err := (Client{Path: path + "x"}).Burst(t.Context(), Burst{}); err == nil || !strings.Contains(err.Error(), "ask the collector at") {
		t.Errorf("where nobody listens: %v", err)
	}
}
