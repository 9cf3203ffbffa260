// SPDX-License-Identifier: Apache-2.0

package sender

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scripted is a collector that answers as a test tells it.
type scripted struct {
	flight.BaseFlightServer
	window uint32
	// answer is asked for each batch; nil: say nothing. An error ends the stream.
	answer func(wire.Key) (*wire.Answer, error)

	mu     sync.Mutex
	hellos []wire.Hello
	tokens []string
	got    []wire.Key
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
	s.tokens = append(s.tokens, md.Get("authorization")...)
	s.mu.Unlock()
	if err := send(put, wire.Answer{Kind: wire.Welcome, Window: s.window}); err != nil {
		return err
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

// start runs the collector and a sender to it.
func start(t *testing.T, collector *scripted, change func(*Config)) *Sender {
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
		Collector: listener.Addr().String(), Token: "secret", Node: "node-1", Epoch: 5, MaxQueueBytes: 1 << 20,
		RetryWait: time.Millisecond, MaxRetryWait: 10 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	s := New(cfg)
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
	})
	return s
}

// newBatch is a batch whose bytes no test reads.
func newBatch(table uint8, sequence uint64, bytes int) *wire.Batch {
	body := make([]byte, bytes)
	i := wire.Identity{Codec: wire.Zstd, Table: table, Node: wire.NodeID("node-1"), Epoch: 5, Sequence: sequence, Rows: 1, Size: 8}
	b := &wire.Batch{Body: body, Metadata: i.AppendTo(nil, nil, body)}
	b.Identity = i
	return b
}

func drain(t *testing.T, s *Sender) {
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
	if got := s.Stats(); got.Stored != uint64(5*len(schema.Tables())) || got.Resent != 0 || got.WaitingBytes != 0 {
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
	if got := s.Stats(); got.Stored != 10 || got.Resent == 0 {
		t.Errorf("stats %+v: want all stored, some sent again", got)
	}
	if last := c.hellos[len(c.hellos)-1]; last.Oldest == 1 {
		t.Errorf("the last stream opened from sequence %d: what was stored was not forgotten", last.Oldest)
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
	losses := make(chan Loss, 1)
	c := &scripted{answer: func(k wire.Key) (*wire.Answer, error) {
		if k.Sequence == 1 {
			return &wire.Answer{Kind: wire.Rejected, Sequence: 1, Reason: "rows from 1970"}, nil
		}
		return stored(k)
	}}
	s := start(t, c, func(cfg *Config) { cfg.OnLoss = func(l Loss) { losses <- l } })
	s.Push(newBatch(schema.SamplesID, 1, 100))
	s.Push(newBatch(schema.SamplesID, 2, 100))
	drain(t, s)
	if l := <-losses; !l.Rejected || l.Reason != "rows from 1970" || l.Key.Sequence != 1 {
		t.Errorf("loss %+v", l)
	}
	if got := s.Stats(); got.Rejected != 1 || got.Stored != 1 {
		t.Errorf("stats %+v", got)
	}
}

func TestCreditBoundsWhatIsUnderWay(t *testing.T) {
	release := make(chan struct{})
	c := &scripted{window: 2500, answer: func(wire.Key) (*wire.Answer, error) { return nil, nil }}
	arrived := make(chan struct{}, 16)
	c.answer = func(k wire.Key) (*wire.Answer, error) {
		arrived <- struct{}{}
		if k.Sequence <= 2 {
			return nil, nil
		}
		<-release
		return stored(k)
	}
	s := start(t, c, nil)
	for seq := range uint64(6) {
		s.Push(newBatch(schema.SamplesID, seq+1, 1000))
	}
	<-arrived
	<-arrived
	q := s.queues[schema.SamplesID-1]
	q.mu.Lock()
	flying := q.flying
	q.mu.Unlock()
	if flying > 2500 {
		t.Errorf("%d bytes under way with a credit of 2500", flying)
	}
	close(release)
}

// Readings fill the queue; the fault that happened before them must survive.
func TestFaultsOutliveReadingsInAFullQueue(t *testing.T) {
	s := New(Config{MaxQueueBytes: 20_000, Logger: slog.New(slog.DiscardHandler)})
	for seq := range uint64(3) {
		s.Push(newBatch(schema.EventsID, seq+1, 500))
	}
	for seq := range uint64(200) {
		s.Push(newBatch(schema.SamplesID, seq+1, 1000))
		s.Push(newBatch(schema.HealthID, seq+1, 200))
	}
	events := s.queues[schema.EventsID-1]
	if len(events.entries) != 3 {
		t.Errorf("%d of 3 batches of events are left", len(events.entries))
	}
	if used := s.budget.used.Load(); used > 20_000 {
		t.Errorf("%d bytes held, at most 20,000", used)
	}
}

func TestFullQueueDropsTheOldestAndSaysSo(t *testing.T) {
	var losses []Loss
	s := New(Config{MaxQueueBytes: 5000, Logger: slog.New(slog.DiscardHandler), OnLoss: func(l Loss) { losses = append(losses, l) }})
	for seq := range uint64(10) {
		s.Push(newBatch(schema.SamplesID, seq+1, 1000))
	}
	got := s.Stats()
	if got.Dropped != 6 || got.WaitingBatches != 4 || got.WaitingBytes > 5000 {
		t.Errorf("stats %+v: want 4 batches kept in 5000 bytes", got)
	}
	if len(losses) != 6 || losses[0].Key.Sequence != 1 || losses[0].Rejected {
		t.Errorf("losses %+v: want the six oldest", losses)
	}
}
