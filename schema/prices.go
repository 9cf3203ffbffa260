// SPDX-License-Identifier: Apache-2.0

package schema

import "strings"

// Prices are rows that begin at a time: none is ever overwritten, so that what was computed with an old one can be
// computed again. A correction is a later row of the same key and beginning; see fleet_prices.

// priceKey is what has one price at a time.
var priceKey = []string{"provider", "instance_type", "region", "zone_id", "life_cycle", "basis", "currency"}

func priceKeyColumns() []Column {
	return []Column{
		{Name: "provider", Type: Name, Meaning: "Who rents the machine out, as in node_inventory: aws, azure, gcp, oci."},
		{Name: "instance_type", Type: Name, Meaning: "Type of machine, as the provider writes it."},
		{Name: "region", Type: Name, Meaning: "Region; empty: every region."},
		{Name: "zone_id", Type: Name, Meaning: "Zone, by its id and not its name; empty: every zone of the region."},
		{Name: "life_cycle", Type: Name, Meaning: "How it is rented: on_demand, spot, reserved, capacity_block, owned."},
		{Name: "basis", Type: Name, Meaning: "Which price it is: list (what everybody pays), contracted (a private price), effective (amortised, as on a bill), billed (as invoiced)."},
		{Name: "currency", Type: Name, Meaning: "Currency, as ISO 4217 has it."},
	}
}

// PricesTable holds the prices that were checked and can be used.
func PricesTable() Table {
	return Table{
		Name: "prices",
		Columns: append(priceKeyColumns(),
			Column{Name: "valid_from", Type: TimeMilliseconds, Meaning: "First moment at which the price holds."},
			Column{Name: "valid_to", Type: TimeMilliseconds, Nullable: true, Meaning: "First moment at which it no longer holds, if the source tells; NULL: until another begins."},
			Column{Name: "price_per_hour", Type: Decimal, Meaning: "Price of the whole machine for an hour, in the currency."},
			Column{Name: "price_per_gpu_hour", Type: Decimal, Meaning: "The same by its GPUs: all that the machine costs, and not what a feed calls the GPU's share."},
			Column{Name: "gpus", Type: Uint16, Meaning: "GPUs of the machine, by the catalogue."},
			Column{Name: "gpu_model", Type: Name, Meaning: "Model of its GPUs, by the catalogue."},
			Column{Name: "source", Type: Text, Meaning: "File or address that it was read from."},
			Column{Name: "source_line", Type: Uint32, Nullable: true, Meaning: "Line, or number of the item, in the source."},
			Column{Name: "read_at", Type: TimeMilliseconds, Meaning: "When it was read. Of two rows that begin at one time the later read one counts."},
			Column{Name: "catalogue_version", Type: Uint32, Meaning: "Version of the catalogue that says what the machine has."},
		),
		Meaning: "Prices of machines with GPUs, as they were read and checked. Append only: use fleet_prices for what holds when.",
		OrderBy: "(" + strings.Join(priceKey, ", ") + ", valid_from, read_at)", PartitionBy: "tuple()", Granularity: 1024,
	}
}

// PriceQuarantineTable holds the prices that were not believed.
func PriceQuarantineTable() Table {
	columns := priceKeyColumns()
	for i := range columns {
		columns[i].Meaning = strings.TrimSuffix(columns[i].Meaning, ".") + "; as the source has it."
	}
	return Table{
		Name: "price_quarantine",
		Columns: append(append([]Column{{Name: "read_at", Type: TimeMilliseconds, Meaning: "When it was read."}}, columns...),
			Column{Name: "valid_from", Type: TimeMilliseconds, Nullable: true, Meaning: "When it would begin; NULL if the source does not tell."},
			Column{Name: "price_per_hour", Type: Decimal, Nullable: true, Meaning: "Price of the whole machine for an hour; NULL if there is none, or it is no number."},
			Column{Name: "reasons", Type: Text, Meaning: "Why it is not used, by name, with commas between: see docs/prices.md."},
			Column{Name: "detail", Type: Text, Meaning: "The same in words, with the figures."},
			Column{Name: "source", Type: Text, Meaning: "File or address that it was read from."},
			Column{Name: "source_line", Type: Uint32, Nullable: true, Meaning: "Line, or number of the item, in the source."},
		),
		Meaning: "Prices that were read and not believed, with what speaks against each. They are never used.",
		OrderBy: "(read_at, provider, instance_type)", PartitionBy: "toYYYYMM(read_at)", TTLDays: 400, Granularity: 1024,
	}
}

