// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"fmt"
	"slices"
	"strings"
)

func nodeIntervalsView() View {
	return intervalsView("node_intervals", nodeInventoryTable(), ColumnNode, []string{"content_hash"},
		"What each node was, from when to when: one row per stretch of time in which nothing changed.")
}

func gpuIntervalsView() View {
	return intervalsView("gpu_intervals", gpuInventoryTable(), ColumnGPU, []string{"content_hash", ColumnNode},
		"What each GPU was and in which node it sat, from when to when: one row per stretch of time in which nothing changed.")
}

// intervalsView makes intervals of observations. An observation begins one if its facts differ from those
// of the observation before it; the interval ends where the next begins.
func intervalsView(name string, table Table, key string, facts []string, meaning string) View {
	utc := TimeMilliseconds.ClickHouseType()
	columns := []ViewColumn{
		copied(table, key, "i"),
		{Name: "valid_from", Type: utc, Meaning: "First observation of these facts.", Expression: "i.valid_from"},
		{
			Name: "valid_to", Type: "Nullable(" + utc + ")", Meaning: "First observation of other facts; NULL while these hold.",
			Expression: "nullIf(leadInFrame(i.valid_from) OVER (PARTITION BY i." + key + " ORDER BY i.valid_from ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING), toDateTime64(0, 3, 'UTC'))",
		},
		{Name: "last_seen", Type: utc, Meaning: "Last observation of these facts.", Expression: "i.last_seen"},
	}
	var picked []string
	for _, c := range table.Columns {
		if slices.Contains([]string{ColumnTime, key, ColumnEpoch, ColumnSequence, "content_hash"}, c.Name) {
			continue
		}
		columns = append(columns, plain(copied(table, c.Name, "i")))
		picked = append(picked, c.Name)
	}
	changes := make([]string, len(facts))
	for i, fact := range facts {
		changes[i] = fmt.Sprintf("%s != lagInFrame(%[1]s) OVER observed", fact)
	}
	anyOf := make([]string, len(picked))
	for i, column := range picked {
		anyOf[i] = fmt.Sprintf("any(o.%s) AS %[1]s", column)
	}
	// Rows of one stretch carry the same number. Facts that are not NULL in one are not NULL in the others.
	from := fmt.Sprintf(`(
    SELECT o.%[1]s AS %[1]s, min(o.ts) AS valid_from, max(o.ts) AS last_seen, %[2]s
    FROM (
        SELECT *, sum(changed) OVER (PARTITION BY %[1]s ORDER BY ts, epoch, seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS stretch
        FROM (
            SELECT *, row_number() OVER observed = 1 OR %[3]s AS changed
            FROM {%[4]s}
            WINDOW observed AS (PARTITION BY %[1]s ORDER BY ts, epoch, seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
        )
    ) AS o
    GROUP BY o.%[1]s, o.stretch
) AS i`, key, strings.Join(anyOf, ", "), strings.Join(changes, " OR "), table.Name)
	return View{Name: name, Meaning: meaning, Columns: columns, From: from}
}

func lastSeen(alias string) ViewColumn {
	return ViewColumn{
		Name: "last_seen", Type: TimeMilliseconds.ClickHouseType(), Expression: alias + "." + ColumnTime,
		Meaning: "Last observation: at least once an hour while the agent runs. Whether it runs is in fleet_now.",
	}
}

// fleetNodesView is public knowledge of a node, as of now.
func fleetNodesView() View {
	table := nodeInventoryTable()
	columns := []ViewColumn{
		copied(table, ColumnNode, "n"), copied(table, "node_name", "n"), lastSeen("n"),
		{
			Name: "agent_started_at", Type: TimeMilliseconds.ClickHouseType(), Expression: "fromUnixTimestamp64Milli(n.epoch, 'UTC')",
			Meaning: "When the agent started that saw it last.",
		},
	}
	for _, c := range table.Columns {
		if known := slices.ContainsFunc(columns, func(v ViewColumn) bool { return v.Name == c.Name }); !known && !isBookkeeping(c) {
			columns = append(columns, copied(table, c.Name, "n"))
		}
	}
	return View{
		Name: "fleet_nodes", Columns: columns, From: "{node_current} AS n FINAL",
		Meaning: "Every node that was ever seen, as it was seen last. Which GPUs give no rows now is in fleet_silent.",
	}
}

// isBookkeeping tells whether a column is of no use to those who read.
func isBookkeeping(c Column) bool {
	return c.Stamped || slices.Contains([]string{ColumnTime, "content_hash", ColumnCounterEpoch, ColumnQuality}, c.Name)
}

// gpuNodeFacts are what fleet_gpus tells of a GPU's node.
var gpuNodeFacts = slices.Concat(nodeNames, []string{"life_cycle", "cluster", "rack", "reading_source"})

func fleetGPUsView() View {
	table := gpuInventoryTable()
	columns := []ViewColumn{copied(table, ColumnGPU, "g"), copied(table, "gpu_uuid", "g"), copied(table, ColumnNode, "g")}
	for _, c := range copiedAll(nodeInventoryTable(), "n", gpuNodeFacts...) {
		columns = append(columns, c.orNull())
	}
	columns = append(columns, lastSeen("g"))
	for _, c := range table.Columns {
		if known := slices.ContainsFunc(columns, func(v ViewColumn) bool { return v.Name == c.Name }); !known && !isBookkeeping(c) {
			columns = append(columns, plain(copied(table, c.Name, "g")))
		}
	}
	return View{
		Name: "fleet_gpus", Columns: columns,
		Meaning: "Every GPU and MIG instance that was ever seen, as it was seen last, with its node, its cloud and its limits.",
		From: "{gpu_current} AS g FINAL\nLEFT ANY JOIN (SELECT " +
			nullableList(nodeInventoryTable(), ColumnNode, gpuNodeFacts) +
			" FROM {node_current} FINAL) AS n ON g.node_id = n.node_id",
	}
}
