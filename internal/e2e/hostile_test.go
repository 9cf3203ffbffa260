// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/collector"
	"github.com/gpufleet/gpufleet/collector/quarantine"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/token"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// attacker floods a collector. It holds a token of its own, and so is let in.
type attacker struct {
	conn   *grpc.ClientConn
	key    token.Key
	random *rand.Rand
	sent   *atomic.Int64      // bad batches of all attackers
	ends   map[codes.Code]int // of its streams, where it looked
}

const attackerName = "hostile"

// run opens one bad stream after the other.
func (a *attacker) run(ctx context.Context) {
	for ctx.Err() == nil {
		node, bearer := attackerName, a.key.For(attackerName)
		switch a.random.IntN(8) {
		case 0:
			bearer = a.key.For("somebody")
		case 1:
			node = "somebody"
		}
		a.stream(ctx, node, bearer)
	}
}

// stream says hello, rightly most times, and sends garbage until it is thrown out or has had enough. Half of the
// streams are left without a word.
func (a *attacker) stream(ctx context.Context, node, bearer string) {
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(ctx, wire.NodeHeader, node, "authorization", "Bearer "+bearer))
	defer cancel()
	put, err := flight.NewFlightServiceClient(a.conn).DoPut(ctx)
	if err != nil {
		return
	}
	table := schema.Tables()[a.random.IntN(len(schema.Tables()))]
	hello := wire.Hello{Table: table.ID, Epoch: 1 + a.random.Uint64N(3), Oldest: 1 + a.random.Uint64N(1000), Name: attackerName}
	first := &flight.FlightData{
		FlightDescriptor: &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{table.Name}},
		DataHeader:       table.SchemaMessage(), AppMetadata: hello.Append(nil),
	}
	if a.random.IntN(6) == 0 {
		first.DataHeader = a.garbage(2000)
	}
	err = put.Send(first)
	for n := a.random.IntN(50); n > 0 && err == nil; n-- {
		if err = put.Send(a.batch(hello)); err == nil {
			a.sent.Add(1)
		}
	}
	if err == nil && a.random.IntN(2) == 0 {
		return
	}
	_ = put.CloseSend()
	for {
		if _, err := put.Recv(); err != nil {
			a.ends[status.Code(err)]++
			return
		}
	}
}

func (a *attacker) garbage(size int) []byte {
	b := make([]byte, a.random.IntN(size))
	for i := range b {
		b[i] = byte(a.random.Uint32())
	}
	return b
}

// batch makes what looks like a batch from outside, more or less.
func (a *attacker) batch(h wire.Hello) *flight.FlightData {
	body := a.garbage(1 + a.random.IntN(30_000))
	identity := wire.Identity{
		Codec: wire.Codec(a.random.IntN(2)), Table: h.Table, Node: wire.NodeID(h.Name), Epoch: h.Epoch,
		Sequence: h.Oldest + a.random.Uint64N(100), Rows: 1 + a.random.Uint32N(1000), Size: a.random.Uint32N(wire.MaxFrameBytes),
	}
	switch a.random.IntN(12) {
	case 0:
		identity.Node = wire.NodeID("somebody")
	case 1:
		identity.Sequence = a.random.Uint64()
	case 2:
		return &flight.FlightData{AppMetadata: a.garbage(60), DataHeader: a.garbage(60), DataBody: body}
	}
	metadata := identity.AppendTo(nil, nil, body)
	if a.random.IntN(3) == 0 {
		metadata[40] ^= 1 // a wrong checksum
	}
	return &flight.FlightData{AppMetadata: metadata, DataBody: body}
}

// flood has attackers at work until stop, which tells how their streams ended.
func flood(t *testing.T, address string, key token.Key, sent *atomic.Int64) (stop func() map[codes.Code]int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	var attackers []*attacker
	for n := range uint64(8) {
		conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		a := &attacker{conn: conn, key: key, random: rand.New(rand.NewPCG(n, 1)), sent: sent, ends: map[codes.Code]int{}}
		attackers = append(attackers, a)
		running.Go(func() { a.run(ctx) })
	}
	stop = sync.OnceValue(func() map[codes.Code]int {
		cancel()
		running.Wait()
		ends := map[codes.Code]int{}
		for _, a := range attackers {
			for code, count := range a.ends {
				ends[code] += count
			}
		}
		return ends
	})
	t.Cleanup(func() { stop() })
	return stop
}

// TestHostileClient floods a collector from many sides while good agents send: each of their rows arrives, once.
func TestHostileClient(t *testing.T) {
	db := clickhousetest.Start(t)
	key := token.NewKey()
	cfg := collectorConfig(t, db.Writer)
	cfg.Keys, cfg.MaxMemoryBytes, cfg.MaxQuarantineBytes = []token.Key{key}, 32<<20, 16<<20
	address, stop := startCollector(t, cfg)
	var sent atomic.Int64
	stopFlood := flood(t, address, key, &sent)
	f := startFleet(t, fleetConfig{nodes: 10, gpus: 2, seed: 7, collector: address, interval: 250 * time.Millisecond, flush: 500 * time.Millisecond, key: &key})
	f.await("300 rows amid 2,000 bad batches", func(s agent.Stats) bool {
		return s.Rows >= 300 && s.BatchesStored > 100 && sent.Load() > 2000
	})
	f.stop() // while the flood goes on
	ends := stopFlood()
	f.wantExactlyOnce(db.Reader)
	for _, table := range schema.Tables() {
		if got := clickhousetest.Query(t, db.Reader, "SELECT count() FROM "+table.Name+" WHERE node_id NOT IN ("+f.ids()+")"); got != "0" {
			t.Errorf("%s rows of nobody are in %s", got, table.Name)
		}
	}
	t.Logf("%d bad batches; streams ended with %v", sent.Load(), ends)
	for _, code := range []codes.Code{codes.PermissionDenied, codes.FailedPrecondition, codes.InvalidArgument, codes.DataLoss} {
		if ends[code] == 0 { // a token or name of another; a schema, an identity and a checksum that are wrong
			t.Errorf("no stream ended with %s: %v", code, ends)
		}
	}
	wantBounded(t, cfg)
	stop()
}

// wantBounded compares what lies in the quarantine with the part of it that one node may fill.
func wantBounded(t *testing.T, cfg collector.Config) {
	t.Helper()
	paths, err := quarantine.List(filepath.Join(cfg.DataDir, "quarantine"))
	if err != nil || len(paths) == 0 {
		t.Errorf("quarantine holds %d files: %v", len(paths), err)
	}
	var size int64
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if size > cfg.MaxQuarantineBytes/8 {
		t.Errorf("one node fills %d bytes of the quarantine's %d", size, cfg.MaxQuarantineBytes)
	}
}
