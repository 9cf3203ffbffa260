// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/gpufleet/gpufleet/collector/internal/batchtest"
	"github.com/gpufleet/gpufleet/collector/internal/index"
	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/collector/quarantine"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// noon is the receiver's clock in these tests.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// limitless is how long a test waits for what must come: it fails by this only if it hangs.
const limitless = time.Minute

// recorder is a store that notes what it is given and settles it as it is told.
type recorder struct {
	mu          sync.Mutex // guards the fields below
	ledger      []uint64   // what is stored already, of every life
	tenure      uint32     // of every claim; more than 1: others had the agent
	away        error      // what the ledger answers instead
	keys        []wire.Key // submitted
	rows        int64
	held        []store.Item
	hold        bool                    // items are kept until settle
	refuse      func(k wire.Key) error  // why an item ends badly
	stalled     map[uint8]chan struct{} // by table: Submit waits until it is closed
	waiting     int                     // in Submit, stalled
	quarantined map[wire.Key]string     // reason
	deaf        error                   // what Quarantined answers
	seen        chan struct{}           // closed and renewed at each change
	check       func(held []store.Item) // called at each Submit
	scoped      func(wire.Scope)        // the same
}

func newRecorder() *recorder {
	return &recorder{stalled: map[uint8]chan struct{}{}, quarantined: map[wire.Key]string{}, seen: make(chan struct{})}
}

func (r *recorder) Claim(context.Context, uint8, uint64, uint64, uint64, bool) (store.Grant, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return store.Grant{Tenure: max(1, r.tenure), Doubtful: r.tenure > 1, Stored: r.ledger}, r.away
}

func (r *recorder) changedLocked() {
	close(r.seen)
	r.seen = make(chan struct{})
}

func (r *recorder) Submit(ctx context.Context, i store.Item) error {
	r.mu.Lock()
	if stalled := r.stalled[i.Key.Table]; stalled != nil {
		r.waiting++
		r.changedLocked()
		r.mu.Unlock()
		select {
		case <-stalled:
		case <-ctx.Done():
			return ctx.Err()
		}
		r.mu.Lock()
	}
	defer r.mu.Unlock()
	defer r.changedLocked()
	r.keys = append(r.keys, i.Key)
	r.rows += int64(i.Columns.Rows())
	if r.scoped != nil {
		r.scoped(i.Scope)
	}
	if r.check != nil {
		r.check(append(slices.Clone(r.held), i))
	}
	if r.hold {
		r.held = append(r.held, i)
		return nil
	}
	var end error
	if r.refuse != nil {
		end = r.refuse(i.Key)
	}
	i.Columns.Release()
	go i.Done(end)
	return nil
}

func (r *recorder) Quarantined(_ context.Context, k wire.Key, _ int64, reason string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.deaf != nil {
		return r.deaf
	}
	r.quarantined[k] = reason
	return nil
}

// settle ends what is held and tells how much that was.
func (r *recorder) settle() int {
	r.mu.Lock()
	held := r.held
	r.held = nil
	r.mu.Unlock()
	for _, i := range held {
		i.Columns.Release()
		i.Done(nil)
	}
	return len(held)
}

// await waits until the recorder is as it should be.
func (r *recorder) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	timeout := time.NewTimer(limitless)
	defer timeout.Stop()
	for {
		r.mu.Lock()
		done, seen := ok(), r.seen
		r.mu.Unlock()
		if done {
			return
		}
		select {
		case <-seen:
		case <-timeout.C:
			t.Fatalf("%s did not come about", what)
		}
	}
}

func (r *recorder) submitted() []wire.Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.keys)
}

func (r *recorder) rowCount() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rows
}

// recorded is what the ledger was told of batches that can never be stored.
func (r *recorder) recorded() map[wire.Key]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.quarantined)
}

// set changes how the recorder behaves.
func (r *recorder) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

// fixture is a receiver that serves.
type fixture struct {
	*recorder
	dir     string // of the quarantine
	address string
	index   *index.Index
	stop    func() // and wait until it has
}

// serve starts a receiver; it must end cleanly with the test.
func serve(t *testing.T, change func(*Config)) *fixture {
	t.Helper()
	f := &fixture{recorder: newRecorder(), dir: filepath.Join(t.TempDir(), "quarantine")}
	kept, err := quarantine.Open(f.dir, 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Name: "test", MaxMemoryBytes: 64 << 20, MaxAge: 7 * 24 * time.Hour, MaxAhead: 5 * time.Minute,
		Store: f.recorder, Quarantine: kept, Logger: slog.New(slog.DiscardHandler), Meter: noop.Meter{},
		now: func() time.Time { return noon }, limits: defaultLimits,
	}
	if change != nil {
		change(&cfg)
	}
	f.index = index.New(f.recorder)
	cfg.Index = f.index
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.address = listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, listener, cfg) }()
	f.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(f.stop)
	return f
}

// agent is the client's side of one stream.
type agent struct {
	t     *testing.T
	put   flight.FlightService_DoPutClient
	table schema.Table
	name  string
	epoch uint64
	from  uint64 // Oldest of the hello
	leave func()
	dead  error // why there is no stream
}

