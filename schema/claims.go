// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"fmt"
	"strings"
	"time"
)

// ClaimsTable says which process of a collector may store the batches of an agent's life in a table. A row says two
// things, and neither is ever taken back: that a process has claimed the life, and that an earlier claim of it is over.
// What is over is first in the key: every insert looks for its own claims there, and mostly finds none.
func ClaimsTable() Table {
	return Table{
		Name: "collector_claims",
		Columns: []Column{
			{Name: "claimed_at", Type: TimeMilliseconds, Meaning: "When the claim was made or renewed, by the clock of ClickHouse."},
			{Name: "over_instance", Type: Uint64, Meaning: "Process whose claim is over from now on: its inserts of this life land no more. 0: nobody had one."},
			{Name: "over_tenure", Type: Uint32, Meaning: "Which of that process's claims."},
			{Name: "table_name", Type: Name, Meaning: "Table that the batches are for."},
			{Name: ColumnNode, Type: Uint64, Meaning: "Node that sends them."},
			{Name: ColumnEpoch, Type: Uint64, Meaning: "Life of the agent that sends them."},
			{Name: "instance", Type: Uint64, Meaning: "Process that claims them: a number drawn at its start."},
			{Name: "tenure", Type: Uint32, Meaning: "Counts that process's claims of this life, from 1 on: it has another one each time that the agent comes back."},
			{Name: "collector", Type: Name, Meaning: "Name of the collector."},
		},
		Meaning: "Which collector stores the batches of which agent: one row per claim, and per claim that it ends.",
		OrderBy: "(over_instance, table_name, over_tenure, node_id, epoch)", PartitionBy: "toYYYYMM(claimed_at)", TTLDays: 60, Granularity: 1024,
		Synced: true,
	}
}

// CollectorLease is how long a process of a collector that says nothing counts as one that runs. It says so three times as
// often.
const CollectorLease = 15 * time.Second

// CollectorsTable has a row for each process of a collector, which renews it as long as it runs.
func CollectorsTable() Table {
	return Table{
		Name: "collectors",
		Columns: []Column{
			{Name: "seen_at", Type: TimeMilliseconds, Meaning: "When the process last said that it runs, by the clock of ClickHouse."},
			{Name: "collector", Type: Name, Meaning: "Name of the collector."},
			{Name: "instance", Type: Uint64, Meaning: "The process: a number drawn at its start."},
			{Name: "started_at", Type: TimeMilliseconds, Meaning: "When it started, by the clock of ClickHouse."},
			{Name: "host", Type: Text, Meaning: "Host name and process id."},
			{Name: "ended", Type: Uint8, Meaning: "1 once it has ended in order."},
		},
		Meaning: fmt.Sprintf("The processes of the collectors: one runs that was seen within the last %.0f s and has not ended.", CollectorLease.Seconds()),
		OrderBy: "(collector, instance)", PartitionBy: "tuple()", TTLDays: 60, Granularity: 1024, Engine: "ReplacingMergeTree(seen_at)",
	}
}

// FencedInsertStatement is InsertStatement for rows that come as a body in the format, with a condition that is looked at
// while they are inserted: if it holds for one of them, the insert fails with the message and no row lands.
func (t Table) FencedInsertStatement(database, unless, message, format string) string {
	structure := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		structure[i] = QuoteName(c.Name) + " " + c.ClickHouseType()
	}
	return fmt.Sprintf("%s SELECT %s FROM input(%s) WHERE NOT throwIf(%s, %s) FORMAT %s",
		t.InsertStatement(database), strings.Join(t.quotedNames(), ", "), QuoteText(strings.Join(structure, ", ")), unless, QuoteText(message), format)
}
