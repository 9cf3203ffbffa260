// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
)

// TestLearn: what a collector goes by if some of three shards answer, and each knows some of the maps.
func TestLearn(t *testing.T) {
	one, two := schema.ShardMap{Number: 1, Weights: []int{1, 1}}, schema.ShardMap{Number: 2, Weights: []int{1, 1, 1}}
	knows := func(shard int, maps ...schema.ShardMap) answer {
		return answer{seen: store.Seen{Maps: maps, Shard: shard}}
	}
	away := answer{err: errors.New("refused")}
	locked := answer{err: &clickhouse.Exception{Code: 516, Message: "wrong password"}}
	for name, tt := range map[string]struct {
		shards [3]answer
		holds  uint32
		says   string // "" if it is known
		ends   bool   // the collector does not wait
	}{
		"all know all":                           {[3]answer{knows(1, one, two), knows(2, one, two), knows(3, one, two)}, 2, "", false},
		"nobody was told":                        {[3]answer{knows(0), knows(0), knows(0)}, 1, "", false},
		"nobody was told, and one is away":       {[3]answer{knows(0), away, knows(0)}, 0, "all must answer", false},
		"one is away":                            {[3]answer{knows(1, one, two), away, knows(3, one, two)}, 2, "", false},
		"one has another password":               {[3]answer{knows(1, one, two), locked, knows(3, one, two)}, 2, "", false},
		"the new shard was told of all":          {[3]answer{away, away, knows(3, one, two)}, 2, "", false},
		"the new shard was told of the last":     {[3]answer{knows(1, one, two), knows(2, one), knows(3, two)}, 2, "", false},
		"an old one was not told of the last":    {[3]answer{away, knows(2, one), knows(3, two)}, 2, "", false},
		"that new shard alone":                   {[3]answer{away, away, knows(3, two)}, 0, "knows map 1", false},
		"nobody knows the first, and all answer": {[3]answer{knows(1, two), knows(2, two), knows(3, two)}, 0, "bring that row", true},
		"two maps of one number":                 {[3]answer{knows(1, one), knows(2, schema.ShardMap{Number: 1, Weights: []int{1, 2}}), away}, 0, "delete the wrong one", false},
		"another order":                          {[3]answer{knows(2, one), knows(1, one), away}, 0, "in their order", true},
	} {
		said, top := make(answers), topology{}
		for i, a := range tt.shards {
			e := Endpoint{Address: string(rune('a' + i))}
			top.shards, said[e.Address] = append(top.shards, e), a
		}
		err := top.learn(said, []int{1, 1, 1})
		_, ends := errors.AsType[hopeless](err)
		if tt.says == "" && (err != nil || top.holds().Number != tt.holds || len(top.maps) != int(tt.holds)) {
			t.Errorf("%s: %v: %v", name, top.maps, err)
		}
		if tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says) || ends != tt.ends) {
			t.Errorf("%s: %v, ends %t", name, err, ends)
		}
	}
}

// TestServersAreAskedAtTheSameTime: none of them answers before all were asked, and each is asked once.
func TestServersAreAskedAtTheSameTime(t *testing.T) {
	var asked atomic.Int64
	all := make(chan struct{})
	var endpoints []Endpoint
	for range 4 {
		var before atomic.Bool
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if before.Swap(true) {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			if asked.Add(1) == 4 {
				close(all)
			}
			select {
			case <-all:
			case <-r.Context().Done():
				t.Error("a server was given up before another one was asked")
			}
			w.WriteHeader(http.StatusForbidden)
		}))
		defer server.Close()
		endpoints = append(endpoints, Endpoint{Address: strings.TrimPrefix(server.URL, "http://")})
	}
	cfg := DefaultConfig()
	cfg.Database, cfg.Cluster = endpoints[0], Cluster{Name: "fleet"}
	for _, e := range endpoints {
		cfg.Cluster.Shards = append(cfg.Cluster.Shards, e.Address)
	}
	said := make(answers)
	if _, err := cfg.ask(t.Context(), said); err == nil || asked.Load() != 4 || len(said) != 4 {
		t.Errorf("%d of %d servers were asked: %v", asked.Load(), len(said), err)
	}
}

// TestWrongPassword ends a collector if no server lets it in, and none may later.
func TestWrongPassword(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Database, cfg.Cluster = Endpoint{Address: "a"}, Cluster{Name: "fleet", Shards: []string{"a", "b"}}
	locked := answer{err: &clickhouse.Exception{Code: 516, Message: "wrong password"}}
	for name, tt := range map[string]struct {
		a, b     answer
		ok, ends bool
	}{
		"at all of them":                   {locked, locked, false, true},
		"at the first one":                 {locked, answer{}, true, false},
		"at the one, and another one away": {locked, answer{err: errors.New("refused")}, false, false},
	} {
		_, err := cfg.ask(t.Context(), answers{"a": tt.a, "b": tt.b})
		if _, ends := errors.AsType[hopeless](err); ends != tt.ends || tt.ok != (err == nil) {
			t.Errorf("%s: %v, ends %t", name, err, ends)
		}
	}
}

