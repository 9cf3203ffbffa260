// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"fmt"
	"strings"
)

// The last observation of each GPU and node has a table of its own. To take it from the inventory when a
// panel is drawn is a scan over every hour of every GPU: 20 times slower after two weeks, and worse with
// each that follows. See docs/adr/003-clickhouse-schema.md.
//
// Tenant and zone are in the key: what one tenant says of a GPU that is another's stands beside what that one says, and
// not in its place. Views take the latest of those rows that their reader may see (Layout.from).

// ofScope are the columns that follow the GPU or node in the key.
const ofScope = ", " + ColumnTenant + ", " + ColumnResidency + ")"

func gpuCurrentTable() Table {
	t := gpuInventoryTable()
	t.ID, t.Name, t.OrderBy, t.PartitionBy, t.Engine = 0, "gpu_current", "("+ColumnGPU+ofScope, "tuple()", "ReplacingMergeTree("+ColumnTime+")"
	t.PrimaryKey = ColumnGPU
	t.Meaning = "The last row of gpu_inventory for each GPU or MIG instance, by tenant and zone. Use fleet_gpus, or read it with FINAL."
	return t
}

func nodeCurrentTable() Table {
	t := nodeInventoryTable()
	t.ID, t.Name, t.OrderBy, t.PartitionBy, t.Engine = 0, "node_current", "("+ColumnNode+ofScope, "tuple()", "ReplacingMergeTree("+ColumnTime+")"
	t.PrimaryKey = ColumnNode
	t.Meaning = "The last row of node_inventory for each node, by tenant and zone. Use fleet_nodes, or read it with FINAL."
	return t
}

// Feed is a materialized view that brings what is inserted into one table to another, within the same
// insert.
type Feed struct {
	Name     string
	Meaning  string
	From, To Table
	// Expressions are what each column of To is made of, and GroupBy by what rows are gathered. Without them each row is
	// copied: To has the columns of From. Rows that come twice leave a gathered row as it is: so it may be filled again at
	// any time.
	Expressions []string
	GroupBy     string
}

// Copies tells that each row of From becomes one of To.
func (f Feed) Copies() bool { return f.GroupBy == "" }

// Feeds lists the feeds.
func Feeds() []Feed {
	return []Feed{
		{Name: "gpu_current_feed", Meaning: "Fills gpu_current.", From: gpuInventoryTable(), To: gpuCurrentTable()},
		{Name: "node_current_feed", Meaning: "Fills node_current.", From: nodeInventoryTable(), To: nodeCurrentTable()},
		sequencesFeed(),
	}
}

// WrittenRows is what ClickHouse reports as written_rows for an insert of so many rows into the table:
// those of its feeds are counted too. Of feeds that gather rows, as that of the ledger, it knows nothing.
func (t Table) WrittenRows(rows int64) int64 {
	written := rows
	for _, f := range Feeds() {
		if f.Copies() && f.From.Name == t.Name {
			written += rows
		}
	}
	return written
}

// CreateFeed is the statement that makes the feed; it does nothing where it exists.
func (f Feed) CreateFeed(database string) string {
	return fmt.Sprintf("CREATE MATERIALIZED VIEW IF NOT EXISTS %s.%s TO %s.%s\nAS %s\nCOMMENT %s", QuoteName(database), QuoteName(f.Name),
		QuoteName(database), QuoteName(f.To.Name), f.query(database), QuoteText(f.Meaning))
}

// ModifyFeed is the statement that gives a feed of an earlier version the columns of this one.
func (f Feed) ModifyFeed(database string) string {
	return fmt.Sprintf("ALTER TABLE %s.%s MODIFY QUERY %s", QuoteName(database), QuoteName(f.Name), f.query(database))
}

// Fill is the statement that fills To with what is in From already; "" of a feed that copies, which would double it.
func (f Feed) Fill(database string) string {
	if f.Copies() {
		return ""
	}
	return fmt.Sprintf("INSERT INTO %s.%s (%s) %s", QuoteName(database), QuoteName(f.To.Name), strings.Join(f.To.quotedNames(), ", "), f.query(database))
}

func (f Feed) query(database string) string {
	from := QuoteName(database) + "." + QuoteName(f.From.Name)
	if f.Copies() {
		return fmt.Sprintf("SELECT %s FROM %s", strings.Join(f.From.quotedNames(), ", "), from)
	}
	columns := make([]string, len(f.Expressions))
	for i, e := range f.Expressions {
		columns[i] = e + " AS " + QuoteName(f.To.Columns[i].Name)
	}
	return fmt.Sprintf("SELECT %s FROM %s AS l GROUP BY %s", strings.Join(columns, ", "), from, f.GroupBy)
}
