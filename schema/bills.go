// SPDX-License-Identifier: Apache-2.0

package schema

import "slices"

// Bills are rows of FOCUS exports, as providers charge. An import never changes what is there: its rows carry its number,
// and bill_imports names, for each month of an account, the import that counts. It is written last, so that a bill that
// was read in part is never seen; one that is read again takes the place of the earlier one.

// billKey is what has one bill.
var billKey = []string{"provider", "billing_account_id", "billing_period_start"}

func billKeyColumns() []Column {
	return []Column{
		{Name: "import_id", Type: Uint64, Meaning: "Import that the row came with; bill_imports says which counts."},
		{Name: "provider", Type: Name, Meaning: "Who charges, as in node_inventory: aws, azure, gcp, oci; else as the bill has it, in small letters."},
		{Name: "billing_account_id", Type: Text, Meaning: "Account that is billed."},
		{Name: "billing_period_start", Type: TimeSeconds, Meaning: "First moment of the month that is billed."},
	}
}

func money(column, meaning string) Column { return number(column, WideDecimal, "", meaning) }

// BillsTable holds the rows of bills.
func BillsTable() Table {
	return Table{
		Name: "bills",
		Columns: slices.Concat(billKeyColumns(), chargeColumns(), amountColumns(), []Column{
			{Name: "notes", Type: Text, Meaning: "What is odd about it, by name, with commas between: see docs/bills.md. The row counts all the same."},
			{Name: "source", Type: Text, Meaning: "File that it was read from."},
			{Name: "source_line", Type: Uint32, Meaning: "Line, or number of the row, in the file."},
		}),
		Meaning: "Rows of bills (FOCUS), of every import: use fleet_bills for those that count.",
		OrderBy: "(provider, billing_account_id, billing_period_start, import_id, charge_period_start)", PartitionBy: "toYYYYMM(billing_period_start)", Granularity: 8192,
	}
}

// chargeColumns say what is charged for.
func chargeColumns() []Column {
	return []Column{
		{Name: "billing_period_end", Type: TimeSeconds, Meaning: "First moment after it."},
		{Name: "charge_period_start", Type: TimeSeconds, Meaning: "First moment of what is charged for. A time without a zone is UTC."},
		{Name: "charge_period_end", Type: TimeSeconds, Meaning: "First moment after it."},
		{Name: "currency", Type: Name, Meaning: "Currency of all costs of the row, as ISO 4217 has it."},
		name("service_provider_name", "Who provides the service, where the bill tells (FOCUS 1.3), else its ProviderName."),
		name("host_provider_name", "On whose machines it runs, where that is another one (FOCUS 1.3)."),
		name("invoice_issuer_name", "Who issues the invoice."),
		name("publisher_name", "Whose product it is."),
		text("invoice_id", "Invoice (FOCUS 1.2)."),
		text("sub_account_id", "Account, subscription or project within the billed one."),
		{Name: "charge_category", Type: Name, Meaning: "Usage, Purchase, Tax, Credit or Adjustment."},
		name("charge_class", "Correction, if the row corrects an earlier bill."),
		name("charge_frequency", "One-Time, Recurring or Usage-Based."),
		text("charge_description", "What is charged for, in the provider's words."),
		name("pricing_category", "Standard, Dynamic (spot), Committed or Other."),
		text("commitment_discount_id", "Commitment that the charge is covered by, or buys."),
		name("commitment_discount_category", "Spend or Usage."),
		name("commitment_discount_type", "Kind of commitment, in the provider's words."),
		name("commitment_discount_status", "Used, or Unused: what was paid for and nobody had."),
		text("capacity_reservation_id", "Reservation of capacity (FOCUS 1.1)."),
		name("capacity_reservation_status", "Used or Unused."),
		text("contract_applied", "Which commitments of contracts the charge counts towards, as JSON (FOCUS 1.3)."),
	}
}

