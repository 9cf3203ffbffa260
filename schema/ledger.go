// SPDX-License-Identifier: Apache-2.0

package schema

// States of a batch in the ledger.
const (
	LedgerStored      = "stored"      // its rows are in their table, counted
	LedgerQuarantined = "quarantined" // it can never be stored; the collector keeps its bytes and the reason
)

// LedgerTable holds one row per batch that reached an end: the basis of the audit, and what a
// collector asks when an agent comes back. A batch may have several rows; they say the same.
func LedgerTable() Table {
	return Table{
		Name: "ingest_ledger",
		Columns: []Column{
			{Name: "recorded_at", Type: TimeMilliseconds, Meaning: "When the collector recorded it."},
			{Name: "table_name", Type: Name, Meaning: "Table that the batch is for."},
			{Name: ColumnNode, Type: Uint64, Meaning: "Node that sent it."},
			{Name: ColumnEpoch, Type: Uint64, Meaning: "Life of the agent that sent it."},
			{Name: ColumnSequence, Type: Uint64, Meaning: "Number of the batch within table, node and epoch, from 1 on without gaps."},
			{Name: "rows", Type: Uint32, Meaning: "Rows in the batch."},
			{Name: "state", Type: Name, Meaning: "What became of it: stored or quarantined."},
			{Name: "reason", Type: Text, Meaning: "Why it was quarantined; empty if stored."},
			{Name: "unit", Type: Text, Meaning: "Insert that the batch was part of: its ClickHouse query id."},
			{Name: "collector", Type: Name, Meaning: "Collector that recorded it."},
		},
		Meaning: "One row per batch that was stored or quarantined, with its identity. Count distinct (table_name, node_id, epoch, seq).",
		OrderBy: "(table_name, node_id, epoch, seq)", PartitionBy: "toDate(recorded_at)", TTLDays: 30, Granularity: 1024,
	}
}

// StoredTables lists every table of the database that is not a view: those that agents push, those that
// feeds fill, those that operators fill, and what the collector keeps for itself.
func StoredTables() []Table {
	return append(Tables(), minuteRollup().Table, hourRollup().Table, RollupProgressTable(), AccountHoursTable(), AccountBuildsTable(), gpuCurrentTable(), nodeCurrentTable(), PricesTable(), PriceQuarantineTable(), PriceReadsTable(), BillsTable(), BillImportsTable(), BillQuarantineTable(), LedgerTable(), SequencesTable(), ClaimsTable(), CollectorsTable(), versionTable())
}

func versionTable() Table {
	return Table{
		Name: "schema_versions",
		Columns: []Column{
			{Name: "version", Type: Uint32, Meaning: "Version of the schema: see schema.Version."},
			{Name: "applied_at", Type: TimeMilliseconds, Meaning: "When it was applied."},
			{Name: "applied_by", Type: Name, Meaning: "Program and version that applied it."},
			{Name: "fingerprint", Type: Text, Meaning: "SHA-256 over the statements that make tables and views."},
		},
		Meaning: "Versions of this schema that were applied to the database, by time.",
		OrderBy: "(version, applied_at)", PartitionBy: "tuple()", Granularity: 1024,
	}
}
