// SPDX-License-Identifier: Apache-2.0

package sender

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/gpufleet/gpufleet/agent/internal/spool"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// scope is what the tests' node takes itself for.
var scope = wire.Scope{Tenant: "acme", Residency: "eu"}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scripted is a collector that answers as a test tells it.
type scripted struct {
	flight.BaseFlightServer
	window uint32
	// answer is asked for each batch; nil: say nothing. An error ends the stream.
	answer func(wire.Key) (*wire.Answer, error)
	orders []string // sent after each welcome, to agents that take them
	taken  func(wire.Order)
	thawed chan struct{} // not nil: no stream is welcomed before it is closed

	mu     sync.Mutex         // guards the fields below
	before map[uint8][]string // what the newest stream of a table said was sent
	hellos []wire.Hello
	tokens []string
	scopes []wire.Scope
	got    []wire.Key
	wrong  error // the first batch that breaks what its stream's hello said
}

func (s *scripted) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wrong == nil {
		s.wrong = err
	}
}

func (s *scripted) DoPut(put flight.FlightService_DoPutServer) error {
	first, err := put.Recv()
	if err != nil {
		return err
	}
	hello, err := wire.ParseHello(first.GetAppMetadata())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	md, _ := metadata.FromIncomingContext(put.Context())
	s.mu.Lock()
	s.hellos = append(s.hellos, hello)
	if s.before == nil {
		s.before = map[uint8][]string{}
	}
	s.before[hello.Table] = headerOf(put.Context(), wire.SentHeader)
	s.tokens = append(s.tokens, md.Get("authorization")...)
	s.scopes = append(s.scopes, wire.Scope{Tenant: strings.Join(md.Get(wire.TenantHeader), ","), Residency: strings.Join(md.Get(wire.ResidencyHeader), ",")})
	thawed := s.thawed
	s.mu.Unlock()
	if thawed != nil {
		select {
		case <-thawed:
		case <-put.Context().Done():
			return put.Context().Err()
		}
	}
	if err := send(put, wire.Answer{Kind: wire.Welcome, Window: s.window}); err != nil {
		return err
	}
	if len(md.Get(wire.OrdersHeader)) > 0 {
		for _, o := range s.orders {
			if err := send(put, wire.Answer{Kind: wire.Ordered, Reason: o, Window: s.window}); err != nil {
				return err
			}
		}
	}
	for {
		data, err := put.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		identity, err := wire.ParseIdentity(data.GetAppMetadata(), data.GetDataHeader(), data.GetDataBody())
		if err != nil {
			return err
		}
		if k := identity.Key(); k.Epoch != hello.Epoch || k.Sequence < hello.Oldest { // as the collector's receiver
			s.fail(status.Errorf(codes.InvalidArgument, "batch %v on a stream of %+v", k, hello))
		}
		s.mu.Lock()
		s.got = append(s.got, identity.Key())
		s.mu.Unlock()
		answer, err := s.answer(identity.Key())
		if err != nil {
			return err
		}
		if answer != nil {
			if err := send(put, *answer); err != nil {
				return err
			}
		}
	}
}

func send(put flight.FlightService_DoPutServer, a wire.Answer) error {
	return put.Send(&flight.PutResult{AppMetadata: a.Append(nil)})
}

func (s *scripted) received() []wire.Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]wire.Key(nil), s.got...)
}

func stored(k wire.Key) (*wire.Answer, error) {
	return &wire.Answer{Kind: wire.Stored, Sequence: k.Sequence, Window: 1 << 20}, nil
}

// sending is a sender and the spool that it sends from.
type sending struct {
	*spool.Spool
	sender *Sender
}

