// SPDX-License-Identifier: Apache-2.0

package schema_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/internal/synthetic"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// These benchmarks are behind docs/adr/003-clickhouse-schema.md, which names the commands. What they
// store is synthetic, shaped like eight H100s of a training job per node.

const (
	layoutGPUs    = 500
	layoutSeconds = 60
)

// layout is a way to store what a fleet reads.
type layout struct {
	name   string
	tables []schema.Table
	every  []int // seconds between the rows of a table
}

func table(b testing.TB, id uint8) schema.Table {
	b.Helper()
	t, ok := schema.TableByID(id)
	if !ok {
		b.Fatalf("no table has id %d", id)
	}
	return t
}

// reshaped is a table under another name with other columns.
func reshaped(t schema.Table, name string, columns []schema.Column) schema.Table {
	return schema.Table{Name: name, Columns: columns, OrderBy: t.OrderBy, PrimaryKey: t.PrimaryKey, PartitionBy: t.PartitionBy, Granularity: t.Granularity}
}

// layouts are what the record weighs: a second and a minute table, and one table of everything.
func layouts(b testing.TB) []layout {
	b.Helper()
	samples, health := table(b, schema.SamplesID), table(b, schema.HealthID)
	everything := slices.Clone(samples.Columns)
	for _, c := range health.Columns {
		if !slices.ContainsFunc(everything, func(e schema.Column) bool { return e.Name == c.Name }) {
			everything = append(everything, c)
		}
	}
	totals := slices.Clone(samples.Columns)
	for _, m := range schema.Metrics() {
		if m.Kind == schema.Counter && m.Tier == schema.TierSecond {
			totals = append(totals, m.HealthColumns()...)
		}
	}
	return []layout{
		{"second-and-minute", []schema.Table{samples, health}, []int{1, 60}},
		{"one-table", []schema.Table{reshaped(samples, "everything", everything)}, []int{1}},
		{"totals-each-second", []schema.Table{reshaped(samples, "with_totals", totals), health}, []int{1, 60}},
	}
}

// BenchmarkLayoutStore inserts a minute of 500 GPUs per iteration, and reports per GPU and second what
// it costs ClickHouse and what stays on disk after merges.
func BenchmarkLayoutStore(b *testing.B) {
	for _, l := range layouts(b) {
		b.Run(l.name, func(b *testing.B) {
			f := newFleet(b)
			for _, t := range l.tables {
				f.exec(b, t.CreateTable(f.Name))
				f.exec(b, "SYSTEM STOP MERGES "+t.Name)
			}
			fleet := synthetic.NewFleet(1, layoutGPUs, time.Now().Add(-time.Hour).UnixMilli())
			before := f.cpuMicroseconds(b)
			for b.Loop() {
				for i, t := range l.tables {
					b.StopTimer()
					record := fleet.Record(t.Columns, layoutSeconds/l.every[i], float64(l.every[i]))
					b.StartTimer()
					if err := f.insert(b, t, record); err != nil {
						b.Fatal(err)
					}
					record.Release()
				}
			}
			seconds := float64(b.N * layoutGPUs * layoutSeconds)
			b.ReportMetric(seconds/b.Elapsed().Seconds(), "GPU-s/s")
			b.ReportMetric(float64(f.cpuMicroseconds(b)-before)/seconds, "cpu-us/GPU-s")
			disk := int64(0)
			for _, t := range l.tables {
				disk += f.diskBytes(b, t.Name)
			}
			b.ReportMetric(float64(disk)/seconds, "disk-B/GPU-s")
		})
	}
}

// cpuMicroseconds is what the server has used so far, merges included.
func (f fleet) cpuMicroseconds(b testing.TB) int64 {
	b.Helper()
	return f.number(b, "SELECT sum(value) FROM system.events WHERE event IN ('UserTimeMicroseconds', 'SystemTimeMicroseconds')")
}

// diskBytes merges a table into one part per partition and weighs it.
func (f fleet) diskBytes(b testing.TB, name string) int64 {
	b.Helper()
	f.exec(b, "SYSTEM START MERGES "+name)
	f.exec(b, "OPTIMIZE TABLE "+name+" FINAL")
	return f.number(b, "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = '"+f.Name+"' AND table = '"+name+"'")
}

func (f fleet) number(b testing.TB, sql string) int64 {
	b.Helper()
	answer, err := f.Writer.Ask(b.Context(), sql)
	if err != nil {
		b.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(answer), 10, 64)
	if err != nil {
		b.Fatalf("%s: %v", sql, err)
	}
	return n
}

