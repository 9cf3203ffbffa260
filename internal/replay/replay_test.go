// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/gpufleet/gpufleet/collector"
	"github.com/gpufleet/gpufleet/collector/quarantine"
	"github.com/gpufleet/gpufleet/internal/audit"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/token"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestMain(m *testing.M) { clickhousetest.Main(m) }

// site is a database, a directory of quarantined batches, and the key of the fleet.
type site struct {
	testing.TB
	db    clickhousetest.Database
	dir   string
	key   token.Key
	epoch uint64
	kept  *quarantine.Store
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{TB: t, db: clickhousetest.Start(t), dir: filepath.Join(t.TempDir(), "quarantine"), key: token.NewKey()}
	s.epoch = uint64(time.Now().Add(-3 * time.Hour).UnixMilli())
	var err error
	if s.kept, err = quarantine.Open(s.dir, 1<<30); err != nil {
		t.Fatal(err)
	}
	return s
}

// collect runs a collector that takes rows up to an age, until the test calls stop.
func (s *site) collect(maxAge time.Duration) (address string, stop func()) {
	s.Helper()
	cfg := collector.DefaultConfig()
	cfg.Listen, cfg.DataDir, cfg.MaxAge, cfg.Keys, cfg.UnitWait = "127.0.0.1:0", s.TempDir(), maxAge, []token.Key{s.key}, 50*time.Millisecond
	cfg.Database = collector.Endpoint{Address: s.db.Writer.HTTPAddress(), User: s.db.Writer.User, Password: s.db.Writer.Password, Database: s.db.Name}
	listening := make(chan net.Addr, 1)
	cfg.OnListen = func(a net.Addr) { listening <- a }
	ctx, cancel := context.WithCancel(s.Context())
	done := make(chan error, 1)
	go func() { done <- collector.Run(ctx, cfg) }()
	select {
	case a := <-listening:
		return a.String(), func() {
			s.Helper()
			cancel()
			if err := <-done; err != nil {
				s.Error(err)
			}
		}
	case err := <-done:
		cancel()
		s.Fatal(err)
		return "", nil
	}
}

// batch makes a batch of gpu_events of three rows, two hours old.
func (s *site) batch(node string, sequence uint64) (quarantine.Entry, quarantine.Data) {
	s.Helper()
	table, _ := schema.TableByName("gpu_events")
	b := array.NewRecordBuilder(memory.DefaultAllocator, table.WireSchema())
	defer b.Release()
	for row := range 3 {
		for i, c := range table.WireColumns() {
			switch field := b.Field(i).(type) {
			case *array.TimestampBuilder:
				field.Append(arrow.Timestamp(time.Now().Add(-2 * time.Hour).Truncate(time.Hour).UnixMilli()))
			case *array.StringBuilder:
				field.Append(fmt.Sprint(sequence, row))
			default:
				field.AppendNull()
			}
			if !c.Nullable && b.Field(i).NullN() > 0 {
				s.Fatalf("column %s cannot be NULL", c.Name)
			}
		}
	}
	record := b.NewRecordBatch()
	defer record.Release()
	encoder, err := wire.NewEncoder()
	if err != nil {
		s.Fatal(err)
	}
	encoded, err := encoder.Encode(record, wire.Identity{Table: table.ID, Node: wire.NodeID(node), Epoch: s.epoch, Sequence: sequence})
	if err != nil {
		s.Fatal(err)
	}
	return quarantine.Entry{Table: table.Name, NodeName: node, Node: wire.NodeID(node), Epoch: s.epoch, Sequence: sequence, Rows: 3, Reason: "too old"},
		quarantine.Data{Metadata: encoded.Metadata, Header: encoded.Header, Body: encoded.Body}
}

