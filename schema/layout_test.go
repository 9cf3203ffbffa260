// SPDX-License-Identifier: Apache-2.0

package schema_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
)

// onCluster is the database over two shards of TestOnACluster, while that runs: newFleet gives it, emptied, instead of a new
// one. It is a package variable because tests that are run twice, once on it, have nothing else in common with it.
var onCluster *fleet

var intoTable = regexp.MustCompile(`^(INSERT INTO \w+ \([^)]*\))`)

// newClusterFleet is a migrated database over two shards, asked on the first of them.
func newClusterFleet(t testing.TB) fleet {
	t.Helper()
	c := clickhousetest.StartCluster(t)
	for _, shard := range c.Shards {
		migrateShard(t, c, shard, nil)
	}
	return fleet{Database: c.Shards[0], connection: clickhousetest.Open(t, c.Shards[0].Writer), cluster: &c}
}

func migrateShard(t testing.TB, c clickhousetest.Cluster, shard clickhousetest.Database, scattered map[string]bool) {
	t.Helper()
	connection := clickhousetest.Open(t, shard.Writer)
	for _, l := range []schema.Layout{schema.OfShard(c.Name, false), schema.OverShards(c.Named, c.Name, scattered)} {
		if err := l.Migrate(t.Context(), connection, "test"); err != nil {
			t.Fatal(err)
		}
	}
}

// emptied is the fleet once no table of its shards has a row, but those that tell of the schema.
func (f fleet) emptied(t testing.TB) fleet {
	t.Helper()
	for _, shard := range f.cluster.Shards {
		full := clickhousetest.Query(t, shard.Writer, "SELECT name FROM system.tables WHERE database = '"+schema.LocalDatabase(f.Name)+"' AND total_rows > 0 AND name != 'schema_versions'")
		for name := range strings.FieldsSeq(full) {
			clickhousetest.Exec(t, shard.Writer, "TRUNCATE TABLE "+schema.LocalDatabase(f.Name)+"."+name+" SYNC")
		}
	}
	return f
}

// TestOnACluster runs the tests of the views once more, over two shards: nodes with an even number are on the first one,
// the others on the second.
func TestOnACluster(t *testing.T) {
	f := newClusterFleet(t)
	onCluster = &f
	defer func() { onCluster = nil }()
	for name, test := range map[string]func(*testing.T){
		"EveryViewAnswers": TestEveryViewAnswers, "TokensCountOnce": TestTokensCountOnce, "TokenCost": TestTokenCost, "Intervals": TestIntervals, "FleetNodesAndGPUs": TestFleetNodesAndGPUs,
		"FleetSamples": TestFleetSamples, "FleetHealth": TestFleetHealth, "FleetEvents": TestFleetEvents, "FleetSilent": TestFleetSilent,
		"FleetNetwork": TestFleetNetwork, "FleetPrices": TestFleetPrices, "FleetRates": TestFleetRates, "FleetFaults": TestFleetFaults,
		"Workload": TestWorkload, "WorkloadOfAnAgentThatStartedAnew": TestWorkloadOfAnAgentThatStartedAnew, "TwoRowsOfOneBatch": TestTwoRowsOfOneBatch,
		"FleetNow": TestFleetNow, "IngestAudit": TestIngestAudit, "IngestHours": TestIngestHours, "FleetFaultTrace": TestFleetFaultTrace,
		"AGPUThatMovedToAnotherShard": gpuThatMoved, "ViewsAskForTheirSettings": viewsAskForTheirSettings,
	} {
		t.Run(name, test)
	}
}

// gpuThatMoved to another shard is seen where it was seen last.
func gpuThatMoved(t *testing.T) {
	t.Helper()
	f := newFleet(t)
	f.exec(t, "INSERT INTO node_inventory (ts, node_id, epoch, seq, content_hash, node_name, provider) VALUES (10, 2, 1, 1, 1, 'even', 'aws'), (10, 3, 1, 1, 1, 'odd', 'gcp')")
	f.exec(t, "INSERT INTO gpu_inventory (ts, gpu_id, node_id, epoch, seq, gpu_uuid) VALUES (10, 1, 2, 1, 1, 'GPU-1'), (20, 1, 3, 1, 1, 'GPU-1'), (20, 5, 2, 1, 2, 'GPU-5'), (10, 5, 3, 1, 2, 'GPU-5')")
	f.want(t, "SELECT count() FROM gpu_current FINAL", "4") // each shard has what it saw last
	f.want(t, "SELECT gpu_uuid, node_name, provider FROM fleet_gpus ORDER BY gpu_uuid", "GPU-1\todd\tgcp\nGPU-5\teven\taws")
}

