// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"fmt"
	"strings"
)

// The last observation of each GPU and node has a table of its own. To take it from the inventory when a
// panel is drawn is a scan over every hour of every GPU: 20 times slower after two weeks, and worse with
// each that follows. See docs/adr/003-clickhouse-schema.md.

func gpuCurrentTable() Table {
	t := gpuInventoryTable()
	t.ID, t.Name, t.OrderBy, t.PartitionBy, t.Engine = 0, "gpu_current", ColumnGPU, "tuple()", "ReplacingMergeTree("+ColumnTime+")"
	t.Meaning = "The last row of gpu_inventory for each GPU or MIG instance. Read it with FINAL, or use fleet_gpus."
	return t
}

func nodeCurrentTable() Table {
	t := nodeInventoryTable()
	t.ID, t.Name, t.OrderBy, t.PartitionBy, t.Engine = 0, "node_current", ColumnNode, "tuple()", "ReplacingMergeTree("+ColumnTime+")"
	t.Meaning = "The last row of node_inventory for each node. Read it with FINAL, or use fleet_nodes."
	return t
}

// Feed is a materialized view that copies each row inserted into one table to another, within the same
// insert.
type Feed struct {
	Name     string
	Meaning  string
	From, To Table // To has the columns of From
}

// Feeds lists the feeds.
func Feeds() []Feed {
	return []Feed{
		{"gpu_current_feed", "Fills gpu_current.", gpuInventoryTable(), gpuCurrentTable()},
		{"node_current_feed", "Fills node_current.", nodeInventoryTable(), nodeCurrentTable()},
	}
}

// WrittenRows is what ClickHouse reports as written_rows for an insert of so many rows into the table:
// those of its feeds are counted too.
func (t Table) WrittenRows(rows int64) int64 {
	written := rows
	for _, f := range Feeds() {
		if f.From.Name == t.Name {
			written += rows
		}
	}
	return written
}

// CreateFeed is the statement that makes the feed; it does nothing where it exists.
func (f Feed) CreateFeed(database string) string {
	return fmt.Sprintf("CREATE MATERIALIZED VIEW IF NOT EXISTS %s.%s TO %s.%s\nAS %s\nCOMMENT %s", quoteName(database), quoteName(f.Name),
		quoteName(database), quoteName(f.To.Name), f.query(database), quoteText(f.Meaning))
}

// ModifyFeed is the statement that gives a feed of an earlier version the columns of this one.
func (f Feed) ModifyFeed(database string) string {
	return fmt.Sprintf("ALTER TABLE %s.%s MODIFY QUERY %s", quoteName(database), quoteName(f.Name), f.query(database))
}

func (f Feed) query(database string) string {
	return fmt.Sprintf("SELECT %s FROM %s.%s", strings.Join(f.From.quotedNames(), ", "), quoteName(database), quoteName(f.From.Name))
}
