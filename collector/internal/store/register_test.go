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
	killed := kill(t, db, hour)
	waiting, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := Open(waiting, hour); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it did not wait: %v", err)
	}
	hour.Former = []uint64{killed.instance}
	start(t, hour).stop()

	kill(t, db, named(db, "late"))
	start(t, named(db, "late"))
}

// kill starts a process that says nothing any more, and tells which.
func kill(t *testing.T, db clickhousetest.Database, cfg Config) *Store {
	t.Helper()
	p := newProxy(t, db.Writer.HTTPAddress())
	cfg.Endpoint.Address = p.address
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.set(func(*http.Request, []byte) fault { return refuse })
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	return s
}

// comparing tells that a request is the first by which a start compares a table with the ledger.
func comparing(r *http.Request, body []byte) bool {
	return strings.Contains(r.URL.Query().Get("query")+string(body), "SELECT sum(rows)")
}

// TestNameIsKeptDuringAStart that takes longer than a lease.
func TestNameIsKeptDuringAStart(t *testing.T) {
	db := clickhousetest.Start(t)
	cfg := named(db, "slow")
	p := newProxy(t, db.Writer.HTTPAddress())
	cfg.Endpoint.Address = p.address
	let, compares := make(chan struct{}), false
	p.set(func(r *http.Request, body []byte) fault {
		if comparing(r, body) {
			compares = true
			return waiting(let)
		}
		return pass
	})
	opened := make(chan error, 1)
	go func() {
		s, err := Open(t.Context(), cfg)
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	p.awaitThat(t, "the comparison", func() bool { return compares })
	if second, err := Open(t.Context(), named(db, "slow")); err == nil {
		t.Error("a second one of the name was opened", second.Close())
	} else if _, ok := errors.AsType[NameTaken](err); !ok {
		t.Error(err)
	}
	close(let)
	if err := <-opened; err != nil {
		t.Errorf("the first one: %v", err)
	}
}

// TestNameIsFreeAfterAStartThatFailed, at once.
func TestNameIsFreeAfterAStartThatFailed(t *testing.T) {
	db := clickhousetest.Start(t)
	hour := named(db, "fails")
	hour.Lease = time.Hour
	p := newProxy(t, db.Writer.HTTPAddress())
	failing := hour
	failing.Endpoint.Address = p.address
	p.set(func(r *http.Request, body []byte) fault {
		if comparing(r, body) {
			return exception("241", "MEMORY_LIMIT_EXCEEDED")
		}
		return pass
	})
	if s, err := Open(t.Context(), failing); err == nil {
		t.Error("opened", s.Close())
	}
	ctx, cancel := context.WithTimeout(t.Context(), limitless)
	defer cancel()
	s, err := Open(ctx, hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
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

// TestFarewellIsShort: a ClickHouse that hangs holds up nobody's end.
func TestFarewellIsShort(t *testing.T) {
	db := clickhousetest.Start(t)
	p := newProxy(t, db.Writer.HTTPAddress())
	cfg := named(db, "leaves")
	cfg.Endpoint.Address, cfg.Lease = p.address, time.Hour
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.set(func(*http.Request, []byte) fault { return waiting(nil) })
	began := time.Now()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > cfg.QueryTimeout/2 {
		t.Errorf("it took %s", took)
	}
}