// TestAQuestionAboutANodeGoesToItsShard reads the plan: on the first shard, what is asked of the second is read from a
// remote one, and what is asked of the first is not.
func TestAQuestionAboutANodeGoesToItsShard(t *testing.T) {
	f := newClusterFleet(t)
	f.exec(t, "INSERT INTO gpu_samples (ts, gpu_id, node_id, epoch, seq) VALUES (now64(3), 20, 2, 1, 1), (now64(3), 30, 3, 1, 1)")
	f.exec(t, "INSERT INTO gpu_inventory (ts, gpu_id, node_id, epoch, seq, gpu_uuid) VALUES (now64(3), 20, 2, 1, 1, 'GPU-20'), (now64(3), 30, 3, 1, 1, 'GPU-30')")
	for where, want := range map[string][2]bool{ // read here, read there
		"true":              {true, true},
		"node_id = 2":       {true, false},
		"node_id = 3":       {false, true},
		"node_id IN (3, 5)": {false, true},
		"node_id IN (2, 5)": {true, true},
		"gpu_id = 30":       {true, true},
		"node_id = (SELECT node_id FROM gpu_current WHERE gpu_id = 30 LIMIT 1)": {false, true},
	} {
		for _, from := range []string{"gpu_samples", "fleet_samples"} {
			plan := f.query(t, "EXPLAIN SELECT ts, gpu_id, node_id FROM "+from+" WHERE "+where)
			here, there := strings.Contains(plan, "ReadFromMergeTree"), strings.Contains(plan, "ReadFromRemote")
			if here != want[0] || there != want[1] {
				t.Errorf("%s WHERE %s reads here %t, there %t, want %v:\n%s", from, where, here, there, want, plan)
			}
		}
	}
	f.want(t, "SELECT gpu_id, _shard_num FROM gpu_samples ORDER BY gpu_id", "20\t1\n30\t2")
	f.want(t, "SELECT gpu_id FROM fleet_samples WHERE node_id = 3", "30")

	// As long as an earlier map has put rows elsewhere, all shards are asked.
	for _, shard := range f.cluster.Shards {
		migrateShard(t, *f.cluster, shard, map[string]bool{"gpu_samples": true})
	}
	clickhousetest.Exec(t, f.cluster.Shards[0].Writer, "INSERT INTO "+f.Name+"_local.gpu_samples (ts, gpu_id, node_id, epoch, seq) VALUES (now64(3) - 1, 30, 3, 1, 0)")
	f.want(t, "SELECT count() FROM fleet_samples WHERE node_id = 3", "2")
	f.want(t, "SELECT node_id, count() FROM gpu_samples GROUP BY node_id ORDER BY node_id", "2\t1\n3\t2")
}

// viewsAskForTheirSettings: a reader whose profile says nothing of clusters gets the same answers.
func viewsAskForTheirSettings(t *testing.T) {
	t.Helper()
	f := newFleet(t)
	f.known(t)
	f.exec(t, "INSERT INTO gpu_samples (ts, gpu_id, node_id, epoch, seq) VALUES (now64(3), 1, 7, 1, 1)")
	f.want(t, "SELECT model FROM fleet_samples WHERE node_id = 7 SETTINGS distributed_product_mode = 'deny', optimize_skip_unused_shards = 0", "H100")
	plan := f.query(t, "EXPLAIN SELECT model FROM fleet_samples WHERE node_id = 7 SETTINGS distributed_product_mode = 'deny', optimize_skip_unused_shards = 0")
	if strings.Contains(plan, "gpu_samples)") {
		t.Errorf("the first shard is read for a node of the second:\n%s", plan)
	}
}

