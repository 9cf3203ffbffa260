// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/internal/account"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
)

// TestAccount has an hour of one GPU made, shown, spoiled, found and made again.
func TestAccount(t *testing.T) {
	db, address := database(t)
	t.Setenv(passwordEnv, db.Writer.Password)
	address = strings.Replace(address, db.Reader.User, db.Writer.User, 1)
	run := func(args ...string) outcome {
		return gpufleet(t, "", append(append([]string{"account"}, args...), "--clickhouse", address)...)
	}
	run("check").want(t, exitFailed, "", "a collector begins them when it runs")
	begin := time.Now().Add(-72 * time.Hour).Truncate(time.Hour).Unix()
	for _, sql := range []string{
		"INSERT INTO node_inventory (ts, node_id, epoch, seq, node_name, provider, region, instance_type) VALUES (toDateTime64(%d, 3, 'UTC'), 1, 1, 1, 'node-1', 'aws', 'us-east-1', 'p5.4xlarge')",
		"INSERT INTO gpu_inventory (ts, gpu_id, node_id, epoch, seq, gpu_uuid, model) VALUES (toDateTime64(%d, 3, 'UTC'), 7, 1, 1, 1, 'GPU-7', 'H100')",
		"INSERT INTO gpu_samples_1m (ts, gpu_id, node_id, version, rows, covered_milliseconds, gpu_utilization_permille_sum, gpu_utilization_readings) SELECT toDateTime(%d, 'UTC') + 60 * number, 7, 1, 60, 60, 60000, 15000, 60 FROM numbers(60)",
		"INSERT INTO prices (provider, instance_type, life_cycle, basis, currency, valid_from, price_per_hour, price_per_gpu_hour, gpus) VALUES ('aws', 'p5.4xlarge', 'on_demand', 'list', 'USD', toDateTime64(%d, 3, 'UTC'), 6.88, 6.88, 1)",
		"INSERT INTO rollup_progress (ts, built_until, recorded_at) SELECT toDateTime(%d, 'UTC') + 3600 * number AS h, h + 3600, now64(3) FROM numbers(2)",
	} {
		clickhousetest.Exec(t, db.Writer, fmt.Sprintf(sql, begin))
	}
	hour := []string{"--since", time.Unix(begin, 0).UTC().Format(time.RFC3339), "--until", time.Unix(begin+3600, 0).UTC().Format(time.RFC3339)}
	run(append([]string{"show"}, hour...)...).want(t, exitNothing, "There is no account from ", "")
	run(append([]string{"check"}, hour...)...).want(t, exitFound, "1 hours something has come", "")
	run(append([]string{"rebuild"}, hour...)...).want(t, 0, "1 hours made, 1 of them say something new, 0 wait", "")
	run(append([]string{"rebuild", "--json"}, hour...)...).want(t, 0, `"hours":1,"changed":0,"waiting":0}`, "")
	run(append([]string{"check"}, hour...)...).want(t, 0, "6.88 USD (list): 1.00 GPU-hours, productive 0.25, allocated idle 0.00", "")
	run(append([]string{"show", "--by", "node"}, hour...)...).want(t, 0, "node-1", "")
	shown := run(append([]string{"show", "--by", "provider", "--json"}, hour...)...)
	var s account.Shown
	if err := json.Unmarshal([]byte(shown.stdout), &s); err != nil || len(s.Groups) != 1 || s.Groups[0].Costs["productive"] != "1.72" || s.Groups[0].Costs["inventory"] != "6.88" || s.Groups[0].Hours["unallocated"] != "0.75" {
		t.Errorf("%v: %s", err, shown.stdout)
	}
	run("show", "--by", "weather").want(t, exitFailed, "", "want one of provider")
	clickhousetest.Exec(t, db.Writer, "ALTER TABLE account_hours UPDATE productive_milliseconds = 0 WHERE 1 SETTINGS mutations_sync = 1")
	spoiled := run(append([]string{"check", "--json"}, hour...)...)
	var r account.Report
	if err := json.Unmarshal([]byte(spoiled.stdout), &r); err != nil || spoiled.code != exitFound || r.Identity[0].Wrong != 1 || r.Identity[0].TimeError != 900_000 || len(r.Differences) != 1 {
		t.Errorf("exit %d, %v: %s", spoiled.code, err, spoiled.stdout)
	}
	run(append([]string{"rebuild"}, hour...)...).want(t, 0, "1 of them say something new", "")
	run(append([]string{"check"}, hour...)...).want(t, 0, "Every row is what it is made of", "")
	run("check", "--since", "soon").want(t, exitFailed, "", "\"soon\" is no time")
}