// keep puts batches into the quarantine.
func (s *site) keep(node string, sequences ...uint64) (paths []string) {
	s.Helper()
	for _, sequence := range sequences {
		e, d := s.batch(node, sequence)
		path, err := s.kept.Put(e, d)
		if err != nil {
			s.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

func (s *site) config(address string) Config {
	return Config{Collector: address, Key: &s.key, AnswerWait: time.Minute}
}

// replay sends everything, and tells each result in a word.
func (s *site) replay(cfg Config, paths ...string) map[string]State {
	s.Helper()
	files, err := List(paths)
	if err != nil {
		s.Fatal(err)
	}
	results, err := Run(s.Context(), cfg, files)
	if err != nil {
		s.Fatal(err)
	}
	states := make(map[string]State)
	for i, r := range results {
		if r.Path != files[i].Path {
			s.Errorf("result %d is of %s, want %s", i, r.Path, files[i].Path)
		}
		_, gone := os.Stat(r.Path)
		if r.Deleted != (gone != nil) || r.Deleted != (cfg.Delete && r.State == Stored) || (r.Reason == "") != (r.State == Stored) {
			s.Errorf("%s: %s, deleted %v, reason %q", r.Path, r.State, r.Deleted, r.Reason)
		}
		states[r.Path] = r.State
	}
	return states
}

func (s *site) stored() string {
	s.Helper()
	return clickhousetest.Query(s, s.db.Reader, "SELECT arraySort(groupArray((seq, n))) FROM (SELECT seq, count() AS n FROM gpu_events GROUP BY node_id, seq)")
}

func TestReplay(t *testing.T) {
	s := newSite(t)
	anna := s.keep("anna", 3, 1, 2)
	ben := s.keep("ben", 7)
	address, stop := s.collect(time.Hour)
	cfg := s.config(address)
	cfg.Delete = true
	for path, state := range s.replay(cfg, s.dir) {
		if state != Rejected {
			t.Errorf("%s is %s by a collector that does not take its age", path, state)
		}
	}
	stop()
	address, stop = s.collect(24 * time.Hour)
	cfg = s.config(address)
	for range 2 { // a batch that is sent again is stored once
		for path, state := range s.replay(cfg, append(anna, ben...)...) {
			if state != Stored {
				t.Errorf("%s is %s", path, state)
			}
		}
	}
	if got := s.stored(); got != "[(1,3),(2,3),(3,3),(7,3)]" {
		t.Errorf("stored %s", got)
	}
	cfg.Delete = true
	s.replay(cfg, s.dir, anna[0])
	if left, err := quarantine.List(s.dir); err != nil || len(left) != 0 {
		t.Errorf("left in quarantine: %v: %v", left, err)
	}
	stop()
	report, err := audit.Run(t.Context(), clickhousetest.Open(t, s.db.Reader), audit.Options{})
	if err != nil || report.Quarantined != 0 || report.Duplicated != 0 || report.Lost != 6 || report.Rows != 12 {
		t.Errorf("audit: %+v: %v", report, err) // ben's first six were never sent
	}
}

// TestReplayBesideTheAgent: the agent is connected, and has long gone past the batch.
func TestReplayBesideTheAgent(t *testing.T) {
	s := newSite(t)
	paths := s.keep("anna", 5)
	address, stop := s.collect(24 * time.Hour)
	defer stop()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	agent := &exchange{
		sender: sender{Config: s.config(address), life: life{node: "anna", table: schema.EventsID, epoch: s.epoch}}, order: []uint64{100},
	}
	conn, err := agent.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	put, err := agent.open(ctx, conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := put.Recv(); err != nil { // welcome
		t.Fatal(err)
	}
	if got := s.replay(s.config(address), s.dir); got[paths[0]] != Stored {
		t.Errorf("replayed: %v", got)
	}
	if got := s.stored(); got != "[(5,3)]" {
		t.Errorf("said to be stored; the table has %s", got)
	}
}

func TestWhatCannotBeSent(t *testing.T) {
	s := newSite(t)
	good := s.keep("anna", 1)[0]
	damaged := s.keep("anna", 2)[0]
	content, err := os.ReadFile(damaged)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(damaged, content, 0o600); err != nil {
		t.Fatal(err)
	}
	tampered := func(sequence uint64, change func(e *quarantine.Entry, d *quarantine.Data)) string {
		e, d := s.batch("anna", sequence)
		change(&e, &d)
		path, err := s.kept.Put(e, d)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	bad := []string{
		damaged,
		tampered(3, func(_ *quarantine.Entry, d *quarantine.Data) { d.Body[9] ^= 1 }),
		tampered(4, func(e *quarantine.Entry, _ *quarantine.Data) { e.Table = "gpu_dreams" }),
		tampered(5, func(e *quarantine.Entry, _ *quarantine.Data) { e.NodeName = "ben" }),
		tampered(6, func(e *quarantine.Entry, _ *quarantine.Data) { e.NodeName = "no node" }),
	}
	address, stop := s.collect(24 * time.Hour)
	defer stop()
	got := s.replay(s.config(address), s.dir)
	if got[good] != Stored || len(got) != 6 {
		t.Errorf("%v", got)
	}
	for _, path := range bad {
		if got[path] != Rejected {
			t.Errorf("%s: %s", path, got[path])
		}
	}
}

// TestNodeWithoutName: what a collector refused after a restart has the id of its node alone.
func TestNodeWithoutName(t *testing.T) {
	s := newSite(t)
	e, d := s.batch("anna", 1)
	e.NodeName = ""
	path, err := s.kept.Put(e, d)
	if err != nil {
		t.Fatal(err)
	}
	address, stop := s.collect(24 * time.Hour)
	defer stop()
	cfg := s.config(address)
	for name, state := range map[string]State{"": Rejected, "ben": Rejected, "anna": Stored} {
		cfg.Node = name
		if got := s.replay(cfg, s.dir); got[path] != state {
			t.Errorf("as %q: %s", name, got[path])
		}
	}
}

// TestOneSpoilsTheStream: a batch far ahead ends its stream, and the others are stored all the same.
func TestOneSpoilsTheStream(t *testing.T) {
	s := newSite(t)
	paths := s.keep("anna", 1, 2, 1<<40)
	address, stop := s.collect(24 * time.Hour)
	defer stop()
	got := s.replay(s.config(address), s.dir)
	if got[paths[0]] != Stored || got[paths[1]] != Stored || got[paths[2]] != Stored {
		t.Errorf("%v", got)
	}
}

func TestNobodyAnswers(t *testing.T) {
	s := newSite(t)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent()) // streams that broke leave nothing behind
	s.keep("anna", 1, 2)
	s.keep("ben", 1)
	address, stop := s.collect(24 * time.Hour)
	wrong := token.NewKey()
	for name, cfg := range map[string]Config{
		"wrong key": {Collector: address, Key: &wrong, AnswerWait: time.Minute},
		"no key":    {Collector: address, AnswerWait: time.Minute},
	} {
		for path, state := range s.replay(cfg, s.dir) {
			if state != Unanswered {
				t.Errorf("%s: %s is %s", name, path, state)
			}
		}
	}
	stop()
	for path, state := range s.replay(s.config(address), s.dir) {
		if state != Unanswered {
			t.Errorf("no collector: %s is %s", path, state)
		}
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	cfg := s.config(silent.Addr().String())
	cfg.AnswerWait = 50 * time.Millisecond
	for path, state := range s.replay(cfg, s.dir) {
		if state != Unanswered {
			t.Errorf("silent: %s is %s", path, state)
		}
	}
}

// deaf is a collector that welcomes, and answers nothing after.
type deaf struct{ flight.BaseFlightServer }

func (*deaf) DoPut(put flight.FlightService_DoPutServer) error {
	if err := put.Send(&flight.PutResult{AppMetadata: wire.Answer{Kind: wire.Welcome, Window: 1 << 20}.Append(nil)}); err != nil {
		return err
	}
	<-put.Context().Done()
	return put.Context().Err()
}

func TestNoAnswerAfterTheWelcome(t *testing.T) {
	s := newSite(t)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s.keep("anna", 1, 2)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	flight.RegisterFlightServiceServer(server, &deaf{})
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	cfg := s.config(listener.Addr().String())
	cfg.AnswerWait = 50 * time.Millisecond
	for path, state := range s.replay(cfg, s.dir) {
		if state != Unanswered {
			t.Errorf("%s is %s", path, state)
		}
	}
	server.Stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestBatchOfAnother(t *testing.T) {
	s := newSite(t)
	path := s.keep("anna", 1)[0]
	files, err := List([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	files[0].Entry.NodeName = "ben"
	if _, err := check(files[0]); err == nil || !strings.Contains(err.Error(), "and it came as") {
		t.Errorf("batch of anna in the name of ben: %v", err)
	}
}

func TestValidate(t *testing.T) {
	for address, want := range map[string]string{"db.example:4490": "plain text", "nowhere": "missing port", "127.0.0.1:4490": "", "localhost:4490": "", "[::1]:4490": ""} {
		err := Config{Collector: address, AnswerWait: time.Second}.Validate()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", address, err)
		}
	}
	if err := (Config{Collector: "127.0.0.1:1"}).Validate(); err == nil {
		t.Error("waits for nothing")
	}
	if _, err := Run(t.Context(), Config{Collector: "db.example:4490", AnswerWait: time.Second}, nil); err == nil {
		t.Error("runs all the same")
	}
}

func TestList(t *testing.T) {
	s := newSite(t)
	paths := s.keep("anna", 1, 2)
	files, err := List([]string{s.dir, paths[1], filepath.Dir(s.dir)})
	if err != nil || len(files) != 2 || files[0].Entry.Sequence != 1 || files[1].Entry.Reason != "too old" {
		t.Errorf("%+v: %v", files, err)
	}
	if _, err := List([]string{filepath.Join(s.dir, "none")}); err == nil {
		t.Error("lists what is not there")
	}
	note := filepath.Join(s.dir, "note.gfq")
	if err := os.WriteFile(note, []byte("no batch"), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err = List([]string{s.dir})
	i := slices.IndexFunc(files, func(f File) bool { return f.Path == note })
	if err != nil || len(files) != 3 || files[i].Err == nil {
		t.Errorf("%+v: %v", files, err)
	}
}