// BenchmarkLayoutWire encodes what an agent of eight GPUs sends in ten seconds, and reports bytes per
// GPU and second.
func BenchmarkLayoutWire(b *testing.B) {
	samples := table(b, schema.SamplesID)
	claimed := slices.Clone(samples.Columns) // identity sent by the agent in place of stamped by the collector
	for i := range claimed {
		claimed[i].Stamped = false
	}
	all := append(layouts(b), layout{"identity-in-columns", []schema.Table{reshaped(samples, "claimed", claimed)}, []int{1}})
	for _, l := range all {
		b.Run(l.name, func(b *testing.B) {
			encoder, err := wire.NewEncoder()
			if err != nil {
				b.Fatal(err)
			}
			fleet := synthetic.NewFleet(1, 8, 1_790_000_000_000)
			records := make([]arrow.RecordBatch, len(l.tables))
			for i, t := range l.tables {
				records[i] = fleet.Record(t.WireColumns(), max(1, 10/l.every[i]), float64(l.every[i]))
			}
			var perSecond float64
			for b.Loop() {
				perSecond = 0
				for i, record := range records {
					batch, err := encoder.Encode(record, wire.Identity{Table: 1, Node: 1, Epoch: 1, Sequence: 1})
					if err != nil {
						b.Fatal(err)
					}
					perSecond += float64(batch.Bytes()) / float64(record.NumRows()) / float64(l.every[i])
				}
			}
			b.ReportMetric(perSecond, "wire-B/GPU-s")
		})
	}
}

// BenchmarkLayoutEncodings stores gpu_samples once, copies it into variants, and reports disk bytes per
// row of each.
func BenchmarkLayoutEncodings(b *testing.B) {
	f := newFleet(b)
	samples := table(b, schema.SamplesID)
	fleet := synthetic.NewFleet(1, layoutGPUs, time.Now().Add(-time.Hour).UnixMilli())
	for range 10 {
		record := fleet.Record(samples.Columns, layoutSeconds, 1)
		if err := f.insert(b, samples, record); err != nil {
			b.Fatal(err)
		}
		record.Release()
	}
	rows := f.number(b, "SELECT count() FROM gpu_samples")
	for _, v := range variants(samples) {
		b.Run(v.name, func(b *testing.B) {
			for b.Loop() {
				f.exec(b, "DROP TABLE IF EXISTS variant SYNC")
				f.exec(b, v.create)
				f.exec(b, "INSERT INTO variant SELECT "+v.columns+" FROM gpu_samples")
				b.ReportMetric(float64(f.diskBytes(b, "variant"))/float64(rows), "disk-B/row")
			}
		})
	}
}

type variant struct{ name, create, columns string }

// variants change one decision at a time.
func variants(samples schema.Table) []variant {
	create := reshaped(samples, "variant", samples.Columns).CreateTable("gpufleet")
	create = strings.Replace(create, "`gpufleet`.", "", 1)
	chosen := variant{"chosen", create, "*"}
	key := func(name, order string) variant {
		return variant{name, strings.Replace(create, "ORDER BY "+samples.OrderBy+"\nPRIMARY KEY "+samples.PrimaryKey, "ORDER BY "+order, 1), "*"}
	}
	lz4, floats, doubled := chosen, chosen, chosen
	lz4.name, floats.name, doubled.name = "all-LZ4", "ratios-Float32-Gorilla", "increments-DoubleDelta"
	var ratios []string
	lines := strings.Split(create, "\n")
	for i, line := range lines {
		if strings.HasSuffix(strings.Fields(line + " x")[0], "_permille`") {
			name := strings.Fields(line)[0]
			ratios = append(ratios, fmt.Sprintf("(%s + randCanonical(%d)) / 1000 AS %[1]s", name, i))
			line = strings.Replace(line, "UInt16", "Float32", 1)
			line = line[:strings.LastIndex(line, " CODEC(")] + " CODEC(Gorilla, ZSTD(1)),"
		}
		lines[i] = line
	}
	floats.create, floats.columns = strings.Join(lines, "\n"), "* REPLACE ("+strings.Join(ratios, ", ")+")"
	lz4.create = strings.NewReplacer("CODEC(T64, ZSTD(1))", "CODEC(LZ4)", "CODEC(Delta, ZSTD(1))", "CODEC(LZ4)", "CODEC(ZSTD(1))", "CODEC(LZ4)").Replace(create)
	doubled.create = strings.ReplaceAll(create, "CODEC(T64, ZSTD(1))", "CODEC(DoubleDelta, ZSTD(1))")
	return []variant{chosen, lz4, floats, doubled, key("key-hour-gpu-ts", samples.OrderBy), key("key-gpu-ts", "(gpu_id, ts)"), key("key-ts-gpu", "(ts, gpu_id)")}
}
