// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"fmt"
	"slices"
)

// ReconciledUnit stands in the ledger in place of an insert's query id where a collector found rows of which the ledger
// knew nothing, on its start or when an agent came from another collector: whose insert it was is not known.
const ReconciledUnit = "reconciled"

// collectorShift is how far above a batch's number the collector stands in stored_by. No agent lives to number more.
const collectorShift = 40

// SequencesTable is the ledger by the hour: the numbers of the batches that reached an end, as sets. A day of 100,000 GPUs
// is 235 million rows of the ledger and 1.2 million of these (BenchmarkCount of internal/audit). A set takes a number once
// however often it comes, so an insert that is tried again, a replay and a second filling leave it as it is.
func SequencesTable() Table {
	ledger := LedgerTable()
	named := func(name string) Column {
		return ledger.Columns[slices.IndexFunc(ledger.Columns, func(c Column) bool { return c.Name == name })]
	}
	set := func(name, meaning string) Column {
		return Column{Name: name, Type: Uint64, State: "groupBitmap", Meaning: meaning}
	}
	return Table{
		Name: "ingest_sequences",
		Columns: []Column{
			{Name: "hour", Type: TimeMilliseconds, Meaning: "Hour in which the collector recorded the batches."},
			named("table_name"), named(ColumnNode), named(ColumnEpoch),
			set("ended", "Numbers of the batches that were stored or quarantined."),
			set("stored", "Numbers of those that were stored."),
			set("stored_by", fmt.Sprintf("Numbers of those that were stored by an insert that is known, each with 24 bits of the hash of its collector's name above bit %d: a batch that two collectors stored is in it twice.", collectorShift)),
		},
		Meaning: "The ledger by the hour: which batches of a life of an agent were recorded in it. Read it with groupBitmapMerge, or use ingest_hours.",
		OrderBy: "(table_name, node_id, epoch, hour)", PartitionBy: "toDate(hour)", TTLDays: ledger.TTLDays, Granularity: 1024,
		Engine: "AggregatingMergeTree",
	}
}

func sequencesFeed() Feed {
	return Feed{
		Name: "ingest_sequences_feed", Meaning: "Fills ingest_sequences.", From: LedgerTable(), To: SequencesTable(),
		Expressions: []string{
			"toDateTime64(toStartOfHour(l.recorded_at), 3, 'UTC')", "l.table_name", "l.node_id", "l.epoch",
			"groupBitmapState(l.seq)",
			fmt.Sprintf("groupBitmapStateIf(l.seq, l.state = '%s')", LedgerStored),
			fmt.Sprintf("groupBitmapStateIf(toUInt64(bitOr(bitShiftLeft(bitAnd(cityHash64(l.collector), 0xFFFFFF), %[1]d), bitAnd(l.seq, bitShiftLeft(toUInt64(1), %[1]d) - 1))), l.state = '%[2]s' AND l.unit != '%[3]s')",
				collectorShift, LedgerStored, ReconciledUnit),
		},
		GroupBy: "hour, table_name, node_id, epoch",
	}
}

func ingestHoursView() View {
	sequences := SequencesTable()
	columns := slices.Concat(
		copiedAll(sequences, "b", "hour", "table_name", ColumnNode),
		[]ViewColumn{copied(nodeInventoryTable(), "node_name", "n").orNull()},
		copiedAll(sequences, "b", ColumnEpoch),
		[]ViewColumn{
			{Name: "batches", Type: "UInt64", Meaning: "Batches that were recorded in the hour: stored or quarantined.", Expression: "b.batches"},
			{Name: "stored_batches", Type: "UInt64", Meaning: "Batches that were recorded in the hour as stored.", Expression: "b.stored_batches"},
			{Name: "first_seq", Type: "UInt64", Meaning: "Lowest number of a batch that was recorded in the hour.", Expression: "b.first_seq"},
			{Name: "last_seq", Type: "UInt64", Meaning: "Highest number of a batch that was recorded in the hour.", Expression: "b.last_seq"},
		})
	return View{
		Name: "ingest_hours", Columns: columns,
		Meaning: "Per hour, table and life of an agent: batches that were recorded in it. gpufleet audit --by hour finds what is missing between them.",
		From: `(
    SELECT hour, table_name, node_id, epoch, groupBitmapMerge(ended) AS batches, groupBitmapMerge(stored) AS stored_batches,
        bitmapMin(groupBitmapMergeState(ended)) AS first_seq, bitmapMax(groupBitmapMergeState(ended)) AS last_seq
    FROM {ingest_sequences}
    GROUP BY hour, table_name, node_id, epoch
) AS b
LEFT ANY JOIN (SELECT ` + nullableList(nodeInventoryTable(), ColumnNode, []string{"node_name"}) + ` FROM {node_current} FINAL) AS n ON b.node_id = n.node_id`,
	}
}