// newSpool is one in memory, unless the test changes that.
func newSpool(t *testing.T, change func(*spool.Config)) *spool.Spool {
	t.Helper()
	cfg := spool.Config{Node: "node-1", Epoch: 5, MaxBytes: 1 << 20, MaxMemoryBytes: 1 << 20, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	s, err := spool.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// start runs the collector and a sender to it.
func start(t *testing.T, collector *scripted, change func(*spool.Config)) sending {
	t.Helper()
	return startFrom(t, collector, newSpool(t, change))
}

func startFrom(t *testing.T, collector *scripted, from *spool.Spool) sending {
	t.Helper()
	if collector.window == 0 {
		collector.window = 1 << 20
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	flight.RegisterFlightServiceServer(server, collector)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	cfg := Config{
		Collector: listener.Addr().String(), Token: "secret", Scope: scope, Node: "node-1",
		RetryWait: time.Millisecond, MaxRetryWait: 10 * time.Millisecond, WelcomeWait: 100 * time.Millisecond, Logger: slog.New(slog.DiscardHandler), OnOrder: collector.taken,
	}
	s := New(cfg, from)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if collector.wrong != nil {
			t.Error(collector.wrong)
		}
	})
	return sending{from, s}
}

// newBatch is a batch whose bytes no test reads.
func newBatch(table uint8, sequence uint64, bytes int) *wire.Batch {
	return batchOf(5, table, sequence, bytes)
}

func batchOf(epoch uint64, table uint8, sequence uint64, bytes int) *wire.Batch {
	body := make([]byte, bytes)
	i := wire.Identity{Codec: wire.Zstd, Table: table, Node: wire.NodeID("node-1"), Epoch: epoch, Sequence: sequence, Rows: 1, Size: 8}
	b := &wire.Batch{Body: body, Metadata: i.AppendTo(nil, nil, body)}
	b.Identity = i
	return b
}

func drain(t *testing.T, s sending) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if !s.Drained(ctx) {
		t.Fatalf("not everything was answered: %+v", s.Stats())
	}
}

func TestEveryTableHasItsStream(t *testing.T) {
	c := &scripted{answer: stored}
	s := start(t, c, nil)
	for _, table := range schema.Tables() {
		for seq := range uint64(5) {
			s.Push(newBatch(table.ID, seq+1, 100))
		}
	}
	drain(t, s)
	if len(c.hellos) != len(schema.Tables()) {
		t.Errorf("%d streams for %d tables", len(c.hellos), len(schema.Tables()))
	}
	for _, h := range c.hellos {
		if h.Name != "node-1" || h.Epoch != 5 || h.Oldest != 1 {
			t.Errorf("hello %+v", h)
		}
	}
	if c.tokens[0] != "Bearer secret" {
		t.Errorf("token %q", c.tokens[0])
	}
	if c.scopes[0] != scope {
		t.Errorf("scope %+v", c.scopes[0])
	}
	if got := s.Stats(); got.Stored != uint64(5*len(schema.Tables())) || s.sender.Resent() != 0 || got.WaitingBytes != 0 {
		t.Errorf("stats %+v", got)
	}
}

func TestUnansweredBatchesAreSentAgain(t *testing.T) {
	var mu sync.Mutex
	broken := 0
	c := &scripted{answer: func(k wire.Key) (*wire.Answer, error) {
		mu.Lock()
		defer mu.Unlock()
		if k.Sequence%3 == 0 && broken < 4 { // the answer is lost with the stream
			broken++
			return nil, status.Error(codes.Unavailable, "collector is stopping")
		}
		return stored(k)
	}}
	s := start(t, c, nil)
	for seq := range uint64(10) {
		s.Push(newBatch(schema.SamplesID, seq+1, 100))
	}
	drain(t, s)
	if got := s.Stats(); got.Stored != 10 || s.sender.Resent() == 0 {
		t.Errorf("stats %+v, %d sent again: want all stored, some sent again", got, s.sender.Resent())
	}
	if last := c.hellos[len(c.hellos)-1]; last.Oldest == 1 {
		t.Errorf("the last stream opened from sequence %d: what was stored was not forgotten", last.Oldest)
	}
}

// TestAway has a collector that refuses, and then does not.
func TestAway(t *testing.T) {
	refused, mended := make(chan struct{}, 1), make(chan struct{})
	c := &scripted{answer: func(k wire.Key) (*wire.Answer, error) {
		select {
		case <-mended:
			return stored(k)
		default:
		}
		select {
		case refused <- struct{}{}:
		default:
		}
		return nil, status.Error(codes.ResourceExhausted, "no room")
	}}
	s := start(t, c, nil)
	if why := s.sender.Away(); why != "" {
		t.Errorf("away before anything was to be sent: %s", why)
	}
	s.Push(newBatch(schema.SamplesID, 1, 100))
	<-refused
	deadline := time.Now().Add(30 * time.Second)
	for !strings.Contains(s.sender.Away(), "no room") && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	if why := s.sender.Away(); time.Now().After(deadline) {
		t.Errorf("away because %q", why)
	}
	close(mended)
	drain(t, s)
	if why := s.sender.Away(); why != "" {
		t.Errorf("away after all was stored: %s", why)
	}
}

