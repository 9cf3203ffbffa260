// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"fmt"
	"slices"
	"strings"
)

// The rollups end where those who make them have come to. What is newer the views make of samples, as they are read:
// of each row they take one or the other, by one boundary, which is read once.

// RollupBoundary is until when the rollups are complete; of a cluster, those of every shard: one that has none yet has
// recorded that (beginRollups). It is all that views read of
// rollup_progress, whose other columns tell how many rows there are.
const RollupBoundary = "(SELECT min(until) FROM (SELECT max(" + ColumnBuiltUntil + ") AS until FROM {rollup_progress} GROUP BY shardNum()))"

// madeOf says which of the two a row is.
const (
	madeOfRollup  = "rollup"
	madeOfSamples = "samples"
)

// minutesUntilNow are the rows of the minute rollup, and of what is newer, from a time on.
func minutesUntilNow(from string) string {
	r := minuteRollup()
	since := ""
	if from != "" {
		since = " AND ts >= " + from
	}
	return fmt.Sprintf("SELECT %[1]s, '%[2]s' AS made_of FROM {%[3]s} FINAL WHERE ts < %[4]s%[5]s\nUNION ALL\nSELECT *, '%[6]s' FROM (%[7]s)",
		r.Names(), madeOfRollup, r.Name, RollupBoundary, since, madeOfSamples,
		r.Query(RollupSource{From: "{gpu_samples}", Where: "ts >= toDateTime64(" + RollupBoundary + ", 3, 'UTC')", Generation: "0"}))
}

func hoursUntilNow() string {
	r := hourRollup()
	return fmt.Sprintf("SELECT %[1]s, '%[2]s' AS made_of FROM {%[3]s} FINAL WHERE ts < toStartOfHour(%[4]s)\nUNION ALL\nSELECT *, '%[5]s' FROM (%[6]s)",
		r.Names(), madeOfRollup, r.Name, RollupBoundary, madeOfSamples,
		r.Query(RollupSource{From: "(" + minutesUntilNow("toStartOfHour("+RollupBoundary+")") + ")", Where: "true", Generation: "0", Finer: true}))
}

func fleetMinutesView() View {
	return View{
		Name: "fleet_minutes", Columns: rollupReadings("minute"), From: "(\n" + minutesUntilNow("") + "\n) AS s" + joinNames("s"),
		Meaning: "What each GPU did in each minute, with names and in plain units. An average over several rows is that of x_avg weighted by its readings, never of the averages alone; quantiles are of one row, and merged from gpu_samples_1m. Give a range of ts. Names are those of today.",
	}
}

func fleetHoursView() View {
	return View{
		Name: "fleet_hours", Columns: rollupReadings("hour"), From: "(\n" + hoursUntilNow() + "\n) AS s" + joinNames("s"),
		Meaning: "What each GPU did in each hour, with names and in plain units: see fleet_minutes. The newest hour is not over.",
	}
}

// rollupReadings are the columns of a view of rollups.
func rollupReadings(window string) []ViewColumn {
	r := minuteRollup()
	stored := func(name string) ViewColumn { return copied(r.Table, name, "s") }
	when := stored(ColumnTime)
	when.Meaning = "Beginning of the " + window + ", UTC."
	samples := stored(ColumnRows)
	samples.Name = "samples"
	resets := ViewColumn{Name: "counters_reset", Type: "UInt8", Meaning: "1 if the GPU's counters were reset in this time. Increments take care of it.", Expression: "s.counter_epoch_min != s.counter_epoch_max"}
	columns := slices.Concat([]ViewColumn{when, copied(r.Table, ColumnGPU, "s"), stored(ColumnNode), stored(ColumnTenant), stored(ColumnResidency)}, nameColumns(), []ViewColumn{
		{Name: "made_of", Type: "String", Meaning: "Where the row comes from: rollup, or samples if it is too new to be rolled up, and may grow.", Expression: "s.made_of"},
		samples, plain(stored(ColumnCoverage)), resets, stored("quality_any"),
	})
	for _, m := range Metrics() {
		columns = append(columns, m.rollupReadings(r)...)
	}
	return columns
}

// rollupReadings are the columns of a metric in a view of rollups.
func (m Metric) rollupReadings(r Rollup) []ViewColumn {
	c, ok := m.SamplesColumn()
	if !ok {
		return nil
	}
	meaning := func(what string) string { return what + ": " + c.Meaning }
	stored := func(name, as, what string) ViewColumn {
		v := plain(copied(r.Table, name, "s"))
		v.Name, v.Meaning = strings.Replace(v.Name, strings.TrimSuffix(name, c.Name), "", 1), plainText(meaning(what))
		if as != "" {
			v.Name = as
		}
		return v
	}
	name := plain(copied(samplesTable(), c.Name, "")).Name
	readings := withoutUnitIf(m, c) + "_readings"
	var columns []ViewColumn
	switch m.Roll() {
	case RollSum:
		return []ViewColumn{stored(c.Name+"_sum", strings.TrimSuffix(name, "_delta"), "Sum of the increments")}
	case RollMask:
		return maskReadings(r, c)
	case RollMin, RollMax:
		return []ViewColumn{plain(copied(r.Table, c.Name, "s"))}
	case RollMean:
		return []ViewColumn{average(c, readings, name, meaning), copied(r.Table, readings, "s")}
	case RollGauge:
		columns = append(columns, average(c, readings, name+"_avg", meaning), stored(c.Name+"_min", name+"_min", "Lowest reading"),
			stored(c.Name+"_max", name+"_max", "Highest reading"), copied(r.Table, readings, "s"))
	}
	if m.Sketch {
		columns = append(columns, quantiles(c, readings, name, meaning)...)
	}
	return columns
}

