// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"fmt"
	"strings"
)

// Rollups keep what many rows of gpu_samples say in one row by GPU and minute, and by GPU and hour. A GPU that changes hands,
// or of which two tenants say that it is theirs, has a row of each: no row is made of samples of two. A row is a
// function of the samples of its window alone, in any order; it carries how many it was made of. Samples are only
// ever added, so of two rows of one window the one with more is the newer one: whoever makes rows, how often and in
// which order does not matter. See docs/adr/011-rollups.md.

// Columns of the rollups that the code addresses by name.
const (
	ColumnRows     = "rows"
	ColumnVersion  = "version"
	ColumnRemoved  = "removed"
	ColumnCoverage = "covered_milliseconds"
)

// RollupScope are the columns that say whose a row is: a row is made of samples that are all theirs.
const RollupScope = ColumnTenant + ", " + ColumnResidency

// VersionRowBits is how many bits of a version are the number of samples; those above count rebuilds.
const VersionRowBits = 40

// sketch is the function whose states the rollups keep: quantiles that are at most 1 % off, in 17 bytes a minute.
const sketch = "quantilesDD(" + sketchLevels + ")"

const sketchLevels = "0.01, 0.5, 0.95, 0.99" // how far off, and which quantiles

// Roll tells what becomes of a metric in the rollups.
type Roll uint8

// The ways to roll up.
const (
	RollGauge Roll = iota // sum and number of its readings, lowest, highest
	RollMean              // sum and number of its readings: each is a mean already
	RollMin               // lowest: each is the lowest of a tick already
	RollMax               // highest
	RollSum               // sum of the increments
	RollMask              // all bits that were set, and in how many readings each was
)

// String says it in words.
func (r Roll) String() string {
	return [...]string{
		RollGauge: "sum and number of the readings, lowest, highest", RollMean: "sum and number of the readings", RollMin: "lowest", RollMax: "highest",
		RollSum: "sum of the increments", RollMask: "bits that were set, and readings with each",
	}[r]
}

// Roll tells how the metric is rolled up. It follows from what the metric is.
func (m Metric) Roll() Roll {
	switch {
	case m.Kind == Counter:
		return RollSum
	case m.Kind == State:
		return RollMask
	case m.Sources[0].Kind != FromRing:
		return RollGauge
	}
	switch m.Sources[0].Combine {
	case Min:
		return RollMin
	case Max:
		return RollMax
	case Mean:
		return RollMean
	default:
		return RollGauge
	}
}

// RollupColumn is a column of a rollup, with what makes it: of samples, and of rows of the finer rollup.
type RollupColumn struct {
	Column
	OfSamples string
	OfRollup  string
}

// Rollup is a table of rollups.
type Rollup struct {
	Table
	Columns []RollupColumn // those of the table after its key, each with what makes it
	Key     []string       // what a row is of, besides its time
	Seconds int64          // of the window of a row
	Window  string         // expression for the beginning of the window, of ts
}

// Rollups lists the rollups, the finest first.
func Rollups() []Rollup { return []Rollup{minuteRollup(), hourRollup()} }

// RollupColumns are the columns that a metric has in the rollups.
func (m Metric) RollupColumns() []RollupColumn {
	c, ok := m.SamplesColumn()
	if !ok {
		return nil
	}
	r := roller{column: c}
	switch m.Roll() {
	case RollSum:
		r.add(c.Name+"_sum", Uint64, "Sum of the increments: "+c.Meaning, "sum(%s)", "sum(%s)")
	case RollMask:
		r.mask()
	case RollMin:
		r.add(c.Name, c.Type, c.Meaning, "min(%s)", "min(%s)")
	case RollMax:
		r.add(c.Name, c.Type, c.Meaning, "max(%s)", "max(%s)")
	case RollMean:
		r.sumAndReadings()
	case RollGauge:
		r.sumAndReadings()
		r.add(c.Name+"_min", c.Type, "Lowest reading: "+c.Meaning, "min(%s)", "min(%s)")
		r.add(c.Name+"_max", c.Type, "Highest reading: "+c.Meaning, "max(%s)", "max(%s)")
	}
	if m.Sketch {
		r.add(c.Name+"_quantiles", Sketch, "Median, 95th and 99th percentile of the readings, to be merged: "+c.Meaning,
			"quantilesDDState("+sketchLevels+")(CAST(%s, 'Nullable(Float64)'))", "quantilesDDMergeState("+sketchLevels+")(%s)")
	}
	return r.columns
}

// roller makes the columns of one metric.
type roller struct {
	column  Column
	columns []RollupColumn
}

// add appends a column. The expressions take the sample's column, and the column itself.
func (r *roller) add(name string, t Type, meaning, ofSamples, ofRollup string) {
	c := Column{Name: name, Type: t, Nullable: t != Sketch, Unit: r.column.Unit, Meaning: meaning}
	r.columns = append(r.columns, RollupColumn{c, fmt.Sprintf(ofSamples, r.column.Name), fmt.Sprintf(ofRollup, name)})
}

func (r *roller) sumAndReadings() {
	c := r.column
	wide := Uint64
	if c.Type == Int8 || c.Type == Int16 || c.Type == Int32 {
		wide = Int64
	}
	r.add(c.Name+"_sum", wide, "Sum of the readings: "+c.Meaning, "sum(%s)", "sum(%s)")
	r.readings(withoutUnit(c)+"_readings", "Readings of "+c.Name+" that are not NULL.", "count("+c.Name+")")
}

