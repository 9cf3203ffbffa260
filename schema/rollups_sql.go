// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"context"
	"fmt"
	"strings"
)

// RollupProgressTable is where those who make rollups note how far they came. It is a hint, and no more: what is
// missing in it is looked at again.
func RollupProgressTable() Table {
	return Table{
		Name: "rollup_progress",
		Columns: []Column{
			{Name: ColumnTime, Type: TimeSeconds, Meaning: "Hour, UTC."},
			{Name: ColumnBuiltUntil, Type: TimeSeconds, Meaning: "All of the hour before this is in gpu_samples_1m; if it is the hour's end, the hour is in gpu_samples_1h, too."},
			{Name: ColumnGeneration, Type: Uint32, Meaning: "How often the hour had been rebuilt. What was compared before a rebuild says nothing of the rows that it made."},
			{Name: ColumnCompared, Type: Uint64, Unit: "{sample}", Meaning: "Samples that the hour had when its rollups were compared with them; 0 if they were not. If it has more now, the others came late and are rolled up next."},
			{Name: "recorded_at", Type: TimeMilliseconds, Meaning: "When it was recorded, by the clock of ClickHouse."},
			{Name: "collector", Type: Name, Meaning: "Who recorded it; empty: a rebuild by hand."},
		},
		Meaning: "How far the rollups are, by hour: several rows each, of which the highest values count. Use rollup_status.",
		OrderBy: "(ts, recorded_at)", PartitionBy: "toYYYYMM(ts)", TTLDays: 400, Granularity: 1024,
	}
}

// Columns of the progress that the code addresses by name.
const (
	ColumnBuiltUntil = "built_until"
	ColumnGeneration = "generation"
	ColumnCompared   = "compared_samples"
)

// beginRollups records of a shard that nothing is rolled up, unless something is recorded already: one that was never heard
// of would be passed over where views ask until when all shards have rollups (RollupBoundary), and its older samples be in
// neither half.
func (l Layout) beginRollups(ctx context.Context, db Execer) error {
	table := QuoteName(l.Database) + "." + QuoteName(RollupProgressTable().Name)
	var found []struct {
		Records uint64 `ch:"records"`
	}
	if err := db.Select(ctx, &found, "SELECT count() AS records FROM "+table); err != nil {
		return fmt.Errorf("ask whether database %s has rollups: %w", l.Database, err)
	}
	if len(found) == 1 && found[0].Records > 0 {
		return nil
	}
	if err := db.Exec(ctx, fmt.Sprintf("INSERT INTO %s (%s, %s, recorded_at) SELECT toStartOfHour(now('UTC')), toDateTime(0, 'UTC'), now64(3)", table, ColumnTime, ColumnBuiltUntil)); err != nil {
		return fmt.Errorf("record that database %s has no rollups yet: %w", l.Database, err)
	}
	return nil
}

// RollupSource is what rows of a rollup are made of.
type RollupSource struct {
	From       string // a table, a view or a query in parentheses
	Where      string
	Generation string // of the rows that are made: 0, then one more with each rebuild
	Finer      bool   // it has rows of the finer rollup, and not samples
}

// Names lists the columns of the rollup in the order in which Query gives them.
func (r Rollup) Names() string { return strings.Join(r.quotedNames(), ", ") }

// Query makes rows of the rollup. Its columns have no names: of most of them the name is one that it reads.
func (r Rollup) Query(s RollupSource) string {
	rows := "count()"
	if s.Finer {
		rows = "sum(" + ColumnRows + ")"
	}
	key := strings.Join(r.Key, ", ")
	columns := []string{"rolled", key, fmt.Sprintf("toUInt64(%s + bitShiftLeft(toUInt64(%s), %d))", rows, s.Generation, VersionRowBits), "toUInt8(0)"}
	for _, c := range r.Columns {
		if s.Finer {
			columns = append(columns, c.OfRollup)
		} else {
			columns = append(columns, c.OfSamples)
		}
	}
	return fmt.Sprintf("SELECT %s\nFROM %s\nWHERE %s\nGROUP BY %s AS rolled, %s", strings.Join(columns, ", "), s.From, s.Where, r.Window, key)
}
