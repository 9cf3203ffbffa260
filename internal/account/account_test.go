// SPDX-License-Identifier: Apache-2.0

package account

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// fourClouds is an hour of eight nodes. What each comes to is worked out by hand in TestByHand.
func fourClouds(t testing.TB) *fleet {
	t.Helper()
	f := newFleet(t)
	for _, n := range []struct {
		node                                  int
		provider, region, instance, lifeCycle string
	}{
		{1, "aws", "us-east-1", "p5.4xlarge", "on_demand"},
		{2, "azure", "westeurope", "one", "reserved"},
		{3, "gcp", "us-central1", "unpriced", "spot"},
		{4, "oci", "eu-frankfurt-1", "two", "on_demand"},
		{5, "oci", "eu-frankfurt-1", "two", "on_demand"},
		{6, "aws", "us-east-1", "p5.48xlarge", "on_demand"},
		{7, "oci", "eu-frankfurt-1", "two", "on_demand"},
	} {
		f.node(-20, n.node, n.provider, n.region, n.instance, n.lifeCycle)
	}
	for _, g := range [][2]int{{11, 1}, {21, 2}, {22, 2}, {31, 3}, {32, 3}, {41, 4}, {42, 4}, {61, 6}, {71, 7}} {
		f.gpu(-20, g[0], g[1])
	}
	f.price(-999, "aws", "p5.4xlarge", "on_demand", "list", "USD", "6.88", -900)
	f.price(20, "aws", "p5.4xlarge", "on_demand", "list", "USD", "5", -900)
	f.price(-999, "azure", "one", "on_demand", "list", "USD", "12.29", -900)
	f.price(-999, "azure", "one", "reserved", "contracted", "EUR", "4.000000007", -900)
	f.price(45, "oci", "two", "on_demand", "list", "USD", "10", -900)
	f.price(-999, "aws", "p5.48xlarge", "on_demand", "list", "USD", "6.88", -900)

	f.rows(0, 60, 11, 1, 500)
	f.owner(-5, 30, 11, "red", "chat", 0)
	f.owner(30, 90, 11, "blue", "search", 0)

	f.rows(0, 60, 21, 2, 0)
	f.owner(-5, 90, 21, "red", "chat", 0)
	f.rows(0, 15, 22, 2, 0)
	f.owner(-5, 90, 22, "", "", 0)
	f.event(15, "xid", 22, 2, "critical")

	f.rows(0, 40, 31, 3, 0)
	f.owner(-5, 90, 31, "", "", 0)
	f.rows(0, 30, 32, 3, 0)
	f.owner(-5, 90, 32, "", "", 0)

	f.rows(0, 60, 41, 4, 250)
	f.owner(-5, 90, 41, "red", "chat", 1)
	f.owner(-5, 90, 41, "blue", "search", 1)
	f.rows(0, 50, 42, 4, 0)
	f.gpu(50, 42, 5)
	f.rows(50, 60, 42, 5, 0)
	f.owner(-5, 90, 42, "", "", 0)

	f.rows(0, 60, 61, 6, 1000)

	f.rows(0, 10, 71, 7, 0)
	f.owner(-5, 90, 71, "", "", 0)
	f.event(10, "agent_stopped", 0, 7, "")
	f.rollUp(65)
	return f
}

// TestByHand compares an hour and what the views make of it with what a person works out.
func TestByHand(t *testing.T) {
	f := fourClouds(t)
	if d := f.build(); d.Changed != 1 || d.Looked != 1 {
		t.Fatalf("%+v, want an hour", d)
	}
	f.hourByHand()
	f.moneyByHand()
}

