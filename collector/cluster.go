// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

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
		problems = append(problems, fmt.Errorf("memory of %d bytes for batches of %d shards: at least 32 MiB for each: --memory-bytes", c.MaxMemoryBytes, shards))
	}
	if shards > 1 && c.MaxLogBytes != 0 && c.MaxLogBytes/int64(shards) < minLogBytes {
		problems = append(problems, fmt.Errorf("log of %d bytes for %d shards: at least 256 MiB for each, or 0 for none: --log-bytes", c.MaxLogBytes, shards))
	}
	return errors.Join(problems...)
}

// topology is which shards there are, and which nodes are whose.
type topology struct {
	shards []Endpoint        // one without a cluster
	maps   []schema.ShardMap // by number: the last one holds; none without a cluster
}

// holds is the map that holds.
func (t topology) holds() schema.ShardMap {
	if len(t.maps) == 0 {
		return schema.ShardMap{}
	}
	return t.maps[len(t.maps)-1]
}

// of is the index of a node's shard.
func (t topology) of(node uint64) int { return t.holds().Shard(node) }

// daySlack is how wrong an agent's clock may be.
const daySlack = 24 * time.Hour

// former lists the shards that may have batches of an agent's life by an earlier map: the life began under it, and the
// ledger remembers it. One that begins in the future has begun at another time.
func (t topology) former(node, epoch uint64, now time.Time) (shards []int) {
	memory := time.Duration(schema.LedgerTable().TTLDays) * 24 * time.Hour
	home := t.of(node)
	for i := len(t.maps) - 2; i >= 0; i-- {
		ended := t.maps[i+1].AppliedAt
		if now.Sub(ended) > memory || epoch > milliseconds(ended.Add(daySlack)) && epoch <= milliseconds(now) {
			break // and so did all before it
		}
		if s := t.maps[i].Shard(node); s != home && !slices.Contains(shards, s) {
			shards = append(shards, s)
		}
	}
	return shards
}

func milliseconds(t time.Time) uint64 { return uint64(max(t.UnixMilli(), 0)) }

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
