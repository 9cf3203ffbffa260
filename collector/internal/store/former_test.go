// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/collector/internal/batchtest"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
)

// moved is the store of the first of two shards, to which all nodes have moved from the second one, and the way to that.
type moved struct {
	*running
	c   clickhousetest.Cluster
	way *proxy
}

func newMoved(t *testing.T) moved {
	t.Helper()
	c := clickhousetest.StartCluster(t)
	way := newProxy(t, c.Shards[1].Writer.HTTPAddress())
	maps := []schema.ShardMap{{Number: 1, Weights: []int{0, 1}, AppliedAt: today()}, {Number: 2, Weights: []int{1, 0}, AppliedAt: today()}}
	of := func(number int) Config {
		cfg := config(endpoint(c.Shards[number-1].Writer))
		cfg.Shard = &Shard{Cluster: c.Named, Number: number, Maps: maps}
		return cfg
	}
	second := of(2)
	second.Endpoint.Address = way.address
	former := start(t, second)
	first := of(1)
	first.Shard.Former = func(node, _ uint64) []*Store {
		if node == key(0, 0).Node {
			return []*Store{former.Store}
		}
		return nil
	}
	return moved{start(t, first), c, way}
}

// give submits a batch; a doubtful one may be on the second shard.
func (m moved) give(node, sequence uint64, doubtful bool) *sent {
	m.t.Helper()
	from := today().Add(time.Duration(sequence) * time.Minute)
	k := key(schema.EventsID, sequence)
	k.Node = node
	i := Item{Key: k, From: from, To: from.Add(time.Second), Doubtful: doubtful}
	return m.submitItem(i, batchtest.Record(batchtest.Table(m.t, k.Table), sequence, 2, from))
}

func (m moved) wantRowsOf(shard int, node uint64, want string) {
	m.t.Helper()
	got := clickhousetest.Query(m.t, m.c.Shards[shard-1].Writer, fmt.Sprintf("SELECT seq, count() FROM %s.gpu_events WHERE node_id = %d GROUP BY seq ORDER BY seq", schema.LocalDatabase(m.c.Name), node))
	if got != want {
		m.t.Errorf("shard %d has of node %d batches and rows %q, want %q", shard, node, got, want)
	}
}

// TestAFormerShardDoesNotAnswer: what may be there comes again, and is stored or found later; all else is stored as if
// nothing were. That holds for one that refuses, and for one that hangs.
func TestAFormerShardDoesNotAnswer(t *testing.T) {
	m := newMoved(t)
	node, other := key(0, 0).Node, key(0, 0).Node+2
	m.way.set(func(*http.Request, []byte) fault { return refuse })
	doubtful, fresh := m.give(node, 1, true), m.give(other, 1, true)
	if err := doubtful.wait(t); !errors.Is(err, ErrFormerAway) {
		t.Errorf("a batch that may be on another shard: %v", err)
	}
	if err := fresh.wait(t); err != nil {
		t.Error(err)
	}
	let, asked := make(chan struct{}), 0
	m.way.set(func(r *http.Request, body []byte) fault {
		if !strings.Contains(r.URL.Query().Get("query")+string(body), "(node_id, epoch, seq) IN") {
			return pass
		}
		asked++
		return waiting(let)
	})
	var hanging []*sent
	for n := range uint64(formerQuestions) {
		hanging = append(hanging, m.give(node, 2+n, true))
		if err := m.give(other, 2+n, false).wait(t); err != nil { // each is a unit of its own
			t.Error(err)
		}
		m.way.awaitThat(t, "a question", func() bool { return asked > int(n) })
	}
	if err := m.give(node, 9, true).wait(t); !errors.Is(err, ErrFormerAway) {
		t.Errorf("one more that would wait for a shard that hangs: %v", err)
	}
	m.way.set(nil)
	clickhousetest.Exec(t, m.c.Shards[1].Writer, fmt.Sprintf("INSERT INTO %s.gpu_events (ts, node_id, epoch, seq) SELECT fromUnixTimestamp64Milli(%d), %d, %d, 1 FROM numbers(2)",
		schema.LocalDatabase(m.c.Name), today().Add(time.Minute).UnixMilli(), node, doubtful.key.Epoch))
	close(let)
	for _, b := range hanging {
		if err := b.wait(t); err != nil {
			t.Error(err)
		}
	}
	if err := m.give(node, 1, true).wait(t); err != nil { // nobody waits any more
		t.Error(err)
	}
	m.wantRowsOf(1, node, "2\t2\n3\t2\n4\t2\n5\t2")
	m.wantRowsOf(2, node, "1\t2")
	m.wantRowsOf(1, other, "1\t2\n2\t2\n3\t2\n4\t2\n5\t2")
}