// hourByHand has the whole account of an hour, in seconds, as a person works it out:
//
//	node 1  one GPU, half busy. Red has it 30 min, of which 20 at 6.88 and 10 at 5; then blue for 30 min at 5.
//	node 2  reserved, so that what was agreed upon counts and not the list. GPU 21 is red's and idle for the hour. GPU 22 is
//	        nobody's for 15 min, and has a critical fault and no rows for 45.
//	node 3  has no price. GPU 31 is nobody's until 10:40, when the agent falls silent. GPU 32 gives no rows from 10:30 on: for
//	        10 min it is missing, while 31 is there; for 20 nothing is known.
//	node 4  GPU 41 is a quarter busy and shared, so that red and blue are charged 30 min each, of which 7.5 are busy. Its price
//	        begins at 10:45. GPU 42 is nobody's, and is in node 5 from 10:50 on.
//	node 6  is to have eight GPUs and lists one, busy for whom nobody knows.
//	node 7  its agent stops in order at 10:10 and does not come back: then the node was given back.
func (f *fleet) hourByHand() {
	f.Helper()
	f.want(`
1	blue	whole	5	1800	900	900	0	0	0	0
1	red	whole	5	600	300	300	0	0	0	0
1	red	whole	6.88	1200	600	600	0	0	0	0
2	red	whole	4.000000007	3600	0	3600	0	0	0	0
2	-	whole	4.000000007	3600	0	0	0	2700	900	0
3	-	whole	\N	7200	0	0	0	0	4200	3000
4	blue	equal	10	450	112.5	337.5	0	0	0	0
4	blue	equal	\N	1350	337.5	1012.5	0	0	0	0
4	red	equal	10	450	112.5	337.5	0	0	0	0
4	red	equal	\N	1350	337.5	1012.5	0	0	0	0
4	-	whole	10	300	0	0	0	0	300	0
4	-	whole	\N	2700	0	0	0	0	2700	0
5	-	whole	10	600	0	0	0	0	600	0
6	-	whole	6.88	25200	0	0	0	0	0	25200
6	-	whole	6.88	3600	3600	0	0	0	0	0
7	-	whole	\N	600	0	0	0	0	600	0`,
		`SELECT node_id, ifNull(team, '-'), split, price_per_gpu_hour, inventory_milliseconds / 1000, productive_milliseconds / 1000, allocated_idle_milliseconds / 1000, busy_lost_milliseconds / 1000,
    unhealthy_milliseconds / 1000, unallocated_milliseconds / 1000, undelivered_milliseconds / 1000
FROM fleet_account WHERE ts = toDateTime(%d, 'UTC') ORDER BY node_id, team NULLS LAST, split, price_per_gpu_hour NULLS LAST, gpu_model NULLS FIRST`, f.ten/second)
	f.want(`
2	0	2700	0	0	0	0
3	0	0	0	2400	600	0
6	3600	0	0	0	0	25200`,
		`SELECT node_id, sum(unattributed_milliseconds) / 1000 AS a, sum(lost_milliseconds) / 1000 AS b, sum(owner_unknown_milliseconds) / 1000 AS c, sum(unseen_milliseconds) / 1000 AS d, sum(missing_milliseconds) / 1000 AS e, sum(unlisted_milliseconds) / 1000 AS f
FROM fleet_account WHERE ts = toDateTime(%d, 'UTC') GROUP BY node_id HAVING a + b + c + d + e + f > 0 ORDER BY node_id`, f.ten/second)
}

