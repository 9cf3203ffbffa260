// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/rollups"
	"github.com/gpufleet/gpufleet/schema"
)

// TestRollups checks rollups by command, spoils them, sees that it is found, and has them made anew.
func TestRollups(t *testing.T) {
	db, address := database(t)
	t.Setenv(passwordEnv, db.Writer.Password)
	address = strings.Replace(address, db.Reader.User, db.Writer.User, 1)
	gpufleet(t, "", "rollups", "check", "--clickhouse", address).want(t, exitNothing, "Nothing to check from ", "")
	gpufleet(t, "", "rollups", "rebuild", "--since", "1h", "--until", "0s", "--clickhouse", address).want(t, exitFailed, "", "a collector begins them when it runs")

	clickhousetest.Exec(t, db.Writer, "INSERT INTO gpu_samples (ts, gpu_id, epoch, seq, power_instant_watts) SELECT now64(3) - 7200 + number, 1, 5, number, 300 FROM numbers(100)")
	cfg := rollups.DefaultConfig()
	cfg.Database, cfg.Collector = db.Name, "test"
	b, err := rollups.New(clickhousetest.Open(t, db.Writer), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for more := true; more; {
		if more, err = b.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	check := func(code int, want string) {
		t.Helper()
		gpufleet(t, "", "rollups", "check", "--since", "4h", "--until", "0s", "--clickhouse", address).want(t, code, want, "")
	}
	check(0, "Every row is what the samples make.")
	clickhousetest.Exec(t, db.Writer, "INSERT INTO gpu_samples_1m SELECT * REPLACE (power_instant_watts_sum + 1 AS power_instant_watts_sum) FROM gpu_samples_1m FINAL LIMIT 1 SETTINGS insert_deduplicate = 0")
	check(exitFound, "Make them anew: gpufleet rollups rebuild --since ")
	o := gpufleet(t, "", "rollups", "check", "--since", "4h", "--until", "0s", "--json", "--clickhouse", address)
	var report rollups.Report
	if err := json.Unmarshal([]byte(o.stdout), &report); err != nil || o.code != exitFound || report.Samples != 100 || len(report.Differences) != 1 || report.Differences[0].Column != "power_instant_watts_sum" {
		t.Errorf("exit %d, %v: %s", o.code, err, o.stdout)
	}
	gpufleet(t, "", "rollups", "rebuild", "--since", "4h", "--until", "0s", "--clickhouse", address).want(t, 0, fmt.Sprintf("out of %d samples.", 100), "")
	check(0, "Every row is what the samples make.")
	gpufleet(t, "", "rollups", "rebuild", "--since", "4h", "--clickhouse", address).want(t, exitFailed, "", "give the time to be rebuilt")
	gpufleet(t, "", "rollups", "check", "--since", "soon", "--clickhouse", address).want(t, exitFailed, "", "\"soon\" is no time: give how long ago")
}

// TestRollupsOfACluster: each shard has rollups of its own samples, and is checked and mended in its turn. The database over
// them adds them up.
func TestRollupsOfACluster(t *testing.T) {
	c := clickhousetest.StartCluster(t)
	writer := c.Shards[0].Writer
	t.Setenv(passwordEnv, writer.Password)
	address := "http://" + writer.User + "@" + writer.HTTPAddress() + "/" + c.Name
	flags := []string{"--clickhouse", address}
	for _, s := range c.Shards {
		flags = append(flags, "--clickhouse-shard", s.Writer.HTTPAddress())
	}
	run := func(args ...string) outcome { return gpufleet(t, "", append(args, flags...)...) }
	run("schema", "apply", "--clickhouse-cluster", c.Named).want(t, 0, "2 shards of "+c.Named, "")
	clickhousetest.Exec(t, writer, "INSERT INTO gpu_samples (ts, gpu_id, node_id, epoch, seq, power_instant_watts) SELECT now64(3) - 7200 + number, number % 10, number % 10, 5, number, 300 FROM numbers(100) SETTINGS distributed_foreground_insert = 1")
	local := schema.LocalDatabase(c.Name)
	run("rollups", "rebuild", "--since", "4h", "--until", "0s").want(t, exitFailed, "", "a collector begins them when it runs")
	for i, s := range c.Shards {
		cfg := rollups.DefaultConfig()
		cfg.Database, cfg.Collector = local, "test"
		b, err := rollups.New(clickhousetest.Open(t, s.Writer), cfg)
		if err != nil {
			t.Fatal(err)
		}
		for more := true; more; {
			if more, err = b.Pass(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if i == 0 { // the other has samples, and no rollups yet: nothing is proved of it, and the first is rebuilt without it
			run("rollups", "check", "--since", "4h", "--until", "0s").want(t, exitNothing, "there are samples, on one shard at least, and no rollups", "")
			run("rollups", "rebuild", "--since", "4h", "--until", "0s").want(t, 0, "out of 50 samples.", "")
		}
	}
	run("rollups", "check", "--since", "4h", "--until", "0s").want(t, 0, "100 samples", "")
	for _, view := range []string{"fleet_minutes", "fleet_hours"} {
		if got := clickhousetest.Query(t, c.Shards[1].Reader, "SELECT sum(samples), uniqExact(gpu_id) FROM "+view+" WHERE ts > now() - INTERVAL 4 HOUR"); got != "100\t10" {
			t.Errorf("%s of the cluster: %s", view, got)
		}
	}
	clickhousetest.Exec(t, c.Shards[1].Writer, strings.ReplaceAll("INSERT INTO DB.gpu_samples_1m SELECT * REPLACE (power_instant_watts_sum + 1 AS power_instant_watts_sum) FROM DB.gpu_samples_1m FINAL LIMIT 1 SETTINGS insert_deduplicate = 0", "DB", local))
	run("rollups", "check", "--since", "4h", "--until", "0s").want(t, exitFound, "Make them anew", "")
	clickhousetest.Exec(t, c.Shards[0].Writer, "INSERT INTO "+local+".gpu_samples (ts, gpu_id, epoch, seq) VALUES (now() - 3 * 86400, 2, 1, 1)") // only this one has samples of that time
	clickhousetest.Exec(t, c.Shards[1].Writer, "INSERT INTO "+local+".gpu_samples_1m (ts, gpu_id, rows) VALUES (now() - 28 * 3600, 2, 60)")      // and this one rollups alone
	before := clickhousetest.Query(t, c.Shards[0].Reader, "SELECT max(version) FROM "+local+".gpu_samples_1m")
	run("rollups", "rebuild", "--since", "30h", "--until", "0s").want(t, exitFailed, "", "shard 2: samples before")
	if got := clickhousetest.Query(t, c.Shards[0].Reader, "SELECT max(version) FROM "+local+".gpu_samples_1m"); got != before {
		t.Error("the first shard was rebuilt, though the command was refused")
	}
	clickhousetest.Exec(t, c.Shards[1].Writer, "ALTER TABLE "+local+".gpu_samples_1m DELETE WHERE ts < now() - 20 * 3600 SETTINGS mutations_sync = 1")
	// A shard that is younger than what is asked for, and has nothing to lose, keeps no other one from it.
	run("rollups", "rebuild", "--since", "30h", "--until", "0s").want(t, 0, "out of 100 samples.", "")
	run("rollups", "check", "--since", "4h", "--until", "0s").want(t, 0, "Every row is what the samples make.", "")
}