// fleetPricesView makes intervals: a price ends where its source says, or where the next one of its key begins.
func fleetPricesView() View {
	table, utc := PricesTable(), TimeMilliseconds.ClickHouseType()
	columns := copiedAll(table, "p", priceKey...)
	columns = append(columns,
		copied(table, "valid_from", "p"),
		ViewColumn{
			Name: "valid_to", Type: "Nullable(" + utc + ")", Meaning: "First moment at which it no longer holds; NULL: it holds.",
			Expression: "least(ifNull(p.told_to, p.next_from), ifNull(p.next_from, p.told_to))",
		})
	columns = append(columns, copiedAll(table, "p", "price_per_hour", "price_per_gpu_hour", "gpus", "gpu_model", "source", "source_line", "read_at")...)
	key := strings.Join(priceKey, ", ")
	return View{
		Name: "fleet_prices", Columns: columns,
		Meaning: "What a machine costs, where, how rented, from when to when. Join by time: valid_from <= ts AND (valid_to IS NULL OR ts < valid_to).",
		From: `(
    SELECT * EXCEPT (valid_to), valid_to AS told_to,
        nullIf(leadInFrame(valid_from) OVER (PARTITION BY ` + key + ` ORDER BY valid_from ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING), toDateTime64(0, 3, 'UTC')) AS next_from
    FROM (SELECT * FROM {prices} ORDER BY ` + key + `, valid_from, read_at DESC LIMIT 1 BY ` + key + `, valid_from)
) AS p`,
	}
}

// PriceReadsTable says when each feed was asked: a price that did not change has no new row, and yet it is not old.
func PriceReadsTable() Table {
	return Table{
		Name: "price_reads",
		Columns: []Column{
			{Name: "read_at", Type: TimeMilliseconds, Meaning: "When the feed was asked, or the file read."},
			{Name: "source", Type: Text, Meaning: "File or address, without what was asked for."},
			{Name: "format", Type: Name, Meaning: "Format that it was read as."},
			{Name: "outcome", Type: Name, Meaning: "What came of it. read: its prices were checked; not_modified: it is as it was when it was last read; failed: it could not be read, and the prices of before stay in use."},
			{Name: "etag", Type: Text, Nullable: true, Meaning: "Validator that the answer came with, to ask whether there is a new one."},
			{Name: "last_modified", Type: Text, Nullable: true, Meaning: "The same, as a time."},
			{Name: "prices", Type: Uint32, Nullable: true, Meaning: "Prices that can be used; NULL unless it was read."},
			{Name: "quarantined", Type: Uint32, Nullable: true, Meaning: "Prices in quarantine; NULL unless it was read."},
			{Name: "detail", Type: Text, Nullable: true, Meaning: "Why it could not be read."},
		},
		Meaning: "When each price feed was read, and what came of it. See price_feeds.",
		OrderBy: "(source, read_at)", PartitionBy: "toYYYYMM(read_at)", TTLDays: 400, Granularity: 1024,
	}
}

// priceFeedsView says how old what is known of each feed is.
func priceFeedsView() View {
	const told = "outcome IN ('read', 'not_modified')"
	utc := "Nullable(" + TimeMilliseconds.ClickHouseType() + ")"
	return View{
		Name: "price_feeds",
		Columns: []ViewColumn{
			{Name: "source", Type: "String", Expression: "r.source", Meaning: "File or address that prices were read from."},
			{Name: "format", Type: "String", Expression: "r.last_format", Meaning: "Format that it was last read as."},
			{Name: "last_read_at", Type: utc, Expression: "r.told_at", Meaning: "When its prices were last known to hold; NULL if it never could be read."},
			{Name: "age_seconds", Type: "Nullable(Int64)", Unit: "s", Expression: "dateDiff('second', r.told_at, now64(3))", Meaning: "How long ago that was."},
			{Name: "last_asked_at", Type: TimeMilliseconds.ClickHouseType(), Expression: "r.asked_at", Meaning: "When it was last asked."},
			{Name: "last_outcome", Type: "String", Expression: "r.last_outcome", Meaning: "What came of that: read, not_modified, failed."},
			{Name: "prices", Type: "Nullable(UInt32)", Expression: "r.last_prices", Meaning: "Prices that could be used when it was last read."},
			{Name: "quarantined", Type: "Nullable(UInt32)", Expression: "r.last_quarantined", Meaning: "Prices that were put into quarantine then."},
			{Name: "detail", Type: "Nullable(String)", Expression: "r.last_detail", Meaning: "Why it could not be read, if it last could not."},
		},
		Meaning: "Each price feed: how old what is known of it is, and why, if it could not be read.",
		From: `(
    SELECT source, toString(argMax(format, read_at)) AS last_format, maxOrNullIf(read_at, ` + told + `) AS told_at, max(read_at) AS asked_at, toString(argMax(outcome, read_at)) AS last_outcome,
        argMaxOrNullIf(prices, read_at, outcome = 'read') AS last_prices, argMaxOrNullIf(quarantined, read_at, outcome = 'read') AS last_quarantined, argMax(tuple(detail), read_at).1 AS last_detail
    FROM {price_reads} GROUP BY source
) AS r`,
	}
}