// moneyByHand has what the views make of that hour. Of node 1, half of the time is busy: 20 min of 6.88 and 40 of 5 are
// 5.626666… dollars, of which half is 2.813333…. Of node 2, in euros: an hour idle, 45 min unhealthy and 15 unallocated, at
// 4.000000007: the last digits of 3.00000000525 and 1.00000000175 are such that they add up.
func (f *fleet) moneyByHand() {
	f.Helper()
	cost := "inventory_cost, productive_cost, allocated_idle_cost, busy_lost_cost, unhealthy_cost, unallocated_cost, undelivered_cost"
	f.want(`
1	USD	list	5.626666666	2.813333333	2.813333333	0	0	0	0
2	EUR	contracted	8.000000014	0	4.000000007	0	3.000000005	1.000000002	0
3	\N	\N	\N	\N	\N	\N	\N	\N	\N`, "SELECT node_id, currency, basis, %s FROM fleet_cost_by_node WHERE node_id < 4 ORDER BY node_id", cost)
	// Blue has half an hour of node 1 at 5, half of it busy, and 7.5 min of node 4 at 10, a quarter of it busy: 1.25 + 0.3125
	// are busy. Red has 20 min of node 1 at 6.88 and 10 at 5, and the other 7.5 of node 4: 1.1466… + 0.4166… + 0.3125.
	f.want(`
blue	USD	3.75	1.5625	2.1875
red	EUR	4.000000007	0	4.000000007
red	USD	4.376666666	1.875833333	2.500833333`, "SELECT team, currency, inventory_cost, productive_cost, allocated_idle_cost FROM fleet_cost_by_team WHERE team IS NOT NULL AND currency IS NOT NULL ORDER BY team, currency")
	// All that is priced in dollars at aws: what node 1 costs, and node 6 with one GPU busy of eight.
	f.want(`us-east-1	9.693333333	12.506666666	12.506666666	12.506666666	12.506666666
us-east-1	0	0	0	0	48.16`, "SELECT region, compute_cost, with_idle_cost, with_faults_cost, with_unallocated_cost, fully_loaded_cost FROM fleet_waterfall WHERE provider = 'aws' ORDER BY gpu_model NULLS LAST")
	f.want("2	2	1.25	1	0	8.000000014	8.000000014	5.000000008	4.000000007	0",
		"SELECT paid_gpus, delivered_gpus, healthy_gpus, reserved_gpus, in_use_gpus, paid_cost, delivered_cost, healthy_cost, reserved_cost, in_use_cost FROM fleet_capacity WHERE provider = 'azure'")
	f.want("red	chat	node-2	1	4.000000007", "SELECT team, deployment, node_name, allocated_idle_gpu_hours, allocated_idle_cost FROM fleet_idle ORDER BY allocated_idle_cost DESC NULLS LAST LIMIT 1")
	f.want("node-5	USD	1.666666666", "SELECT node_name, currency, unallocated_cost FROM fleet_stranded WHERE currency = 'USD' ORDER BY unallocated_cost DESC LIMIT 1")
	for _, view := range []string{"provider", "node", "team", "model", "deployment"} {
		f.want("0	0", "SELECT countIf(inventory_cost != productive_cost + allocated_idle_cost + busy_lost_cost + unhealthy_cost + unallocated_cost + undelivered_cost), countIf(round(inventory_gpu_hours - productive_gpu_hours - allocated_idle_gpu_hours - busy_lost_gpu_hours - unhealthy_gpu_hours - unallocated_gpu_hours - undelivered_gpu_hours, 9) != 0) FROM fleet_cost_by_%s", view)
	}
	f.want("16.59", "SELECT sum(energy_millijoules) / 1e9 FROM fleet_account") // 395 minutes of 60 rows of 700 J
}

// TestCorrectionsMakeAVersion: rows that come late, a price that is corrected. What was said before stays.
// refusing is a connection over which one hour cannot be recorded, or any.
type refusing struct {
	Conn
	hour string
}

func (c refusing) Exec(ctx context.Context, query string, args ...any) error {
	if strings.Contains(query, c.hour) {
		return errors.New("refused")
	}
	return c.Conn.Exec(ctx, query, args...)
}

// TestAnHourThatFailsIsPassedOver: the hours before it are made, unless nothing works.
func TestAnHourThatFailsIsPassedOver(t *testing.T) {
	f := newFleet(t)
	f.node(-200, 1, "aws", "us-east-1", "p5.4xlarge", "on_demand")
	f.gpu(-200, 11, 1)
	f.rows(-180, 120, 11, 1, 500)
	f.rollUp(180)
	first := f.ten - 3*hour
	f.exec("INSERT INTO rollup_progress (ts, built_until, compared_samples, recorded_at) SELECT toDateTime(%d, 'UTC') + 3600 * number AS h, h + 3600, 1, now64(3) FROM numbers(3)", first/second)
	for refused, want := range map[string]string{
		fmt.Sprintf("toDateTime(%d, 'UTC')", (f.ten+hour)/second): "4 of 5",
		"INSERT INTO": "0 of 2",
	} {
		f.exec("TRUNCATE TABLE account_builds")
		b, err := NewBuilder(refusing{f.conn, refused}, f.config(), DefaultSchedule())
		if err != nil {
			t.Fatal(err)
		}
		d, err := b.Pass(t.Context())
		if got := fmt.Sprintf("%d of %d", d.Changed, d.Looked); err == nil || got != want {
			t.Errorf("%s is refused: %s hours are made, want %s: %v", refused, got, want, err)
		}
	}
}