// withoutUnitIf is the name by which the readings of a column are counted; a mask has its own.
func withoutUnitIf(m Metric, c Column) string {
	if m.Roll() == RollSum || m.Roll() == RollMask {
		return c.Name
	}
	return withoutUnit(c)
}

// average is the sum of the readings by their number.
func average(c Column, readings, name string, meaning func(string) string) ViewColumn {
	v := plain(ViewColumn{Name: c.Name, Type: "Nullable(Float64)", Unit: c.Unit, Meaning: meaning("Average of the readings"), Expression: fmt.Sprintf("s.%s_sum / s.%s", c.Name, readings)})
	v.Name, v.Type = name, "Nullable(Float64)"
	return v
}

// quantiles are those that the sketch is kept for.
func quantiles(c Column, readings, name string, meaning func(string) string) []ViewColumn {
	var columns []ViewColumn
	for i, q := range []struct{ suffix, what string }{{"_p50", "Median of the readings, at most 1 % off"}, {"_p95", "95th percentile of the readings, at most 1 % off"}, {"_p99", "99th percentile of the readings, at most 1 % off"}} {
		v := plain(ViewColumn{
			Name: c.Name, Type: "Nullable(Float64)", Unit: c.Unit, Meaning: meaning(q.what),
			Expression: fmt.Sprintf("if(s.%s = 0, NULL, finalizeAggregation(s.%s_quantiles)[%d])", readings, c.Name, i+1),
		})
		v.Name, v.Type = name+q.suffix, "Nullable(Float64)"
		columns = append(columns, v)
	}
	return columns
}

// maskReadings are the reasons of the clocks: which there were, and for how long each.
func maskReadings(r Rollup, c Column) []ViewColumn {
	any := copied(r.Table, c.Name+"_any", "s")
	columns := []ViewColumn{any, copied(r.Table, c.Name+"_readings", "s")}
	for _, reason := range clockReasons {
		name := "clocks_event_" + strings.ReplaceAll(reason.name, " ", "_")
		columns = append(columns, ViewColumn{
			Name: name + "_seconds", Type: "Nullable(Float64)", Unit: "s",
			Meaning:    fmt.Sprintf("Time with %s: its share of the readings of %s, of the time that the row covers. Exact times are those of throttle_*.", reason.name, c.Name),
			Expression: fmt.Sprintf("if(s.%[1]s_readings = 0, NULL, s.%[2]s_readings / s.%[1]s_readings * s.%[3]s / 1000)", c.Name, name, ColumnCoverage),
		})
	}
	return columns
}

// rollupStatusView chooses nothing: it tells how far each hour is rolled up.
func rollupStatusView() View {
	progress := RollupProgressTable()
	return View{
		Name: "rollup_status", Meaning: "How far the rollups are, by hour and, on a cluster, by shard. fleet_minutes takes gpu_samples_1m before the highest built_until, of a cluster the lowest of the shards' highest, and samples from there on; fleet_hours takes gpu_samples_1h before its hour.",
		Columns: []ViewColumn{
			copied(progress, ColumnTime, "p"),
			{Name: "shard", Type: "UInt32", Meaning: "Of a cluster, from 1 on; 0: there is one server.", Expression: "p.shard"},
			copied(progress, ColumnBuiltUntil, "p"),
			{Name: "complete", Type: "UInt8", Meaning: "1 if all of the hour is in gpu_samples_1m and in gpu_samples_1h.", Expression: "p.built_until = p.ts + 3600"},
			copied(progress, ColumnCompared, "p"),
			{Name: "last_recorded_at", Type: TimeMilliseconds.ClickHouseType(), Meaning: "When it was last recorded.", Expression: "p.last_recorded_at"},
			copied(progress, "collector", "p"),
		},
		From: `(
    SELECT ts, toUInt32(shardNum()) AS shard, max(p.built_until) AS built_until, argMax(p.compared_samples, (p.generation, p.compared_samples)) AS compared_samples,
        max(p.recorded_at) AS last_recorded_at, argMax(p.collector, p.recorded_at) AS collector
    FROM {rollup_progress} AS p GROUP BY ts, shard HAVING built_until > toDateTime(0, 'UTC')
) AS p`,
	}
}
