// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"flag"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/loadgen"
	"github.com/gpufleet/gpufleet/agent/sim"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/schema"
)

var (
	codecNodes   = flag.Int("codec-nodes", 4, "simulated nodes whose readings TestCodecs stores")
	codecSeconds = flag.Int("codec-seconds", 120, "seconds of readings of each")
)

// codecKinds are the columns of gpu_samples whose codec is not that of their type.
var codecKinds = []struct {
	name string
	of   func(c schema.Column) bool
}{
	{"seq", func(c schema.Column) bool { return c.Name == schema.ColumnSequence }},
	{"bytes over NVLink", func(c schema.Column) bool { return strings.HasPrefix(c.Name, "nvlink_") }},
	{"throttled time", func(c schema.Column) bool { return strings.HasPrefix(c.Name, "throttle_") }},
	{"cycles", func(c schema.Column) bool { return strings.HasSuffix(c.Name, "_cycles_delta") }},
	{"utilisation", func(c schema.Column) bool { return c.Codec() == "GCD, ZSTD(1)" }},
	{"temperatures", func(c schema.Column) bool { return c.Unit == "Cel" }},
	{"clocks", func(c schema.Column) bool { return c.Unit == "MHz" }},
	{"all others", func(schema.Column) bool { return true }},
}

// codecByType is what a column would have if its type alone chose.
func codecByType(c schema.Column) string {
	switch {
	case c.Type == schema.Uint16 || c.Type == schema.Uint32 || c.Type == schema.Int16 || c.Type == schema.Int32:
		return "T64, ZSTD(1)"
	case c.Type != schema.Uint64 && c.Type != schema.Int64 || c.Counter:
		return c.Codec()
	case c.Stamped || c.Name == schema.ColumnGPU || strings.HasSuffix(c.Name, "_used_bytes"):
		return "Delta, ZSTD(1)"
	default:
		return "T64, ZSTD(1)"
	}
}

// TestCodecs holds the codecs that are chosen by how readings change against those that the types alone would choose: the
// same rows of a simulated fleet take less. It shows by how much, by kind of column; the figures of schema/DESIGN.md are of
//
//	go test ./internal/e2e -run TestCodecs -v -args -codec-nodes 64 -codec-seconds 600
func TestCodecs(t *testing.T) {
	db := clickhousetest.Start(t)
	address, stop := startCollector(t, collectorConfig(t, db.Writer))
	storeSimulated(t, address, *codecNodes, *codecSeconds)
	stop()
	table, _ := schema.TableByID(schema.SamplesID)
	var byType []string
	for _, c := range table.Columns {
		byType = append(byType, fmt.Sprintf("MODIFY COLUMN %s CODEC(%s)", c.Name, codecByType(c)))
	}
	clickhousetest.Exec(t, db.Writer, "CREATE TABLE chosen AS gpu_samples")
	clickhousetest.Exec(t, db.Writer, "CREATE TABLE by_type AS gpu_samples")
	clickhousetest.Exec(t, db.Writer, "ALTER TABLE by_type "+strings.Join(byType, ", "))
	chosen, typed := codecBytes(t, db.Writer, "chosen"), codecBytes(t, db.Writer, "by_type")
	var all, allTyped float64
	for i, kind := range codecKinds {
		var bytes, bytesTyped, columns float64
		for _, c := range table.Columns {
			if kindOf(c) == i {
				bytes, bytesTyped, columns = bytes+chosen[c.Name], bytesTyped+typed[c.Name], columns+1
			}
		}
		t.Logf("%-18s %2.0f columns, bytes a value: %.3f by type, %.3f chosen", kind.name, columns, bytesTyped/columns, bytes/columns)
		all, allTyped = all+bytes, allTyped+bytesTyped
	}
	t.Logf("bytes a row: %.1f by type, %.1f chosen", allTyped, all)
	if all >= allTyped {
		t.Errorf("%.1f bytes a row as chosen, %.1f by type", all, allTyped)
	}
}

// kindOf is the first kind that a column is of.
func kindOf(c schema.Column) int {
	for i, kind := range codecKinds {
		if kind.of(c) {
			return i
		}
	}
	return len(codecKinds) - 1
}

// codecBytes fills a copy of gpu_samples, merged, and tells what each of its columns takes by row.
func codecBytes(t *testing.T, db embedded.Endpoint, table string) map[string]float64 {
	t.Helper()
	clickhousetest.Exec(t, db, "ALTER TABLE "+table+" MODIFY SETTING min_bytes_for_wide_part = 0") // only such parts tell of columns
	clickhousetest.Exec(t, db, "INSERT INTO "+table+" SELECT * FROM gpu_samples")
	clickhousetest.Exec(t, db, "OPTIMIZE TABLE "+table+" FINAL")
	bytes := make(map[string]float64)
	answer := clickhousetest.Query(t, db, "SELECT column, sum(column_bytes_on_disk) / sum(rows) FROM system.parts_columns WHERE active AND database = currentDatabase() AND table = '"+table+"' GROUP BY column")
	for line := range strings.Lines(answer) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), "\t")
		value, err := strconv.ParseFloat(text, 64)
		if err != nil || value == 0 {
			t.Fatalf("size of column %q: %v", line, err)
		}
		bytes[name] = value
	}
	return bytes
}

// storeSimulated has a collector store what simulated nodes read, up to a minute ago.
func storeSimulated(t *testing.T, collector string, nodes, seconds int) {
	t.Helper()
	clock := loadgen.NewClock(time.Now().Add(-time.Duration(seconds)*time.Second - time.Minute).Truncate(10 * time.Second))
	fleet, err := sim.NewFleet(sim.FleetConfig{Nodes: nodes, Seed: 1, Clock: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	drivers := make(map[string]gpu.Driver)
	for _, n := range fleet.Nodes() {
		drivers[n.Name()] = n.Driver()
	}
	loads, err := loadgen.Make(drivers, clock, seconds, 10*time.Second, false)
	if err != nil {
		t.Fatal(err)
	}
	var sending errgroup.Group
	for _, l := range loads {
		sending.Go(func() error { return l.Send(t.Context(), collector, "") })
	}
	if err := sending.Wait(); err != nil {
		t.Fatal(err)
	}
}