// TestWhoMakesTheRollupsMakesTheAccount, until it has recorded nothing for as long as it may.
func TestWhoMakesTheRollupsMakesTheAccount(t *testing.T) {
	f := newFleet(t)
	f.node(-20, 1, "aws", "us-east-1", "p5.4xlarge", "on_demand")
	f.gpu(-20, 11, 1)
	f.rows(0, 60, 11, 1, 500)
	f.rollUp(180)
	for _, tt := range []struct {
		maker string
		ago   int
		made  bool
	}{{"other", 0, false}, {"me", 0, true}, {"other", 90, true}} {
		f.exec("ALTER TABLE rollup_progress DELETE WHERE collector != '' SETTINGS mutations_sync = 1")
		f.exec("TRUNCATE TABLE account_builds")
		f.exec("INSERT INTO rollup_progress (ts, recorded_at, collector) VALUES (toDateTime(%d, 'UTC'), now64(3) - toIntervalSecond(%d), '%s')", f.ten/second, tt.ago, tt.maker)
		how := DefaultSchedule()
		how.Collector, how.TakeOver = "me", time.Minute
		b, err := NewBuilder(f.conn, f.config(), how)
		if err != nil {
			t.Fatal(err)
		}
		if d, err := b.Pass(t.Context()); err != nil || (d.Changed > 0) != tt.made {
			t.Errorf("%s has recorded %d s ago: %d hours are made: %v", tt.maker, tt.ago, d.Changed, err)
		}
	}
}

func TestCorrectionsMakeAVersion(t *testing.T) {
	f := fourClouds(t)
	f.build()
	if d := f.build(); d.Looked != 0 {
		t.Errorf("nothing came, and %+v", d)
	}
	const node = "SELECT sum(unallocated_milliseconds) / 1000, sum(undelivered_milliseconds) / 1000 FROM fleet_account WHERE node_id = 3"
	f.want("4200	3000", node)
	f.rows(40, 60, 31, 3, 0)
	f.rows(30, 60, 32, 3, 0)
	f.rollUp(65)
	if d := f.build(); d.Changed != 1 {
		t.Errorf("rows came late, and %+v", d)
	}
	f.want("7200	0", node)

	const price = "SELECT DISTINCT price_per_gpu_hour FROM fleet_account WHERE node_id = 2"
	f.want("4.000000007", price)
	f.price(-999, "azure", "one", "reserved", "contracted", "EUR", "3.5", 70)
	if d := f.build(); d.Changed != 1 {
		t.Errorf("a price was corrected, and %+v", d)
	}
	f.want("3.5", price)
	f.want("1	3.5\n0	4.000000007\n0	4.000000007", "SELECT counts, max(price_per_gpu_hour) FROM account_hours AS h INNER JOIN account_versions AS v ON h.ts = v.ts AND h.version = v.version WHERE node_id = 2 GROUP BY v.version, counts ORDER BY v.version DESC")

	f.price(-999, "nobody", "two", "on_demand", "list", "USD", "3.5", 70)
	if d := f.build(); d.Looked != 0 {
		t.Errorf("a price of another machine came, and %+v", d)
	}
	f.gpu(100, 11, 1) // at 11:40: of no matter to the hour, but that it is looked at again
	if d := f.build(); d.Looked != 1 || d.Changed != 0 {
		t.Errorf("an observation came after the hour, and %+v", d)
	}
	f.want("3", "SELECT uniq(version) FROM account_hours")

	// Owners of before yesterday may be gone: what is known of the hour stays, whatever comes.
	f.exec("ALTER TABLE gpu_workload MODIFY TTL toDateTime(ts) + toIntervalDay(2) SETTINGS materialize_ttl_after_modify = 0")
	f.price(-999, "azure", "one", "reserved", "contracted", "EUR", "2", 80)
	if d := f.build(); d.Looked != 0 {
		t.Errorf("rows may have gone, and %+v", d)
	}
	if _, err := Rebuild(t.Context(), f.conn, f.config(), Range{From: timeOf(f.ten), To: timeOf(f.ten + hour)}); !errors.Is(err, errGone) {
		t.Errorf("rebuild: %v", err)
	}
	f.want("3.5", price)
}

