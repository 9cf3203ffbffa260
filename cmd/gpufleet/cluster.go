// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/gpufleet/gpufleet/internal/clickhouseclient"
	"github.com/gpufleet/gpufleet/internal/ops"
	"github.com/gpufleet/gpufleet/internal/query"
	"github.com/gpufleet/gpufleet/schema"
)

// clusterFlags name a cluster as those of the collector do.
type clusterFlags struct {
	url, name  string
	shards     []string
	replicated bool
}

func (o *clusterFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.url, "clickhouse", "", "a ClickHouse: http://user@host:8123/database, password from "+passwordEnv)
	f.StringVar(&o.name, "clickhouse-cluster", "", "cluster that it is a server of, as system.clusters calls it; empty: the one server has everything")
	f.StringArrayVar(&o.shards, "clickhouse-shard", nil, "HTTP address of a shard, once for each in their order; none: the hosts of the cluster, with the port of --clickhouse")
	f.BoolVar(&o.replicated, "clickhouse-replicated", false, "the cluster has ClickHouse Keeper, and its tables are replicated")
}

func newSchemaApply() *cobra.Command {
	var o clusterFlags
	var scatter bool
	c := &cobra.Command{
		Use:   "apply",
		Short: "Make or update the tables and views of a ClickHouse, or of all shards of a cluster",
		Long: "apply does what a collector does at its start. Of a cluster it does more: when shards were added, or weights\n" +
			"have changed, it notes on every shard which nodes are whose from now on, and collectors go by that within\n" +
			"seconds. All shards must answer. Before you add a shard to remote_servers, run it with --scatter: from then on\n" +
			"questions go to all shards, as long as rows are kept that lie elsewhere.",
		Example: "  gpufleet schema apply --clickhouse https://admin@ch.example:8443/gpufleet\n" +
			"  gpufleet schema apply --clickhouse https://admin@ch-1.example:8443/gpufleet --clickhouse-cluster fleet --scatter",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.apply(c.Context(), c.OutOrStdout(), scatter) },
	}
	o.add(c)
	c.Flags().BoolVar(&scatter, "scatter", false, "note that nodes are about to move: all shards are asked from now on")
	return c
}

func (o *clusterFlags) apply(ctx context.Context, w io.Writer, scatter bool) (err error) {
	if o.url == "" {
		return errors.New("name a ClickHouse with --clickhouse; gpufleet up makes the tables of its own")
	}
	if o.name == "" && (scatter || o.replicated || len(o.shards) > 0) {
		return errors.New("--scatter, --clickhouse-shard and --clickhouse-replicated are of a cluster: name it with --clickhouse-cluster")
	}
	first, err := (&placeFlags{place: clickhouseclient.Place{URL: o.url, Shards: o.shards}}).connect(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, first.Close()) }()
	by := "gpufleet " + ops.Version()
	if o.name == "" {
		if err := schema.Migrate(ctx, first, first.Endpoint.Database, by); err != nil {
			return query.Explain(first.Endpoint.Explain(err), "")
		}
		_, err := fmt.Fprintf(w, "%s has schema version %d\n", first.Endpoint, schema.Version)
		return err
	}
	conns, err := first.DialShards(ctx, o.name)
	shards := make([]schema.Execer, len(conns))
	for i, conn := range conns {
		defer func() { _ = conn.Close() }() // all that counts was answered
		shards[i] = conn
	}
	if err != nil {
		return query.Explain(err, "")
	}
	m := schema.ClusterMigration{Cluster: o.name, Database: first.Endpoint.Database, Replicated: o.replicated, Scatter: scatter, By: by}
	holds, changed, err := m.Migrate(ctx, shards)
	if err != nil {
		return query.Explain(first.Endpoint.Explain(err), "")
	}
	holding := "still holds"
	if changed {
		holding = "holds from now on"
	}
	_, err = fmt.Fprintf(w, "%d shards of %s have schema version %d; %s %s\n", len(shards), o.name, schema.Version, holds, holding)
	return err
}