func TestMigrateACluster(t *testing.T) {
	f := newClusterFleet(t)
	shard, over := schema.OfShard(f.Name, false), schema.OverShards(f.cluster.Named, f.Name, nil)
	for _, l := range []schema.Layout{shard, over} {
		r := &recorder{Conn: f.connection}
		if err := l.Migrate(t.Context(), r, "test"); err != nil || len(r.statements) > 0 {
			t.Errorf("%s, up to date: %v, ran %q", l.Database, err, r.statements)
		}
		found, err := schema.Find(t.Context(), f.connection, l.Database)
		if err != nil || found.Database != l.Database || found.Cluster != l.Cluster || found.Local != l.Local || found.Shard != l.Shard || len(found.Scattered) > 0 {
			t.Errorf("found %+v, want %+v: %v", found, l, err)
		}
		f.want(t, "SELECT count(), any(version) FROM "+l.Database+".schema_versions", fmt.Sprintf("1\t%d", schema.Version))
	}
	// A table of an earlier build is put right, and no row is lost by it.
	f.exec(t, "INSERT INTO gpu_samples (ts, gpu_id, node_id, epoch, seq) VALUES (now64(3), 1, 7, 1, 1)")
	f.exec(t, "ALTER TABLE gpu_samples DROP COLUMN quality")
	f.exec(t, "DROP TABLE gpu_events")
	r := &recorder{Conn: f.connection}
	if err := over.Migrate(t.Context(), r, "test"); err != nil || len(r.statements) != 2 {
		t.Errorf("%v, ran %q", err, r.statements)
	}
	f.want(t, "SELECT count(), any(quality) FROM gpu_samples", "1\t0")
}

func TestMigrateRefusesTheOtherLayout(t *testing.T) {
	f, c := newFleet(t), newClusterFleet(t)
	tests := map[string]struct {
		fleet  fleet
		layout schema.Layout
		want   string
	}{
		"a cluster where one server was": {f, schema.OverShards("gpufleet", f.Name, nil), "gpu_samples is a MergeTree, want a Distributed table: this database is of one server; move its tables to " + f.Name + "_local"},
		"one server where a cluster was": {c, schema.Single(c.Name), "gpu_samples is a Distributed table, want one of the MergeTree family: this database is of a cluster"},
		"replicas where there were none": {c, schema.OfShard(c.Name, true), "gpu_samples is a MergeTree, and replication is on"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := &recorder{Conn: tt.fleet.connection}
			err := tt.layout.Migrate(t.Context(), r, "test")
			if err == nil || !strings.Contains(err.Error(), tt.want) || len(r.statements) > 0 {
				t.Errorf("got %v, want %q; ran %q", err, tt.want, r.statements)
			}
		})
	}
}

// TestReplicasAreAsReviewed holds the statements for a cluster with Keeper against the reviewed ones, and has ClickHouse
// parse them: the embedded one has no Keeper, and so cannot run them.
func TestReplicasAreAsReviewed(t *testing.T) {
	statements := schema.ClusterStatements("gpufleet", "gpufleet")
	want, err := os.ReadFile("testdata/cluster.sql")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(statements, ";\n\n") + ";\n"; got != string(want) {
		t.Error("testdata/cluster.sql differs: run go generate ./schema/..., and review the difference")
	}
	db := clickhousetest.Start(t)
	for _, s := range statements {
		quoted := "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'"
		if got := clickhousetest.Query(t, db.Reader, "SELECT formatQuery("+quoted+") != ''"); got != "1" {
			t.Errorf("%s: %s", s, got)
		}
	}
	engines := regexp.MustCompile("(?s)CREATE TABLE IF NOT EXISTS `gpufleet_local`.`(\\w+)`.*?\nENGINE = (.*?)\n")
	found := map[string]string{}
	for _, match := range engines.FindAllStringSubmatch(string(want), -1) {
		found[match[1]] = match[2]
	}
	for _, table := range schema.StoredTables() {
		own := table.Name == "schema_versions"
		if strings.HasPrefix(found[table.Name], "Replicated") == own {
			t.Errorf("%s is a %s", table.Name, found[table.Name])
		}
	}
	if !strings.HasPrefix(found["shard_maps"], "Replicated") {
		t.Errorf("shard_maps is a %s: whoever asks another replica must know of a new map", found["shard_maps"])
	}
	if len(found) != len(schema.StoredTables())+1 {
		t.Errorf("tables %q", slices.Sorted(maps.Keys(found)))
	}
	if got, want := found["gpu_current"], "ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/gpufleet_local/gpu_current', '{replica}', ts)"; got != want {
		t.Errorf("gpu_current is a %s, want %s", got, want)
	}
}