func TestRetryIsSentAgainOnTheSameStream(t *testing.T) {
	var once sync.Once
	c := &scripted{answer: func(k wire.Key) (*wire.Answer, error) {
		answer, err := stored(k)
		if k.Sequence == 2 {
			once.Do(func() { answer.Kind, answer.Reason = wire.Retry, "damaged" })
		}
		return answer, err
	}}
	s := start(t, c, nil)
	for seq := range uint64(3) {
		s.Push(newBatch(schema.SamplesID, seq+1, 100))
	}
	drain(t, s)
	if len(c.hellos) != 1 || len(c.received()) != 4 {
		t.Errorf("%d streams, %d batches: want one stream, one batch twice", len(c.hellos), len(c.received()))
	}
}

func TestRejectedBatchIsReportedAndForgotten(t *testing.T) {
	losses := make(chan spool.Loss, 1)
	c := &scripted{answer: func(k wire.Key) (*wire.Answer, error) {
		if k.Sequence == 1 {
			return &wire.Answer{Kind: wire.Rejected, Sequence: 1, Reason: "rows from 1970"}, nil
		}
		return stored(k)
	}}
	s := start(t, c, func(cfg *spool.Config) { cfg.OnLoss = func(l spool.Loss) { losses <- l } })
	s.Push(newBatch(schema.SamplesID, 1, 100))
	s.Push(newBatch(schema.SamplesID, 2, 100))
	drain(t, s)
	if l := <-losses; l.Kind != spool.Rejected || l.Reason != "rows from 1970" || l.Last.Sequence != 1 {
		t.Errorf("loss %+v", l)
	}
	if got := s.Stats(); got.Rejected != 1 || got.Stored != 1 {
		t.Errorf("stats %+v", got)
	}
}

func TestCreditBoundsWhatIsUnderWay(t *testing.T) {
	from := newSpool(t, nil)
	for seq := range uint64(6) {
		from.Push(newBatch(schema.SamplesID, seq+1, 1000))
	}
	way := newFlying(from.Queue(schema.SamplesID), 5, &resent{}, patience{first: time.Millisecond, most: time.Millisecond})
	next := func() (sequence uint64, sent bool) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		item, ok := way.next(ctx)
		return item.Sequence, ok
	}
	want := func(sequence uint64, sent bool) {
		t.Helper()
		if got, ok := next(); got != sequence && sent || ok != sent {
			t.Errorf("next is %d (%t), want %d (%t): %d bytes are under way", got, ok, sequence, sent, way.bytes)
		}
	}
	way.window.Store(2500)
	want(1, true)
	want(2, true)
	want(0, false) // 3,132 bytes
	way.answer(wire.Answer{Kind: wire.Stored, Sequence: 2})
	want(3, true)
	way.window.Store(10)
	want(0, false)
	way.answer(wire.Answer{Kind: wire.Stored, Sequence: 1})
	want(0, false)
	way.answer(wire.Answer{Kind: wire.Stored, Sequence: 3})
	want(4, true) // one may always fly
	want(0, false)
}

// TestOrders: what the collector asks for is passed on, what is not known is not, and the stream goes on either way. An
// agent that takes no orders says so by saying nothing.
func TestOrders(t *testing.T) {
	var mu sync.Mutex
	var taken []wire.Order
	orders := []string{`{"burst":{"gpu":"GPU-1","seconds":3}}`, `{"reset":{}}`, "nonsense"}
	c := &scripted{answer: stored, orders: orders, taken: func(o wire.Order) {
		mu.Lock()
		defer mu.Unlock()
		taken = append(taken, o)
	}}
	s := start(t, c, nil)
	for seq := range uint64(5) {
		s.Push(newBatch(schema.SamplesID, seq+1, 100))
	}
	drain(t, s)
	mu.Lock()
	defer mu.Unlock()
	if len(taken) != 1 || *taken[0].Burst != (wire.Burst{GPU: "GPU-1", Seconds: 3}) {
		t.Errorf("orders %+v", taken)
	}
	if len(c.hellos) != 1 {
		t.Errorf("%d streams: an order ended one", len(c.hellos))
	}

	c = &scripted{answer: stored, orders: orders}
	s = start(t, c, nil)
	s.Push(newBatch(schema.SamplesID, 1, 100))
	drain(t, s) // an order would have been counted as one of a stranger
}