// TestAccountOfACluster: each shard accounts its own nodes, at the prices of the whole cluster, and the database over them
// has the versions of both that count.
func TestAccountOfACluster(t *testing.T) {
	c := clickhousetest.StartCluster(t)
	writer := c.Shards[0].Writer
	t.Setenv(passwordEnv, writer.Password)
	address := "http://" + writer.User + "@" + writer.HTTPAddress() + "/" + c.Name
	var shards []string
	for _, s := range c.Shards {
		shards = append(shards, "--clickhouse-shard", s.Writer.HTTPAddress())
	}
	run := func(args ...string) outcome {
		return gpufleet(t, "", append(append(args, "--clickhouse", address), shards...)...)
	}
	run("schema", "apply", "--clickhouse-cluster", c.Named).want(t, 0, "2 shards of "+c.Named, "")
	begin := time.Now().Add(-72 * time.Hour).Truncate(time.Hour).Unix()
	for _, sql := range []string{
		"INSERT INTO node_inventory (ts, node_id, epoch, seq, node_name, provider, region, instance_type) SELECT toDateTime64(%d, 3, 'UTC'), number, 1, 1, 'node', 'aws', 'us-east-1', 'p5.4xlarge' FROM numbers(10)",
		"INSERT INTO gpu_inventory (ts, gpu_id, node_id, epoch, seq, gpu_uuid, model) SELECT toDateTime64(%d, 3, 'UTC'), number, number, 1, 1, 'GPU', 'H100' FROM numbers(10)",
		"INSERT INTO gpu_samples_1m (ts, gpu_id, node_id, version, rows, covered_milliseconds) SELECT toDateTime(%d, 'UTC'), number, number, 60, 60, 60000 FROM numbers(10)",
		"INSERT INTO prices (provider, instance_type, life_cycle, basis, currency, valid_from, price_per_hour, price_per_gpu_hour, gpus) SELECT 'aws', 'p5.4xlarge', 'on_demand', 'list', 'USD', toDateTime64(%d, 3, 'UTC'), 6.88, 6.88, 1",
	} {
		clickhousetest.Exec(t, writer, fmt.Sprintf(sql+" SETTINGS distributed_foreground_insert = 1", begin))
	}
	for _, s := range c.Shards {
		clickhousetest.Exec(t, s.Writer, fmt.Sprintf("INSERT INTO %s.rollup_progress (ts, built_until, recorded_at) SELECT toDateTime(%d, 'UTC') + 3600 * number AS h, h + 3600, now64(3) FROM numbers(2)", schema.LocalDatabase(c.Name), begin))
	}
	hour := []string{"--since", time.Unix(begin, 0).UTC().Format(time.RFC3339), "--until", time.Unix(begin+3600, 0).UTC().Format(time.RFC3339)}
	run(append([]string{"account", "rebuild"}, hour...)...).want(t, 0, "2 hours made, 2 of them say something new", "")
	run(append([]string{"account", "check"}, hour...)...).want(t, 0, "Every row is what it is made of", "")
	for _, s := range c.Shards {
		if got := clickhousetest.Query(t, s.Reader, "SELECT sum(inventory_milliseconds) / 3.6e6, sum(inventory_undivided_cost) / 3600000 FROM fleet_account"); got != "10\t68.8" {
			t.Errorf("the cluster's account: %s", got)
		}
	}
	if got := clickhousetest.Query(t, writer, "SELECT count(), sum(counts) FROM account_versions"); got != "2\t2" {
		t.Errorf("versions: %s", got)
	}
	gpufleet(t, "", append([]string{"account", "show", "--clickhouse", address}, hour...)...).want(t, 0, "68.80", "")
}
