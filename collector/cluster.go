// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/schema"
)

// Cluster is the cluster of ClickHouses that a collector writes into. Each shard gets the batches of its own nodes.
type Cluster struct {
	Name string // as system.clusters calls it; "": there is none, the database is one server's
	// Shards are the HTTP addresses of the shards, in their order; none: the hosts that system.clusters names, of several
	// replicas the first, with the port of Config.Database. All collectors must write to the same replica of a shard: what one
	// asks for another may have written a moment ago.
	Shards     []string
	Replicated bool // the shards' tables are Replicated ones
}

func (c Cluster) on() bool { return c.Name != "" }

// maxShards bounds what one collector divides its memory by.
const maxShards = 256

func (c Config) checkCluster() error {
	var problems []error
	switch {
	case !c.Cluster.on() && len(c.Cluster.Shards) > 0:
		problems = append(problems, errors.New("shards are given without the cluster that they are of: --clickhouse-cluster"))
	case !c.Cluster.on() && c.Cluster.Replicated:
		problems = append(problems, errors.New("replicated tables are given without a cluster: --clickhouse-cluster"))
	case len(c.Cluster.Shards) > maxShards:
		problems = append(problems, fmt.Errorf("%d shards: at most %d", len(c.Cluster.Shards), maxShards))
	}
	for i, address := range c.Cluster.Shards {
		e := c.Database
		if e.Address = address; address == "" {
			problems = append(problems, fmt.Errorf("shard %d has no address", i+1))
		}
		problems = append(problems, checkDatabase(e))
	}
	return errors.Join(append(problems, c.checkParts(len(c.Cluster.Shards)))...)
}

// checkParts refuses to divide memory and log until nothing is left.
func (c Config) checkParts(shards int) error {
	var problems []error
	if shards > 1 && c.MaxMemoryBytes/int64(shards) < minMemoryBytes {
		problems = append(problems, fmt.Errorf("memory of %d bytes for batches of %d shards: at least 32 MiB for each", c.MaxMemoryBytes, shards))
	}
	if shards > 1 && c.MaxLogBytes != 0 && c.MaxLogBytes/int64(shards) < minLogBytes {
		problems = append(problems, fmt.Errorf("log of %d bytes for %d shards: at least 256 MiB for each, or 0 for none", c.MaxLogBytes, shards))
	}
	return errors.Join(problems...)
}

// topology is which shards there are, and which nodes are whose.
type topology struct {
	shards []Endpoint        // one without a cluster
	maps   []schema.ShardMap // by number: the last one holds; none without a cluster
}

// of is the index of a node's shard.
func (t topology) of(node uint64) int {
	if len(t.maps) == 0 {
		return 0
	}
	return t.maps[len(t.maps)-1].Shard(node)
}

// daySlack is how wrong an agent's clock may be.
const daySlack = 24 * time.Hour

// former lists the shards that may have batches of an agent's life by an earlier map: the life began under it, and the
// ledger remembers it.
func (t topology) former(node, epoch uint64, now time.Time) (shards []int) {
	memory := time.Duration(schema.LedgerTable().TTLDays) * 24 * time.Hour
	home := t.of(node)
	for i := len(t.maps) - 2; i >= 0; i-- {
		ended := t.maps[i+1].AppliedAt
		if now.Sub(ended) > memory || epoch > uint64(max(ended.Add(daySlack).UnixMilli(), 0)) {
			break // and so did all before it
		}
		if s := t.maps[i].Shard(node); s != home && !slices.Contains(shards, s) {
			shards = append(shards, s)
		}
	}
	return shards
}

const (
	// surveyRetry is how long it is waited before a cluster is asked for again of which no server answers.
	surveyRetry    = 200 * time.Millisecond
	maxSurveyRetry = 5 * time.Second
)

// findTopology asks the servers of the cluster until one has told which map holds; and all of them if nobody has heard of a
// map: then it is the first one.
func (c Config) findTopology(ctx context.Context) (topology, error) {
	if !c.Cluster.on() {
		return topology{shards: []Endpoint{c.Database}}, nil
	}
	for wait := surveyRetry; ; wait = min(2*wait, maxSurveyRetry) {
		t, err := c.survey(ctx)
		if err == nil || store.Final(err) || errors.Is(err, errWrongCluster) {
			return t, err
		}
		c.Logger.Warn("which shards the cluster has is not known; trying again", "cluster", c.Cluster.Name, "retry_in", wait, "error", err)
		select {
		case <-ctx.Done():
			return t, ctx.Err()
		case <-time.After(wait):
		}
	}
}

