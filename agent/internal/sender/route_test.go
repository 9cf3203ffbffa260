// SPDX-License-Identifier: Apache-2.0

package sender

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/gpufleet/gpufleet/internal/collectors"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// TestNodesAreSpread evenly, and again evenly when one collector is gone; those of the others stay.
func TestNodesAreSpread(t *testing.T) {
	const nodes, hosts = 6000, 4
	all := make([]string, hosts)
	for i := range all {
		all[i] = fmt.Sprintf("10.0.0.%d", i+1)
	}
	count := func(hosts []string) (map[string]int, map[string]string) {
		counts, of := map[string]int{}, map[string]string{}
		for n := range nodes {
			node := fmt.Sprintf("node-%d", n)
			targets, err := resolve(t.Context(), node, []collectors.Address{{Host: "c.example", Port: "4490", Many: true}}, func(context.Context, string) ([]string, error) { return hosts, nil })
			if err != nil || len(targets) != len(hosts) || targets[0].name != "c.example" {
				t.Fatal(targets, err)
			}
			counts[targets[0].dial]++
			of[node] = targets[0].dial
		}
		return counts, of
	}
	before, first := count(all)
	after, second := count(all[1:])
	for _, c := range []map[string]int{before, after} {
		for at, n := range c {
			if fair := nodes / len(c); n < fair*8/10 || n > fair*12/10 {
				t.Errorf("%s has %d of %d nodes, of %d collectors", at, n, nodes, len(c))
			}
		}
	}
	for node, at := range first {
		if at != "10.0.0.1:4490" && second[node] != at {
			t.Errorf("%s moved from %s, which is there", node, at)
		}
	}
}

func TestResolveFails(t *testing.T) {
	gone := func(context.Context, string) ([]string, error) { return nil, errors.New("no such host") }
	many := collectors.Address{Host: "c.example", Port: "1", Many: true}
	if got, err := resolve(t.Context(), "n", []collectors.Address{many}, gone); err == nil {
		t.Errorf("resolved %v", got)
	}
	got, err := resolve(t.Context(), "n", []collectors.Address{many, {Host: "b", Port: "2"}}, gone)
	if err != nil || len(got) != 1 {
		t.Errorf("the other one: %v, %v", got, err)
	}
}

// served is a collector that can be taken away.
type served struct {
	*scripted
	address string
	stop    func()
}

