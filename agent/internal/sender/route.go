// SPDX-License-Identifier: Apache-2.0

package sender

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gpufleet/gpufleet/internal/collectors"
)

// route is which of several collectors all streams of the agent go to. It stays with one as long as that one answers:
// each move makes two collectors ask ClickHouse who has the agent. When it has gone, or refuses the agent, the next in the
// node's own order is tried, after a wait drawn by chance, so that the agents of a collector that has died do not come to
// the others at once; and after a round without success longer, as with a single collector.
type route struct {
	cfg       Config
	addresses []collectors.Address
	lookup    func(ctx context.Context, host string) ([]string, error)
	dial      func(t target) (*grpc.ClientConn, error)

	mu      sync.Mutex // guards the fields below; held while a name is looked up
	conn    *grpc.ClientConn
	at      target
	number  int      // of connections so far
	targets []target // when they were last looked up
	refused map[target]time.Time
	tried   []target      // without success, in a row
	wait    time.Duration // before the next one is tried
	until   time.Time     // the next one is not tried before
}

// way is a connection that a stream may use.
type way struct {
	client flight.FlightServiceClient
	number int
	target string
}

// single tells that there is nothing to choose.
func (r *route) single() bool { return len(r.addresses) == 1 && !r.addresses[0].Many }

// open gives the present connection, and makes one if there is none.
func (r *route) open(ctx context.Context) (way, error) {
	for {
		w, wait, err := r.try(ctx)
		if wait == 0 {
			return w, err
		}
		if !sleep(ctx, wait) {
			return way{}, ctx.Err()
		}
	}
}

// try is open, unless it is too early: then it says how long.
func (r *route) try(ctx context.Context) (w way, wait time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn == nil {
		if wait := time.Until(r.until); wait > 0 {
			return way{}, wait, nil
		}
		if err := r.connect(ctx); err != nil {
			return way{}, 0, err
		}
	}
	return way{flight.NewFlightServiceClient(r.conn), r.number, r.at.dial}, 0, nil
}

// lookupWait bounds the time in which a name must be found.
const lookupWait = 5 * time.Second

func (r *route) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookupWait)
	defer cancel()
	targets, err := resolve(ctx, r.cfg.Node, r.addresses, r.lookup)
	if err != nil {
		r.backOff()
		return err
	}
	r.targets = targets
	next := slices.IndexFunc(targets, func(t target) bool { return !slices.Contains(r.tried, t) })
	if next < 0 { // a round is over
		r.tried, next = nil, 0
	}
	if r.conn, err = r.dial(targets[next]); err != nil {
		return err
	}
	r.at = targets[next]
	r.number++
	return nil
}

// backOff has the next try wait, longer each time. Who is not alone with a misfortune draws another wait.
func (r *route) backOff() {
	r.wait = min(max(2*r.wait, r.cfg.RetryWait, r.cfg.MaxRetryWait/4), r.cfg.MaxRetryWait)
	r.until = time.Now().Add(r.wait/2 + rand.N(r.wait))
}

// failed says that a stream ended with an error. Only the first of several streams over one connection moves the agent.
func (r *route) failed(ctx context.Context, w way, err error) {
	if r.single() || !moves(err) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn == nil || w.number != r.number || isRefusal(err) && !r.betterLocked() {
		return
	}
	r.cfg.Logger.Log(ctx, slog.LevelInfo, "leaving a collector", "collector", r.at.dial, "error", err)
	r.closeLocked()
	r.tried = append(r.tried, r.at)
	r.backOff()
}

// betterLocked notes that the present collector refuses the agent, and tells whether there is one that does not. Where all
// do, as older ones refuse a table that they do not know, the agent stays: its other tables are taken.
func (r *route) betterLocked() bool {
	now := time.Now()
	r.refused[r.at] = now
	maps.DeleteFunc(r.refused, func(_ target, at time.Time) bool { return now.Sub(at) > refusedFor })
	return slices.ContainsFunc(r.targets, func(t target) bool {
		_, refused := r.refused[t]
		return !refused
	})
}

// refusedFor is how long a refusal is remembered. Collectors are upgraded, and given keys.
const refusedFor = 10 * time.Minute

// welcomed says that a collector has taken a stream.
func (r *route) welcomed(w way) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w.number == r.number {
		r.tried = nil
	}
}

// lasted says that a stream was open for a while.
func (r *route) lasted(w way) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w.number == r.number {
		r.wait = 0
	}
}

func (r *route) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closeLocked()
}

func (r *route) closeLocked() {
	if r.conn != nil {
		r.conn.Close() //nolint:errcheck // closing a client connection loses nothing: every batch is settled or in the spool
		r.conn = nil
	}
}

// moves tells whether another collector may do better: this one is gone, stops, or refuses the agent. What it says of a
// batch, or of the agent's being somewhere else, is no reason.
func moves(err error) bool {
	if errors.Is(err, errNoWelcome) {
		return true
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded:
		return true
	default:
		return isRefusal(err)
	}
}

func isRefusal(err error) bool {
	switch status.Code(err) {
	case codes.Unauthenticated, codes.PermissionDenied, codes.FailedPrecondition, codes.Unimplemented, codes.NotFound:
		return true
	default:
		return false
	}
}

// newRoute makes the way to one of several addresses.
func newRoute(cfg Config) (*route, error) {
	addresses, err := collectors.Parse(cfg.Collector)
	if err != nil {
		return nil, err
	}
	r := &route{cfg: cfg, addresses: addresses, refused: make(map[target]time.Time), lookup: net.DefaultResolver.LookupHost}
	r.dial = func(t target) (*grpc.ClientConn, error) {
		options := dialOptions(cfg)
		if !r.single() {
			options = append(options, grpc.WithAuthority(t.name))
		}
		conn, err := grpc.NewClient("passthrough:///"+t.dial, options...)
		if err != nil {
			return nil, fmt.Errorf("connect to collector %s: %w", t.dial, err)
		}
		return conn, nil
	}
	return r, nil
}
