// SPDX-License-Identifier: Apache-2.0

package account

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
)

func TestMain(m *testing.M) { clickhousetest.Main(m) }

// fleet is a database with what an account is made of, in the hour from 10 to 11 of a day some days ago.
type fleet struct {
	testing.TB
	db   clickhousetest.Database
	conn Conn
	ten  int64 // milliseconds
	seq  int
}

func newFleet(t testing.TB) *fleet {
	t.Helper()
	db := clickhousetest.Start(t)
	conn := clickhousetest.OpenUncompiled(t, db.Writer)
	if err := schema.Migrate(t.Context(), conn, db.Name, "test"); err != nil {
		t.Fatal(err)
	}
	return &fleet{TB: t, db: db, conn: conn, ten: floor(time.Now().UnixMilli(), 24*hour) - 3*24*hour + 10*hour}
}

func (f *fleet) exec(format string, args ...any) {
	f.Helper()
	clickhousetest.Exec(f, f.db.Writer, fmt.Sprintf(format, args...))
}

func (f *fleet) want(want, format string, args ...any) {
	f.Helper()
	got := clickhousetest.Query(f, f.db.Writer, fmt.Sprintf(format, args...))
	if diff := cmp.Diff(strings.TrimSpace(strings.ReplaceAll(want, "\t\t", "\t")), got); diff != "" {
		f.Errorf("%.300s (-want +got):\n%s", fmt.Sprintf(format, args...), diff)
	}
}

// at is a minute of the hour, as SQL has it; those before it are negative.
func (f *fleet) at(minutes float64) string {
	return at(f.ten + int64(minutes*float64(minute)))
}

// node says where a node is, from a minute on.
func (f *fleet) node(minutes float64, node int, provider, region, instance, lifeCycle string) {
	f.Helper()
	f.seq++
	f.exec("INSERT INTO node_inventory (ts, node_id, epoch, seq, tenant, residency, content_hash, node_name, reading_source, provider, region, zone_id, instance_type, life_cycle, cluster, boot_id) VALUES (%s, %d, 1, %d, 'acme', 'eu', %d, 'node-%[2]d', 'nvml', '%[5]s', '%[6]s', '%[6]s-1', '%[7]s', '%[8]s', 'c', 'boot 1')",
		f.at(minutes), node, f.seq, f.seq, provider, region, instance, lifeCycle)
}

// gpu says that a node has a GPU, from a minute on.
func (f *fleet) gpu(minutes float64, gpu, node int) {
	f.Helper()
	f.seq++
	f.exec("INSERT INTO gpu_inventory (ts, gpu_id, node_id, epoch, seq, tenant, residency, content_hash, gpu_uuid, model) VALUES (%s, %d, %d, 1, %d, 'acme', 'eu', %[4]d, 'GPU-%[2]d', 'NVIDIA H100 80GB HBM3')",
		f.at(minutes), gpu, node, f.seq)
}

// rows gives a GPU rows from a minute to another, one a second, in which a kernel ran for so many per mille of the time. Each
// takes 700 joules.
func (f *fleet) rows(from, to, gpu, node, permille int) {
	f.Helper()
	f.seq++
	f.exec(`INSERT INTO gpu_samples (ts, gpu_id, node_id, epoch, seq, tenant, residency, interval_milliseconds, gpu_utilization_permille, energy_millijoules_delta)
SELECT %s + toIntervalSecond(number), %d, %d, 1, %d, 'acme', 'eu', 1000, %d, 700000 FROM numbers(%d)`, f.at(float64(from)), gpu, node, f.seq, permille, (to-from)*60)
}

// owner gives a GPU to a deployment of a team from a minute to another; team "" is nobody.
func (f *fleet) owner(from, to float64, gpu int, team, deployment string, shared int) {
	f.Helper()
	f.seq++
	kind, reason := "kubernetes", "NULL"
	if team == "" {
		kind, reason = "none", "'free'"
	}
	f.exec("INSERT INTO gpu_workload (ts, gpu_id, node_id, epoch, seq, tenant, residency, assignment_id, valid_from, valid_to, owner_kind, reason, shared, team, deployment, workload_model) VALUES (%s, %d, 1, 1, %d, 'acme', 'eu', %[3]d, %[4]s, %[1]s, '%[5]s', %[6]s, %[7]d, nullIf('%[8]s', ''), nullIf('%[9]s', ''), nullIf('%[9]s', ''))",
		f.at(to), gpu, f.seq, f.at(from), kind, reason, shared, team, deployment)
}

// event happens to a GPU, or with 0 to all of a node.
func (f *fleet) event(minutes float64, kind string, gpu, node int, severity string) {
	f.Helper()
	f.seq++
	f.exec("INSERT INTO gpu_events (ts, node_id, epoch, seq, tenant, residency, gpu_id, kind, source, message, fault_id, severity, class) VALUES (%s, %d, 1, %d, 'acme', 'eu', nullIf(%d, 0), '%s', 'nvml', '', if('%[6]s' = '', NULL, %[3]d), nullIf('%[6]s', ''), 'memory')",
		f.at(minutes), node, f.seq, gpu, kind, severity)
}

// price holds from a minute on for one type of machine of a provider.
func (f *fleet) price(minutes float64, provider, instance, lifeCycle, basis, currency, perGPU string, read float64) {
	f.Helper()
	f.exec("INSERT INTO prices (provider, instance_type, region, zone_id, life_cycle, basis, currency, valid_from, price_per_hour, price_per_gpu_hour, gpus, gpu_model, source, read_at, catalogue_version) VALUES ('%s', '%s', '', '', '%s', '%s', '%s', %s, %s, %[7]s, 1, 'H100', 'test', %[8]s, 1)",
		provider, instance, lifeCycle, basis, currency, f.at(minutes), perGPU, f.at(read))
}

// rollUp makes the rollups of all samples, and says that they have come to a minute.
func (f *fleet) rollUp(until int) {
	f.Helper()
	from := "gpu_samples"
	for i, r := range schema.Rollups() {
		f.exec("INSERT INTO %s (%s) %s", r.Name, r.Names(), r.Query(schema.RollupSource{From: from, Where: "true", Generation: "0", Finer: i > 0}))
		from = r.Name + " FINAL"
	}
	f.exec("INSERT INTO rollup_progress (ts, built_until, compared_samples, recorded_at) SELECT toDateTime(%d, 'UTC') + 3600 * number AS h, least(h + 3600, toDateTime(%[2]d, 'UTC')), (SELECT count() FROM gpu_samples), now64(3) FROM numbers(24) WHERE h < toDateTime(%[2]d, 'UTC')",
		f.ten/second, f.ten/second+int64(until)*60)
}

// build brings the account up to date, and says how many hours say something new.
func (f *fleet) build() Done {
	f.Helper()
	b, err := NewBuilder(f.conn, f.config(), DefaultSchedule())
	if err != nil {
		f.Fatal(err)
	}
	d, err := b.Pass(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	return d
}

func (f *fleet) config() Config {
	cfg := DefaultConfig()
	cfg.Database, cfg.By = f.db.Name, "test"
	return cfg
}

// check proves the hour.
func (f *fleet) check() Report {
	f.Helper()
	r, err := Check(f.Context(), f.conn, f.config(), Range{From: timeOf(f.ten), To: timeOf(f.ten + hour)})
	if err != nil {
		f.Fatal(err)
	}
	return r
}