// follower is a collector of a cluster of which the second shard is new, and which goes by the map before.
func follower(t *testing.T) (*pipeline, []schema.Execer, clickhousetest.Cluster) {
	t.Helper()
	c := clickhousetest.StartCluster(t)
	cfg := config(t, c.Shards[0])
	cfg.Cluster.Name = c.Named
	var shards []schema.Execer
	for _, s := range c.Shards {
		cfg.Cluster.Shards = append(cfg.Cluster.Shards, s.Writer.HTTPAddress())
		db := clickhousetest.Open(t, s.Writer)
		if err := schema.OfShard(c.Name, false).Migrate(t.Context(), db, "test"); err != nil {
			t.Fatal(err)
		}
		shards = append(shards, db)
	}
	first := schema.ShardMap{Number: 1, Weights: []int{1}}
	if err := schema.NoteShardMap(t.Context(), shards[0], c.Name, first, 1, "test"); err != nil {
		t.Fatal(err)
	}
	return &pipeline{cfg: cfg, store: &router{topology: topology{maps: []schema.ShardMap{first}}}, mapChanged: make(chan struct{})}, shards, c
}

// TestFollow: a collector whose memory is too small for another shard goes on by the earlier map, and says so; it does not
// start by the new one.
func TestFollow(t *testing.T) {
	p, shards, c := follower(t)
	p.cfg.MaxMemoryBytes = 40 << 20
	journal := make(chan string, 100)
	p.cfg.Logger = slog.New(slog.NewTextHandler(writer(journal), nil))
	p.otherMap()
	followed := make(chan error, 1)
	ctx, stop := context.WithTimeout(t.Context(), limitless)
	defer stop()
	go func() { followed <- p.follow(ctx) }()
	await(t, journal, "no shard that answers knows it") // it was told of it, and forgets it at once
	if p.whyStranded() == nil {
		t.Error("agents are sent to a collector that takes none")
	}
	if _, _, err := (schema.ClusterMigration{Cluster: c.Named, Database: c.Name, By: "test"}).Migrate(t.Context(), shards); err != nil {
		t.Fatal(err)
	}
	await(t, journal, "32 MiB for each")
	if _, err := p.cfg.findTopology(t.Context()); err == nil || !strings.Contains(err.Error(), "--memory-bytes") {
		t.Errorf("a start with too little memory: %v", err)
	}
	stop()
	if err := <-followed; err != nil {
		t.Error(err)
	}
	p.cfg.MaxMemoryBytes = 64 << 20
	if err := p.follow(t.Context()); !errors.Is(err, store.ErrMapChanged) || p.next.holds().Number != 2 || len(p.next.shards) != 2 || len(p.next.maps) != 2 {
		t.Errorf("%+v: %v", p.next, err)
	}
}

// writer hands on what is logged.
type writer chan string

// Write implements io.Writer.
func (w writer) Write(line []byte) (int, error) {
	w <- string(line)
	return len(line), nil
}

func await(t *testing.T, lines <-chan string, what string) {
	t.Helper()
	for timeout := time.After(limitless); ; {
		select {
		case line := <-lines:
			if strings.Contains(line, what) {
				return
			}
		case <-timeout:
			t.Fatalf("it was not said that %s", what)
		}
	}
}

// TestClaimOfAMovedNode: nothing is granted as long as the shard that had the node is not there; that of other nodes does not
// need it.
func TestClaimOfAMovedNode(t *testing.T) {
	now := time.Now()
	r := &router{topology: topology{maps: []schema.ShardMap{
		{Number: 1, Weights: []int{1, 1}}, {Number: 2, Weights: []int{1, 0}, AppliedAt: now},
	}}, parts: []*shard{{number: 1}, {number: 2}}}
	epoch := milliseconds(now.Add(-time.Hour))
	if _, err := r.Claim(t.Context(), schema.EventsID, 3, epoch, 1, true); !errors.Is(err, store.ErrFormerAway) || !errors.Is(err, errNotYet) {
		t.Errorf("a node that has moved: %v", err)
	}
	if _, err := r.Claim(t.Context(), schema.EventsID, 2, epoch, 1, true); errors.Is(err, store.ErrFormerAway) || !errors.Is(err, errNotYet) {
		t.Errorf("a node that has not: %v", err)
	}
}

// TestAShardIsOpenedUnderAnotherNumber after a try that may have said that its process has ended.
func TestAShardIsOpenedUnderAnotherNumber(t *testing.T) {
	db := clickhousetest.Start(t)
	cfg := config(t, db)
	s := &shard{number: 1, units: cfg.store(cfg.Database), instances: cfg.DataDir + "/instances"}
	s.units.Endpoint.Database = "gpufleet_missing"
	if err := s.renumber(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var tried []uint64
	s.units.Logger = slog.New(slog.NewTextHandler(each(func() {
		if tried = append(tried, s.units.Instance); len(tried) == 2 {
			cancel()
		}
	}), nil))
	if err := s.open(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if len(tried) != 2 || tried[0] == tried[1] || len(s.units.Former) != 1 || s.units.Former[0] != tried[0] {
		t.Errorf("tried as %x, which knows of %x", tried, s.units.Former)
	}
}

// each is called for each line that is logged.
type each func()

// Write implements io.Writer.
func (e each) Write(line []byte) (int, error) {
	e()
	return len(line), nil
}