// amountColumns say of what, how much, and at what price.
func amountColumns() []Column {
	return []Column{
		name("region", "Region."),
		name("zone_name", "Zone as the bill has it: by its name, which means another one in each account."),
		name("service_category", "Kind of service, by FOCUS."),
		name("service_name", "Service, in the provider's words."),
		name("resource_type", "Kind of resource, in the provider's words."),
		text("resource_id", "Resource, as the bill has it."),
		text("instance_id", "Machine that the resource is, by the last part of its name, in small letters; NULL if the charge is not for a machine."),
		name("instance_type", "Type of machine, where the bill tells and the catalogue has it."),
		number("gpus", Uint16, "", "GPUs of the machine, by the catalogue, else by the bill."),
		number("of_machine", Uint8, "", "1 if it is a price of the machine itself, by time, and not of what goes in and out of it."),
		number("machine_hours", WideDecimal, "h", "Hours of the whole machine that it is for; NULL if it counts something else, as vCPUs do."),
		number("gpu_hours", WideDecimal, "h", "GPU-hours that it is for, where the bill counts them."),
		text("sku_id", "What is sold."),
		text("sku_price_id", "At which price."),
		text("sku_price_details", "Properties of what is sold, as JSON (FOCUS 1.1)."),
		money("consumed_quantity", "How much was used."),
		name("consumed_unit", "Unit of it."),
		money("pricing_quantity", "How much is charged for."),
		name("pricing_unit", "Unit of it."),
		money("list_unit_price", "What everybody pays for one."),
		money("contracted_unit_price", "Private price of one."),
		money("list_cost", "Cost at what everybody pays."),
		money("contracted_cost", "Cost at the private price."),
		money("effective_cost", "Amortised cost: with its part of what was paid in advance."),
		money("billed_cost", "Cost on the invoice."),
		money("cost", "What the row costs: effective_cost; billed_cost where the notes say that the effective one cannot be."),
		text("tags", "Tags, as JSON."),
	}
}

// BillImportsTable says which import counts.
func BillImportsTable() Table {
	return Table{
		Name: "bill_imports",
		Columns: append([]Column{{Name: "imported_at", Type: TimeMilliseconds, Meaning: "When it was imported. Of a month and account the last import counts."}},
			append(billKeyColumns(),
				Column{Name: "fingerprint", Type: Text, Meaning: "Hash over its rows, in any order: the same bill is not stored twice."},
				Column{Name: "rows", Type: Uint32, Meaning: "Rows that count."},
				Column{Name: "quarantined", Type: Uint32, Meaning: "Rows in quarantine."},
				Column{Name: "currencies", Type: Text, Meaning: "Currencies that it has, with commas between."},
				money("billed_cost", "Sum of billed_cost, to compare with the invoice; NULL if it has several currencies."),
				money("cost", "Sum of cost; NULL if it has several currencies."),
				Column{Name: "source", Type: Text, Meaning: "File that it was read from; of several the first."},
			)...),
		Meaning: "Imports of bills, one row for each month and account. Append only: the last one counts.",
		OrderBy: "(provider, billing_account_id, billing_period_start, imported_at)", PartitionBy: "tuple()", Granularity: 1024,
	}
}

// BillQuarantineTable holds the rows of bills that cannot count.
func BillQuarantineTable() Table {
	return Table{
		Name: "bill_quarantine",
		Columns: []Column{
			{Name: "read_at", Type: TimeMilliseconds, Meaning: "When it was read."},
			{Name: "import_id", Type: Uint64, Meaning: "Import that it came with."},
			{Name: "reasons", Type: Text, Meaning: "Why it does not count, by name, with commas between: see docs/bills.md."},
			{Name: "detail", Type: Text, Meaning: "The same in words, with the values."},
			name("provider", "Who charges, as far as it can be read."),
			text("resource_id", "Resource, as the bill has it."),
			{Name: "source", Type: Text, Meaning: "File that it was read from."},
			{Name: "source_line", Type: Uint32, Meaning: "Line, or number of the row, in the file."},
		},
		Meaning: "Rows of bills that were read and cannot count, with what speaks against each.",
		OrderBy: "(read_at, source, source_line)", PartitionBy: "toYYYYMM(read_at)", TTLDays: 400, Granularity: 1024,
	}
}
