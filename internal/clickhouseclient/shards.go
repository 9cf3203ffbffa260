// SPDX-License-Identifier: Apache-2.0

package clickhouseclient

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/schema"
)

// Shards connects with each shard's own part of the database, in their order; there are none if the database is one server's.
// All must answer. They are closed with the connection.
func (c *Connection) Shards(ctx context.Context) ([]driver.Conn, error) {
	layout, err := schema.Find(ctx, c, c.Endpoint.Database)
	if err != nil || layout.Cluster == "" || len(c.shards) > 0 {
		return c.shards, c.Endpoint.Explain(err)
	}
	endpoints, err := c.ShardEndpoints(ctx, layout.Cluster)
	if err != nil {
		return nil, err
	}
	var open []driver.Conn
	defer func() {
		if c.shards == nil { // all or none: whoever asks again must not take a part for all
			for _, conn := range open {
				_ = conn.Close()
			}
		}
	}()
	for i, e := range endpoints {
		e.Database = layout.Local
		conn, err := Dial(ctx, e)
		if err != nil {
			return nil, fmt.Errorf("shard %d: %w", i+1, err)
		}
		open = append(open, conn)
		_, own, err := schema.ShardMaps(ctx, conn, c.Endpoint.Database)
		switch {
		case err != nil:
			return nil, fmt.Errorf("shard %d: %w", i+1, e.Explain(err))
		case own != 0 && own != i+1:
			return nil, fmt.Errorf("%s is shard %d, and was given as shard %d: give the shards in their order", e.Address, own, i+1)
		}
	}
	c.shards = open
	return c.shards, nil
}

// ShardEndpoints are the shards of a cluster, in their order.
func (c *Connection) ShardEndpoints(ctx context.Context, cluster string) (endpoints []Endpoint, err error) {
	if c.servers == nil {
		return c.place.ShardEndpoints(ctx, c, c.Endpoint, cluster)
	}
	for _, s := range c.servers.Servers() {
		endpoints = append(endpoints, Embedded(c.place.whom(s.Writer(), s.Reader())))
	}
	return endpoints, nil
}

// ShardEndpoints are the shards of the cluster of a running ClickHouse: those that were given, those of the directory, or
// those that the server names, with its own port.
func (p Place) ShardEndpoints(ctx context.Context, db schema.Execer, e Endpoint, cluster string) ([]Endpoint, error) {
	if p.URL == "" {
		return p.embeddedShards(ctx)
	}
	in, err := schema.FindCluster(ctx, db, cluster)
	if err != nil {
		return nil, e.Explain(err)
	}
	addresses := p.Shards
	if len(addresses) == 0 {
		_, port, err := net.SplitHostPort(e.Address)
		if err != nil {
			return nil, fmt.Errorf("address of ClickHouse: %w", err)
		}
		for _, s := range in.Shards {
			addresses = append(addresses, net.JoinHostPort(s.Hosts[0], port))
		}
	}
	if len(addresses) != len(in.Shards) {
		return nil, fmt.Errorf("%s has %d shards, and %d addresses are given: --clickhouse-shard names one of each, in their order", cluster, len(in.Shards), len(addresses))
	}
	endpoints := make([]Endpoint, len(addresses))
	for i, address := range addresses {
		endpoints[i] = e
		endpoints[i].Address = address
	}
	return endpoints, nil
}

func (p Place) embeddedShards(ctx context.Context) (endpoints []Endpoint, err error) {
	dir := EmbeddedDir(p.DataDir)
	all, err := embedded.ShardsIn(dir)
	if err != nil {
		return nil, err
	}
	for n := range all {
		writer, reader, err := embedded.Attach(ctx, embedded.ShardDir(dir, n+1))
		if err != nil {
			return nil, fmt.Errorf("shard %d: %w", n+1, err)
		}
		endpoints = append(endpoints, Embedded(p.whom(writer, reader)))
	}
	return endpoints, nil
}

// DialShards connects with the database that people ask on a server of each shard. The caller closes what is returned, also
// with an error.
func (c *Connection) DialShards(ctx context.Context, cluster string) ([]driver.Conn, error) {
	endpoints, err := c.ShardEndpoints(ctx, cluster)
	var open []driver.Conn
	for i, e := range endpoints {
		conn, failed := Dial(ctx, e)
		if failed != nil {
			return open, errors.Join(err, fmt.Errorf("shard %d: %w", i+1, failed))
		}
		open = append(open, conn)
	}
	return open, err
}
