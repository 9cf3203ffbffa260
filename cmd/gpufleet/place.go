// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"os"

	"github.com/spf13/cobra"

	"github.com/gpufleet/gpufleet/internal/clickhouseclient"
	"github.com/gpufleet/gpufleet/internal/ops"
	"github.com/gpufleet/gpufleet/internal/up"
)

const passwordEnv = clickhouseclient.PasswordEnv

// placeFlags are the flags by which a command is told which ClickHouse it asks.
type placeFlags struct{ place clickhouseclient.Place }

func (p *placeFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&p.place.DataDir, "data", up.DefaultConfig().DataDir, "directory of gpufleet up, running or not")
	f.StringVar(&p.place.URL, "clickhouse", "", "ask this ClickHouse instead: http://user@host:8123/database, password from "+passwordEnv)
	f.StringVar(&p.place.Library, "libchdb", "", "path of libchdb.so, if one is started; empty: search")
}

// addShards adds the flag of commands that ask each shard of a cluster.
func (p *placeFlags) addShards(c *cobra.Command) {
	c.Flags().StringArrayVar(&p.place.Shards, "clickhouse-shard", nil,
		"HTTP address of a shard of its cluster, once for each in their order; none: the hosts of the cluster, with the port of --clickhouse")
}

// found is what the flags mean, with the password.
func (p *placeFlags) found() clickhouseclient.Place {
	p.place.Password = os.Getenv(passwordEnv)
	return p.place
}

func (p *placeFlags) connect(ctx context.Context) (*clickhouseclient.Connection, error) {
	return p.found().Connect(ctx)
}

// collectorFlags are the flags by which a command is told how to reach a collector.
type collectorFlags struct {
	address string
	useTLS  bool
	files   ops.ClientTLSFiles
}

func (o *collectorFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.address, "collector", "", "address of a collector, host:port")
	f.BoolVar(&o.useTLS, "tls", false, "speak TLS with the collector, trusting the system's authorities")
	f.StringVar(&o.files.CA, "tls-ca", "", "PEM file of the authorities that the collector's certificate must come from; implies --tls")
	f.StringVar(&o.files.Cert, "tls-cert", "", "PEM file of a client certificate, if the collector asks for one")
	f.StringVar(&o.files.Key, "tls-key", "", "PEM file of its private key")
}

// config is nil for plain text.
func (o *collectorFlags) config() (*tls.Config, error) {
	if !o.useTLS && o.files == (ops.ClientTLSFiles{}) {
		return nil, nil //nolint:nilnil // no TLS is a valid answer
	}
	return o.files.Client()
}
