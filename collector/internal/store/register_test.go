// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
)

// named is a configuration of which the lease is short.
func named(db clickhousetest.Database, name string) Config {
	cfg := config(endpoint(db.Writer))
	cfg.Name, cfg.Lease = name, 3*time.Second
	return cfg
}

// TestSecondOfAName does not start, and disturbs nothing.
func TestSecondOfAName(t *testing.T) {
	db := clickhousetest.Start(t)
	start(t, named(db, "twin"))
	_, err := Open(t.Context(), named(db, "twin"))
	if taken, ok := errors.AsType[NameTaken](err); !ok || taken.Name != "twin" || !strings.Contains(err.Error(), "--name") {
		t.Errorf("opened, or: %v", err)
	}
	start(t, named(db, "twin-2"))
}

// TestNameIsFree after its process has stopped, at once; after it was killed, at once where that is known, and else once
// its lease has ended.
func TestNameIsFree(t *testing.T) {
	db := clickhousetest.Start(t)
	hour := named(db, "stopped")
	hour.Lease = time.Hour
	stopped := start(t, hour)
	stopped.stop()
	start(t, hour).stop()

	hour.Name = "killed"
	killed, err := Open(t.Context(), hour) // it does not run, and says nothing any more
	if err != nil {
		t.Fatal(err)
	}
	defer killed.db.Close()
	waiting, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := Open(waiting, hour); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it did not wait: %v", err)
	}
	hour.Former = []uint64{killed.instance}
	start(t, hour).stop()

	again, err := Open(t.Context(), named(db, "late"))
	if err != nil {
		t.Fatal(err)
	}
	defer again.db.Close()
	start(t, named(db, "late"))
}

// TestFrozenLosesItsName: a process that was taken for dead and goes on is told so, and stops.
func TestFrozenLosesItsName(t *testing.T) {
	db := clickhousetest.Start(t)
	p := newProxy(t, db.Writer.HTTPAddress())
	cfg := named(db, "frozen")
	cfg.Endpoint.Address = p.address
	frozen, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.set(func(*http.Request, []byte) fault { return refuse })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- frozen.Run(ctx) }()
	start(t, named(db, "frozen"))
	p.set(nil)
	select {
	case <-frozen.NameTaken():
	case <-time.After(limitless):
		t.Fatal("it does not notice")
	}
	cancel()
	if _, ok := errors.AsType[NameTaken](<-ended); !ok {
		t.Error("its end has another reason")
	}
}