// TestCheckFindsAndRebuildMends spoils what is stored in every way.
func TestCheckFindsAndRebuildMends(t *testing.T) {
	f := fourClouds(t)
	if r := f.check(); r.Verdict != Wrong || r.Behind != 1 {
		t.Errorf("before it is made: %+v", r)
	}
	f.build()
	right := f.check()
	if right.Verdict != Right || right.Rows != 16 || right.Hours != 1 || len(right.Identity) != 7 || len(right.Totals) != 3 {
		t.Fatalf("%+v", right)
	}
	for name, tt := range map[string]struct {
		spoil  string
		column string
		broken bool // the identity
	}{
		"a state":            {"ALTER TABLE account_hours UPDATE productive_milliseconds = productive_milliseconds + 1 WHERE node_id = 6 AND gpu_model IS NOT NULL", "productive_milliseconds", true},
		"a part":             {"ALTER TABLE account_hours UPDATE unseen_milliseconds = 7 WHERE node_id = 3", "unseen_milliseconds", false},
		"two that cancel":    {"ALTER TABLE account_hours UPDATE unallocated_milliseconds = unallocated_milliseconds - 1, undelivered_milliseconds = undelivered_milliseconds + 1 WHERE node_id = 3", "undelivered_milliseconds", false},
		"a price":            {"ALTER TABLE account_hours UPDATE price_per_gpu_hour = 3.99 WHERE node_id = 2", "", false},
		"a row that is gone": {"ALTER TABLE account_hours DELETE WHERE node_id = 5", "", false},
		"a row twice":        {"INSERT INTO account_hours SELECT * FROM account_hours WHERE (ts, version) IN (SELECT ts, max(version) FROM account_builds GROUP BY ts) AND node_id = 5 SETTINGS insert_deduplicate = 0", "inventory_milliseconds", false},
		"energy":             {"ALTER TABLE account_hours UPDATE energy_millijoules = NULL WHERE node_id = 6", "energy_millijoules", false},
	} {
		f.exec("%s%s", tt.spoil, map[bool]string{true: " SETTINGS mutations_sync = 1"}[strings.HasPrefix(tt.spoil, "ALTER")])
		r := f.check()
		if r.Verdict != Wrong || !slices.ContainsFunc(r.Differences, func(d Difference) bool { return d.Column == tt.column }) {
			t.Errorf("%s was not found: %+v", name, r)
		}
		if broken := slices.ContainsFunc(r.Identity, func(i Identity) bool { return i.Wrong > 0 }); broken != tt.broken {
			t.Errorf("%s: the identity is broken: %t, %+v", name, broken, r.Identity)
		}
		if d, err := Rebuild(t.Context(), f.conn, f.config(), Range{From: timeOf(f.ten), To: timeOf(f.ten + hour)}); err != nil || d.Changed != 1 {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
	if r := f.check(); r.Verdict != Right {
		t.Errorf("after it was made again: %+v", r)
	}
	if d, err := Rebuild(t.Context(), f.conn, f.config(), Range{From: timeOf(f.ten), To: timeOf(f.ten + hour)}); err != nil || d.Looked != 1 || d.Changed != 0 {
		t.Errorf("what is right was made again: %+v, %v", d, err)
	}
	var line, text strings.Builder
	var back Report
	if err := right.WriteJSON(&line); err != nil || json.Unmarshal([]byte(line.String()), &back) != nil || back.Verdict != Right {
		t.Errorf("%v: %s", err, line.String())
	}
	if err := right.WriteText(&text); err != nil || !strings.Contains(text.String(), "8.000000014 EUR (contracted): 2.00 GPU-hours") || !strings.Contains(text.String(), "the states add up to the inventory") {
		t.Errorf("%v: %s", err, text.String())
	}
}
