// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"fmt"
	"slices"
	"strings"
)

// fleetNowSeconds is how old a row may be to be the state of now.
const fleetNowSeconds = 120

// slowSeconds is how far back fleet_now looks for what agents do not read at every tick: two rounds of the rarest
// reading, and the time until a row arrives.
const slowSeconds = 30

// turnColumns are the columns of gpu_samples that agents read in turns.
var turnColumns = []string{"memory_used_bytes", "temperature_margin_celsius"}

// slowColumns are those that the last row of a GPU may lack: what is read in turns; utilisation and clock where they are
// from the driver's ring, which the last rows of a node that stops do not have; and what earlier agents read in turns.
var slowColumns = []string{"gpu_utilization_permille", "memory_used_bytes", "gpu_temperature_celsius", "temperature_margin_celsius", "sm_clock_megahertz", "clocks_event_reasons"}

// latestRows is each GPU's last row, with the latest readings of what is not read at every tick.
func latestRows() string {
	recent := fmt.Sprintf("ts >= now64(3, 'UTC') - toIntervalSecond(%d)", fleetNowSeconds)
	var replaced, latest []string
	for _, name := range slowColumns {
		replaced = append(replaced, fmt.Sprintf("coalesce(r.%[1]s, l.%[1]s) AS %[1]s", name))
		latest = append(latest, fmt.Sprintf("argMax(%[1]s, ts) AS %[1]s", name))
	}
	return fmt.Sprintf(`(
    SELECT r.* REPLACE (%[2]s)
    FROM (
        SELECT * FROM {gpu_samples}
        WHERE %[1]s AND (gpu_id, ts) IN (SELECT gpu_id, max(ts) FROM {gpu_samples} WHERE %[1]s GROUP BY gpu_id)
    ) AS r
    LEFT ANY JOIN (
        SELECT gpu_id, %[3]s
        FROM (SELECT * FROM {gpu_samples} WHERE ts >= now64(3, 'UTC') - toIntervalSecond(%[4]d))
        GROUP BY gpu_id
    ) AS l ON r.gpu_id = l.gpu_id
) AS s`, recent, strings.Join(replaced, ", "), strings.Join(latest, ", "), slowSeconds)
}

// fleetNowView takes each GPU's last row by its time, found in a first pass over two columns: an argMax
// over every column costs four times as much.
func fleetNowView() View {
	table := samplesTable()
	columns := slices.Concat(
		copiedAll(table, "s", ColumnTime),
		[]ViewColumn{{
			Name: "age_seconds", Type: "Float64", Unit: "s", Meaning: "How long ago the GPU was read.",
			Expression: "dateDiff('millisecond', s.ts, now64(3, 'UTC')) / 1000",
		}},
		copiedAll(table, "s", ColumnGPU, ColumnNode, ColumnTenant, ColumnResidency), nameColumns())
	for _, name := range []string{
		"gpu_utilization_permille", "sm_active_permille", "memory_used_bytes", "gpu_temperature_celsius", "memory_temperature_celsius",
		"temperature_margin_celsius", "power_instant_watts", "power_average_watts", "sm_clock_megahertz", "clocks_event_reasons",
	} {
		columns = append(columns, plain(copied(table, name, "s")))
	}
	columns = append(columns, clockReasonsColumn("s"))
	return View{
		Name: "fleet_now", Columns: columns,
		Meaning: "The last row of each GPU that was read within the last two minutes. What is not in every row (utilisation, memory, temperature, margin, clock reasons) is the latest reading.",
		From:    latestRows() + joinNames("s"),
	}
}

// ingestAuditView counts by distinct sequences: a batch may have several rows in the ledger. Of a life
// that is older than the ledger's rows get, the first batches are no longer there, and not missed.
func ingestAuditView() View {
	utc := TimeMilliseconds.ClickHouseType()
	ledger := LedgerTable()
	columns := slices.Concat(
		copiedAll(ledger, "b", "table_name", ColumnNode),
		[]ViewColumn{copied(nodeInventoryTable(), "node_name", "n").orNull()},
		copiedAll(ledger, "b", ColumnEpoch),
		[]ViewColumn{
			{Name: "agent_started_at", Type: utc, Meaning: "When this life of the agent began: epoch as a time.", Expression: "fromUnixTimestamp64Milli(b.epoch, 'UTC')"},
			{Name: "batches", Type: "UInt64", Meaning: "Batches that reached an end: stored or quarantined.", Expression: "b.batches"},
			{Name: "first_seq", Type: "UInt64", Meaning: "Lowest number of a batch.", Expression: "b.first_seq"},
			{Name: "last_seq", Type: "UInt64", Meaning: "Highest number of a batch.", Expression: "b.last_seq"},
			{
				Name: "missing_batches", Type: "UInt64", Meaning: "Numbers up to the highest that are not in the ledger: batches on their way, or lost. Counted from 1; from first_seq if the life is older than the ledger's rows get.",
				Expression: fmt.Sprintf("b.last_seq - b.batches + 1 - if(fromUnixTimestamp64Milli(b.epoch, 'UTC') < now() - toIntervalDay(%d), b.first_seq, 1)", ledger.TTLDays),
			},
			{Name: "quarantined_batches", Type: "UInt64", Meaning: "Batches that can never be stored.", Expression: "b.quarantined_batches"},
			{Name: "stored_rows", Type: "UInt64", Meaning: "Rows of the stored batches, as the ledger has them. gpufleet audit compares them with the rows in the table.", Expression: "b.stored_rows"},
			{Name: "first_recorded_at", Type: utc, Meaning: "When the first of these batches was recorded.", Expression: "b.first_recorded_at"},
			{Name: "last_recorded_at", Type: utc, Meaning: "When the last of these batches was recorded.", Expression: "b.last_recorded_at"},
		})
	return View{
		Name: "ingest_audit", Columns: columns,
		Meaning: "Per table and life of an agent: batches that arrived, and numbers that are missing between them.",
		From: `(
    SELECT table_name, node_id, epoch, count() AS batches, min(seq) AS first_seq, max(seq) AS last_seq, countIf(NOT stored) AS quarantined_batches,
        sumIf(batch_rows, stored) AS stored_rows, min(recorded_first) AS first_recorded_at, max(recorded_last) AS last_recorded_at
    FROM (
        SELECT table_name, node_id, epoch, seq, max(state = 'stored') AS stored, toUInt64(max(rows)) AS batch_rows,
            min(recorded_at) AS recorded_first, max(recorded_at) AS recorded_last
        FROM {ingest_ledger}
        GROUP BY table_name, node_id, epoch, seq
    )
    GROUP BY table_name, node_id, epoch
) AS b
LEFT ANY JOIN (SELECT ` + nullableList(nodeInventoryTable(), ColumnNode, []string{"node_name"}) + ` FROM {node_current} FINAL) AS n ON b.node_id = n.node_id`,
	}
}