func serve(t *testing.T, c *scripted) *served {
	t.Helper()
	if c.window == 0 {
		c.window = 1 << 20
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	flight.RegisterFlightServiceServer(server, c)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	s := &served{scripted: c, address: listener.Addr().String(), stop: sync.OnceFunc(func() {
		server.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})}
	t.Cleanup(s.stop)
	return s
}

// among starts a sender to several collectors, and tells which of them comes first for its node.
func among(t *testing.T, several ...*served) (from sending, first, second *served) {
	t.Helper()
	var addresses []collectors.Address
	var texts []string
	for _, c := range several {
		texts = append(texts, c.address)
		host, port, _ := net.SplitHostPort(c.address)
		addresses = append(addresses, collectors.Address{Host: host, Port: port})
	}
	order, err := resolve(t.Context(), "node-1", addresses, nil)
	if err != nil {
		t.Fatal(err)
	}
	at := func(n int) *served {
		return several[slices.IndexFunc(several, func(s *served) bool { return s.address == order[n].dial })]
	}
	s := newSpool(t, nil)
	sender := New(Config{
		Collector: strings.Join(texts, ","), Token: "secret", Node: "node-1", RetryWait: time.Millisecond, MaxRetryWait: 10 * time.Millisecond, WelcomeWait: 100 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	}, s)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sender.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return sending{s, sender}, at(0), at(len(several) - 1)
}

func (s sending) push(t *testing.T, sequences ...uint64) {
	t.Helper()
	for _, sequence := range sequences {
		s.Push(newBatch(schema.SamplesID, sequence, 100))
		s.Push(newBatch(schema.EventsID, sequence, 100))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if !s.Drained(ctx) {
		t.Fatalf("not stored: %+v", s.Stats())
	}
}

// TestMovesWhenItsCollectorIsGone, with all its streams, and stays when it is back.
func TestMovesWhenItsCollectorIsGone(t *testing.T) {
	from, first, second := among(t, serve(t, &scripted{answer: stored}), serve(t, &scripted{answer: stored}))
	from.push(t, 1, 2)
	if len(first.received()) != 4 || len(second.received()) != 0 {
		t.Errorf("%d batches at the first, %d at the second", len(first.received()), len(second.received()))
	}
	first.stop()
	from.push(t, 3, 4)
	if len(second.received()) < 4 {
		t.Errorf("%d batches at the second", len(second.received()))
	}
	got := len(first.received())
	from.push(t, 5, 6, 7)
	if len(first.received()) != got {
		t.Error("it went back")
	}
}

// freeze has a collector take streams, and welcome none until its end.
func (s *served) freeze() (thaw func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.thawed = make(chan struct{})
	return sync.OnceFunc(func() { close(s.thawed) })
}

// TestMovesWhenItIsNotWelcomed: a collector that is frozen keeps its connection, and says nothing.
func TestMovesWhenItIsNotWelcomed(t *testing.T) {
	from, first, second := among(t, serve(t, &scripted{answer: stored}), serve(t, &scripted{answer: stored}))
	defer first.freeze()()
	from.push(t, 1, 2)
	if len(first.received()) > 0 || len(second.received()) < 4 {
		t.Errorf("%d batches at the first, %d at the second", len(first.received()), len(second.received()))
	}
	first.mu.Lock()
	defer first.mu.Unlock()
	if len(first.hellos) == 0 {
		t.Error("the first one was not tried")
	}
}

// TestOnlyOneIsWaitedFor however long it takes to welcome a stream: there is nobody else.
func TestOnlyOneIsWaitedFor(t *testing.T) {
	only := serve(t, &scripted{answer: stored})
	thaw := only.freeze()
	defer thaw()
	from, _, _ := among(t, only)
	from.Push(newBatch(schema.SamplesID, 1, 100))
	<-time.After(3 * 100 * time.Millisecond)
	thaw()
	from.push(t, 2)
	only.mu.Lock()
	defer only.mu.Unlock()
	if n := len(only.hellos); n > 2 { // one for each table
		t.Errorf("%d streams were opened", n)
	}
}

// TestRefusalIsForgotten in time: collectors are upgraded.
func TestRefusalIsForgotten(t *testing.T) {
	here, there := target{dial: "a:1"}, target{dial: "b:1"}
	for age, better := range map[time.Duration]bool{0: false, refusedFor - time.Minute: false, refusedFor + time.Second: true} {
		at := time.Now().Add(-age)
		r := &route{at: here, targets: []target{here, there}, refused: map[target]time.Time{there: at, {dial: "gone:1"}: at}}
		if got := r.betterLocked(); got != better || better && len(r.refused) != 1 {
			t.Errorf("refused by the other %s ago: it is tried: %v, want %v; remembered are %v", age, got, better, r.refused)
		}
	}
}

// TestMovesWhenItIsRefused, and stays where all refuse a table: the other tables are taken there.
func TestMovesWhenItIsRefused(t *testing.T) {
	refuse := func(k wire.Key) (*wire.Answer, error) {
		if k.Table == schema.EventsID {
			return nil, status.Error(codes.FailedPrecondition, "upgrade me")
		}
		return stored(k)
	}
	a, b := serve(t, &scripted{answer: refuse}), serve(t, &scripted{answer: refuse})
	from, _, _ := among(t, a, b)
	for sequence := uint64(1); sequence <= 20; sequence++ {
		from.Push(newBatch(schema.SamplesID, sequence, 100))
	}
	from.Push(newBatch(schema.EventsID, 1, 100))
	moves := func() (moves int) {
		for _, s := range []*served{a, b} {
			s.mu.Lock()
			for _, h := range s.hellos {
				if h.Table == schema.SamplesID {
					moves++
				}
			}
			s.mu.Unlock()
		}
		return moves
	}
	events := func() (count int) {
		for _, s := range []*served{a, b} {
			for _, k := range s.received() {
				if k.Table == schema.EventsID {
					count++
				}
			}
		}
		return count
	}
	deadline := time.Now().Add(30 * time.Second)
	sequence := uint64(20)
	for events() < 10 {
		if time.Now().After(deadline) {
			t.Fatal("the refused batch is not sent again")
		}
		sequence++
		from.Push(newBatch(schema.SamplesID, sequence, 100))
		<-time.After(time.Millisecond)
	}
	if n := moves(); n > 6 {
		t.Errorf("%d streams of samples were opened because of %d refusals of an event", n, events())
	}
}

// TestSaysWhatItHasSent: the next collector is told how far the one before may have come.
func TestSaysWhatItHasSent(t *testing.T) {
	from, first, second := among(t, serve(t, &scripted{answer: stored}), serve(t, &scripted{answer: stored}))
	from.push(t, 1, 2, 3)
	first.stop()
	from.push(t, 4)
	second.mu.Lock()
	defer second.mu.Unlock()
	for table, before := range second.before {
		if want := []string{"3"}; !slices.Equal(before, want) && !slices.Equal(before, []string{"4"}) {
			t.Errorf("table %d: said %q, want %q, or 4 if it was sent once already", table, before, want)
		}
	}
	first.mu.Lock()
	defer first.mu.Unlock()
	if got := first.before[schema.SamplesID]; !slices.Equal(got, []string{"0"}) {
		t.Errorf("to the first it said %q", got)
	}
	if len(second.before) != 2 {
		t.Errorf("%d tables", len(second.before))
	}
}

func headerOf(ctx context.Context, name string) []string {
	md, _ := metadata.FromIncomingContext(ctx)
	return md.Get(name)
}