// readings is a column that counts.
func (r *roller) readings(name, meaning, ofSamples string) {
	c := Column{Name: name, Type: Uint32, Unit: "{reading}", Meaning: meaning}
	r.columns = append(r.columns, RollupColumn{c, "toUInt32(" + ofSamples + ")", "toUInt32(sum(" + name + "))"})
}

// mask keeps all bits, and counts readings of each.
func (r *roller) mask() {
	c := r.column
	r.add(c.Name+"_any", c.Type, "Bits that were set in any reading: "+c.Meaning, "groupBitOr(%s)", "groupBitOr(%s)")
	r.readings(c.Name+"_readings", "Readings of "+c.Name+" that are not NULL.", "count("+c.Name+")")
	for _, reason := range clockReasons {
		r.readings("clocks_event_"+strings.ReplaceAll(reason.name, " ", "_")+"_readings", fmt.Sprintf("Readings of %s with %s (%#x).", c.Name, reason.name, reason.bit),
			fmt.Sprintf("countIf(bitAnd(%s, %d) != 0)", c.Name, reason.bit))
	}
}

// withoutUnit is the name of a column without the word of its unit.
func withoutUnit(c Column) string {
	for _, word := range []string{"_permille", "_bytes", "_celsius", "_megahertz", "_watts", "_mebibytes_per_second"} {
		if name, ok := strings.CutSuffix(c.Name, word); ok {
			return name
		}
	}
	panic("schema: the unit of " + c.Name + " is not known to the rollups")
}

// rollupColumns are the columns of every rollup, after the key.
func rollupColumns() []RollupColumn {
	samples := samplesTable()
	last := func(name string) RollupColumn {
		c := copied(samples, name, "")
		return RollupColumn{Column{Name: name, Type: Uint64, Meaning: c.Meaning + " That of the last sample."}, "argMax(" + name + ", (ts, epoch, seq))", "argMax(" + name + ", (ts, " + ColumnVersion + "))"}
	}
	columns := []RollupColumn{
		last(ColumnNode),
		{Column{Name: ColumnRows, Type: Uint32, Unit: "{sample}", Meaning: "Samples that the row was made of."}, "toUInt32(count())", "toUInt32(sum(" + ColumnRows + "))"},
		{Column{Name: ColumnCoverage, Type: Uint64, Nullable: true, Unit: "ms", Meaning: "Time that the increments cover: the sum of interval_milliseconds."}, "sum(" + ColumnInterval + ")", "sum(" + ColumnCoverage + ")"},
		{Column{Name: "counter_epoch_min", Type: Uint32, Meaning: "Lowest counter_epoch. Another than the highest: the GPU's counters were reset in this time."}, "min(" + ColumnCounterEpoch + ")", "min(counter_epoch_min)"},
		{Column{Name: "counter_epoch_max", Type: Uint32, Meaning: "Highest counter_epoch."}, "max(" + ColumnCounterEpoch + ")", "max(counter_epoch_max)"},
		{Column{Name: "quality_any", Type: Uint8, Meaning: "Bits of quality that any sample had."}, "groupBitOr(" + ColumnQuality + ")", "groupBitOr(quality_any)"},
	}
	for _, m := range Metrics() {
		columns = append(columns, m.RollupColumns()...)
	}
	return columns
}

func rollup(t Table, seconds int64, window, what string) Rollup {
	r := Rollup{Table: t, Columns: rollupColumns(), Key: []string{ColumnGPU, ColumnTenant, ColumnResidency}, Seconds: seconds, Window: window}
	r.Engine = fmt.Sprintf("ReplacingMergeTree(%s, %s)", ColumnVersion, ColumnRemoved)
	r.Table.Columns = []Column{
		{Name: ColumnTime, Type: TimeSeconds, Meaning: "Beginning of the " + what + ", UTC."},
		gpuColumn(),
		copiedColumn(samplesTable(), ColumnTenant), copiedColumn(samplesTable(), ColumnResidency),
		{Name: ColumnVersion, Type: Uint64, Meaning: "Of several rows of one GPU, tenant, zone and " + what + " the one with the highest counts: read with FINAL. Samples that it was made of, and 2^40 for each rebuild."},
		{Name: ColumnRemoved, Type: Uint8, Meaning: "1 if a rebuild found no samples any more; FINAL leaves it out."},
	}
	for _, c := range r.Columns {
		r.Table.Columns = append(r.Table.Columns, c.Column)
	}
	return r
}

// copiedColumn is a column as a table has it, which nobody stamps any more.
func copiedColumn(t Table, name string) Column {
	c := copied(t, name, "")
	return Column{Name: name, Type: Name, Meaning: c.Meaning}
}

func minuteRollup() Rollup {
	return rollup(Table{
		Name: "gpu_samples_1m", Meaning: "Samples by GPU and minute. Read it with FINAL, or use fleet_minutes, which has the newest minutes too.",
		OrderBy: "(toStartOfHour(ts), gpu_id, ts, " + RollupScope + ")", PrimaryKey: "(toStartOfHour(ts), gpu_id)", PartitionBy: "toDate(ts)", TTLDays: 400, Granularity: 2048,
	}, 60, "toStartOfMinute(ts)", "minute")
}

func hourRollup() Rollup {
	return rollup(Table{
		Name: "gpu_samples_1h", Meaning: "Samples by GPU and hour, made of gpu_samples_1m. Read it with FINAL, or use fleet_hours, which has the newest hours too.",
		OrderBy: "(toStartOfDay(ts), gpu_id, ts, " + RollupScope + ")", PrimaryKey: "(toStartOfDay(ts), gpu_id)", PartitionBy: "toYYYYMM(ts)", TTLDays: 5 * 365, Granularity: 2048,
	}, 3600, "toStartOfHour(ts)", "hour")
}