// dial connects; headers are pairs.
func (f *fixture) dial(t *testing.T, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	if options == nil {
		options = []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	}
	conn, err := grpc.NewClient("passthrough:///"+f.address, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// newAgent opens a stream and says nothing yet.
func (f *fixture) newAgent(t *testing.T, conn *grpc.ClientConn, headers ...string) *agent {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limitless)
	t.Cleanup(cancel)
	put, err := flight.NewFlightServiceClient(conn).DoPut(metadata.AppendToOutgoingContext(ctx, headers...))
	return &agent{t: t, put: put, dead: err, table: batchtest.Table(t, schema.EventsID), name: "node-1", epoch: 1000, from: 1, leave: cancel}
}

// agent opens a stream that is welcomed.
func (f *fixture) agent(t *testing.T, change func(*agent)) *agent {
	t.Helper()
	as := &agent{name: "node-1"}
	if change != nil {
		change(as)
	}
	a := f.newAgent(t, f.dial(t), wire.NodeHeader, as.name)
	if change != nil {
		change(a)
	}
	a.hello()
	a.want(wire.Welcome, 0)
	return a
}

func (a *agent) first() *flight.FlightData {
	hello := wire.Hello{Table: a.table.ID, Epoch: a.epoch, Oldest: a.from, Name: a.name}
	return &flight.FlightData{
		FlightDescriptor: &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{a.table.Name}},
		DataHeader:       a.table.SchemaMessage(), AppMetadata: hello.Append(nil),
	}
}

func (a *agent) hello() { a.send(a.first()) }

// send sends; that the stream has ended is found out by receiving.
func (a *agent) send(data *flight.FlightData) {
	if a.dead == nil {
		_ = a.put.Send(data)
	}
}

func (a *agent) key(sequence uint64) wire.Key {
	return wire.Key{Table: a.table.ID, Node: wire.NodeID(a.name), Epoch: a.epoch, Sequence: sequence}
}

// batch makes a batch of five rows of just before noon.
func (a *agent) batch(sequence uint64) *flight.FlightData {
	a.t.Helper()
	return a.batchAt(sequence, noon.Add(-6*time.Second), noon.Add(-5*time.Second), noon.Add(-4*time.Second), noon.Add(-3*time.Second), noon)
}

func (a *agent) batchAt(sequence uint64, times ...time.Time) *flight.FlightData {
	a.t.Helper()
	return data(batchtest.Encode(a.t, batchtest.RecordAt(a.table, sequence, times...), a.key(sequence)))
}

func data(b *wire.Batch) *flight.FlightData {
	return &flight.FlightData{AppMetadata: b.Metadata, DataHeader: b.Header, DataBody: b.Body}
}

func (a *agent) answer() wire.Answer {
	a.t.Helper()
	result, err := a.put.Recv()
	if err != nil {
		a.t.Fatalf("receive answer: %v", err)
	}
	answer, err := wire.ParseAnswer(result.GetAppMetadata())
	if err != nil {
		a.t.Fatal(err)
	}
	return answer
}

// want receives the next answer.
func (a *agent) want(kind wire.AnswerKind, sequence uint64) wire.Answer {
	a.t.Helper()
	got := a.answer()
	if got.Kind != kind || got.Sequence != sequence {
		a.t.Fatalf("answer %d to batch %d (%s), want %d to batch %d", got.Kind, got.Sequence, got.Reason, kind, sequence)
	}
	if got.Window < minWindowBytes || got.Window > maxWindowBytes {
		a.t.Errorf("answer with a window of %d bytes", got.Window)
	}
	return got
}

// wantEnd receives until the stream has ended, which it must by itself, and returns the reason.
func (a *agent) wantEnd(code codes.Code) string {
	a.t.Helper()
	for {
		err := a.dead
		if err == nil {
			_, err = a.put.Recv()
		}
		if err == nil {
			continue
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		if status.Code(err) != code {
			a.t.Fatalf("stream ended with %v, want %v", err, code)
		}
		return status.Convert(err).Message()
	}
}

// files are the quarantined batches, by name.
func (f *fixture) files(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// wantQuarantined reads the only quarantined batch and compares it with what was sent.
func (f *fixture) wantQuarantined(t *testing.T, sent *flight.FlightData, k wire.Key) {
	t.Helper()
	paths, err := quarantine.List(f.dir)
	if err != nil || len(paths) != 1 {
		t.Fatalf("quarantine holds %v: %v", paths, err)
	}
	e, d, err := quarantine.Read(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	if e.Node != k.Node || e.Epoch != k.Epoch || e.Sequence != k.Sequence || e.Reason == "" || e.Collector != "test" || !e.ReceivedAt.Equal(noon) {
		t.Errorf("quarantined entry %+v, want one of %v", e, k)
	}
	if !slices.Equal(d.Metadata, sent.AppMetadata) || !slices.Equal(d.Header, sent.DataHeader) || !slices.Equal(d.Body, sent.DataBody) {
		t.Error("the quarantined bytes are not those that were sent")
	}
}