// errWrongCluster says that what was given and what there is differ.
var errWrongCluster = errors.New("the cluster is another one than was given")

// survey asks once.
func (c Config) survey(ctx context.Context) (topology, error) {
	var t topology
	first, err := c.ask(ctx)
	if err != nil {
		return t, err
	}
	for i, s := range first.Shards {
		t.shards = append(t.shards, c.endpoint(i, s.Hosts))
	}
	if n := len(c.Cluster.Shards); n > 0 && n != len(t.shards) {
		return t, fmt.Errorf("%w: %d shards are given (--clickhouse-shard), and %s has %d", errWrongCluster, n, c.Cluster.Name, len(t.shards))
	}
	away, err := t.learn(ctx, c)
	switch {
	case err != nil:
		return t, err
	case len(t.maps) == 0 && away != nil:
		return t, fmt.Errorf("no shard that answers was told which nodes are whose: before the first map all must answer: %w", away)
	case len(t.maps) == 0:
		t.maps = []schema.ShardMap{{Number: 1, AppliedAt: time.Now().UTC(), Weights: first.Weights()}}
	}
	holds := t.maps[len(t.maps)-1]
	if !slices.Equal(holds.Weights, first.Weights()) {
		c.Logger.Warn("the cluster has other shards or weights than the map of nodes to shards, which holds until it is changed by gpufleet schema apply", "cluster", c.Cluster.Name, "weights", first.Weights(), "map", holds.String())
	}
	if len(holds.Weights) > len(t.shards) {
		return t, fmt.Errorf("%w: %s has %d shards, and by %s there are more: a shard is not taken away, but given the weight 0", errWrongCluster, c.Cluster.Name, len(t.shards), holds)
	}
	t.shards = t.shards[:len(holds.Weights)]
	return t, errors.Join(holds.Validate(), c.checkParts(len(t.shards)))
}

// ask finds a server that knows the cluster: the one that is named, or one of the shards.
func (c Config) ask(ctx context.Context) (seen store.Seen, err error) {
	endpoints := []Endpoint{c.Database}
	for _, address := range c.Cluster.Shards {
		e := c.Database
		e.Address = address
		endpoints = append(endpoints, e)
	}
	var problems []error
	for _, e := range endpoints {
		if seen, err = store.Survey(ctx, e, c.Cluster.Name); err == nil || store.Final(err) {
			return seen, err
		}
		problems = append(problems, err)
	}
	return seen, errors.Join(problems...)
}

// learn asks the shards for their maps. What it returns first is why one of them was not heard.
func (t *topology) learn(ctx context.Context, c Config) (away, err error) {
	for i, e := range t.shards {
		seen, err := store.Survey(ctx, e, c.Cluster.Name)
		switch {
		case err != nil && store.Final(err):
			return nil, err
		case err != nil:
			away = err
			continue
		case seen.Shard != 0 && seen.Shard != i+1, seen.Own != 0 && seen.Own != i+1:
			return nil, fmt.Errorf("%w: %s is shard %d, and was given as shard %d: give the shards in their order", errWrongCluster, e.Address, max(seen.Own, seen.Shard), i+1)
		}
		if n := len(seen.Maps); n > 0 && (len(t.maps) == 0 || seen.Maps[n-1].Number > t.maps[len(t.maps)-1].Number) {
			t.maps = seen.Maps
		}
	}
	return away, nil
}

// endpoint is the i-th shard.
func (c Config) endpoint(i int, hosts []string) Endpoint {
	e := c.Database
	switch _, port, _ := net.SplitHostPort(c.Database.Address); {
	case i < len(c.Cluster.Shards):
		e.Address = c.Cluster.Shards[i]
	case len(c.Cluster.Shards) == 0 && len(hosts) > 0:
		e.Address = net.JoinHostPort(hosts[0], port)
	}
	return e
}
