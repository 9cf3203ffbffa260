// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"fmt"
	"slices"
	"strings"
)

// A GPU that says nothing is found by what is expected, and not by rows that are missing alone: what was there is in
// the inventory, and why it is gone often in the events.

const (
	// silentSeconds is after how long without a row a GPU is silent: longer than a batch and its insert take.
	silentSeconds = 30
	// silentForeignSeconds is the same where another program pushes readings at its own pace: two scrapes of a minute,
	// and the time that they take.
	silentForeignSeconds = 150
	// expectedDays is how long a GPU is expected after its agent last saw it.
	expectedDays = 7
)

// silenceEvents are the events that say why a GPU gives no rows, or that what was said before is over. They concern a
// GPU, or its node.
var silenceEvents = []struct{ kind, reason string }{
	{"gpu_lost", "gpu lost"},
	{"gpu_stuck", "gpu stuck"},
	{"gpu_unbound", "gpu unbound"},
	{"driver_missing", "driver missing"},
	{"driver_released", "driver released"},
	{"agent_stopped", "agent stopped"},
	{"gpu_recovered", ""},
	{"driver_recovered", ""},
	{"driver_resumed", ""},
	{"agent_started", ""},
}

func fleetSilentView() View {
	var kinds, reasons, words []string
	for _, e := range silenceEvents {
		kinds, reasons = append(kinds, QuoteText(e.kind)), append(reasons, QuoteText(e.reason))
		if e.reason != "" {
			words = append(words, e.reason)
		}
	}
	utc := TimeMilliseconds.ClickHouseType()
	columns := slices.Concat(
		copiedAll(gpuInventoryTable(), "g", ColumnGPU, ColumnNode, "gpu_uuid", "gpu_index", "model", "parent_gpu_uuid"),
		nullables(copiedAll(nodeInventoryTable(), "n", nodeNames...)),
		[]ViewColumn{
			lastSeen("g"),
			{
				Name: "reason", Type: "String", Expression: "multiIf(e.reason != '', e.reason, a.node_id != 0, 'gpu not listed', 'agent silent')",
				Meaning: "Why it gives no rows: " + strings.Join(words, ", ") + ", as its last event says. If none says it: gpu not listed, where other GPUs of its node give rows; else agent silent: the node, its network or the collector.",
			},
			{Name: "silent_since", Type: "Nullable(" + utc + ")", Expression: "if(e.reason = '', NULL, e.at)", Meaning: "When the event was; NULL if none says it."},
		})
	return View{
		Name: "fleet_silent", Columns: columns,
		Meaning: fmt.Sprintf("GPUs that were seen in the last %d days and gave no row in the last %d s (%d s where another program pushes readings), with the reason if one is known. Empty if all is well: what was removed on purpose is not in it.", expectedDays, silentSeconds, silentForeignSeconds),
		From: fmt.Sprintf(`(
    SELECT * FROM {gpu_current} FINAL
    WHERE ts >= now64(3) - toIntervalDay(%[1]d) AND removed IS NULL AND gpu_id NOT IN (SELECT gpu_id FROM {gpu_samples} WHERE ts >= now64(3) - toIntervalSecond(%[2]d))
        AND gpu_id NOT IN (SELECT gpu_id FROM {gpu_samples} WHERE ts >= now64(3) - toIntervalSecond(%[6]d) AND gpu_id IN (
            SELECT gpu_id FROM {gpu_current} FINAL WHERE node_id IN (SELECT node_id FROM {node_current} FINAL WHERE reading_source IN ('otlp', 'prometheus'))))
) AS g
LEFT ANY JOIN (SELECT DISTINCT node_id FROM {gpu_samples} WHERE ts >= now64(3) - toIntervalSecond(%[2]d)) AS a ON g.node_id = a.node_id
LEFT ANY JOIN (SELECT %[3]s FROM {node_current} FINAL) AS n ON g.node_id = n.node_id
LEFT ANY JOIN (
    SELECT k.node_id AS node_id, k.gpu_id AS gpu_id, argMax(transform(v.kind, [%[4]s], [%[5]s], ''), v.ts) AS reason, max(v.ts) AS at
    FROM (SELECT gpu_id, node_id, epoch FROM {gpu_current} FINAL) AS k
    INNER JOIN (SELECT ts, node_id, gpu_id, epoch, kind FROM {gpu_events} WHERE ts >= now64(3) - toIntervalDay(%[1]d) AND kind IN (%[4]s)) AS v ON k.node_id = v.node_id
    WHERE (v.gpu_id IS NULL OR v.gpu_id = k.gpu_id) AND v.epoch >= k.epoch
    GROUP BY k.node_id, k.gpu_id
) AS e ON g.gpu_id = e.gpu_id AND g.node_id = e.node_id`,
			expectedDays, silentSeconds, nullableList(nodeInventoryTable(), ColumnNode, nodeNames), strings.Join(kinds, ", "), strings.Join(reasons, ", "), silentForeignSeconds),
	}
}

func nullables(columns []ViewColumn) []ViewColumn {
	for i := range columns {
		columns[i] = columns[i].orNull()
	}
	return columns
}
