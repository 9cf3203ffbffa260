// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"slices"
	"strings"
)

// fleetBillsView has the rows of the import that counts, of each month and account.
func fleetBillsView() View {
	table := BillsTable()
	columns := make([]ViewColumn, len(table.Columns))
	for i, c := range table.Columns {
		columns[i] = copied(table, c.Name, "b")
	}
	key := strings.Join(billKey, ", ")
	return View{
		Name: "fleet_bills", Columns: columns,
		Meaning: "Rows of bills that count: of each month and account those of the last import. Sum cost by currency.",
		From: `(SELECT * FROM {bills}) AS b
INNER JOIN (SELECT ` + key + `, argMax(import_id, imported_at) AS import_id FROM {bill_imports} GROUP BY ` + key + `) AS i
    ON b.provider = i.provider AND b.billing_account_id = i.billing_account_id AND b.billing_period_start = i.billing_period_start AND b.import_id = i.import_id`,
	}
}

// billedMachines sums up what each machine was charged in each period.
const billedMachines = `
    SELECT provider, billing_account_id, billing_period_start, currency, assumeNotNull(instance_id) AS instance, charge_period_start, charge_period_end,
        sumOrNull(machine_hours) AS machine_hours, sumOrNull(gpu_hours) AS gpu_hours, anyOrNull(instance_type) AS instance_type, anyOrNull(gpus) AS gpus, anyOrNull(region) AS region,
        max(pricing_category = 'Dynamic') AS spot, max(pricing_category = 'Committed') AS committed,
        sumOrNull(cost) AS cost, sumOrNull(billed_cost) AS billed_cost, sumOrNull(list_cost) AS list_cost
    FROM {fleet_bills} WHERE of_machine = 1 AND instance_id IS NOT NULL
    GROUP BY provider, billing_account_id, billing_period_start, currency, instance_id, charge_period_start, charge_period_end`

// knownMachines are nodes by each name that a bill may have for them.
const knownMachines = `
    SELECT provider, lower(assumeNotNull(name)) AS instance, node_id, toNullable(node_name) AS node_name, instance_type, region, zone_id, life_cycle, gpu_count
    FROM (SELECT *, arrayJoin([instance_id, toNullable(node_name), kubernetes_node]) AS name FROM {node_inventory})
    WHERE name IS NOT NULL AND provider IS NOT NULL
    ORDER BY name = instance_id DESC, ts DESC
    LIMIT 1 BY provider, instance`

// billMachinesView is the true-up: what each machine was charged, by the GPU-hour, beside what its price list said at that time.
func billMachinesView() View {
	table, nodes := BillsTable(), nodeInventoryTable()
	columns := copiedAll(table, "m", "provider", "billing_account_id", "billing_period_start", "currency")
	columns = append(columns,
		ViewColumn{Name: "instance_id", Type: "String", Expression: "m.instance", Meaning: "Machine, as the bill has it."})
	columns = append(columns, copiedAll(table, "m", "charge_period_start", "charge_period_end")...)
	node := copied(nodes, ColumnNode, "m").orNull()
	node.Expression, node.Meaning = "m.node_id", "Node that the machine is; NULL if no agent has told of it."
	columns = append(columns, node)
	for _, c := range []string{"node_name", "instance_type", "region", "zone_id", "life_cycle"} {
		columns = append(columns, copied(nodes, c, "m").orNull())
	}
	wide := "Nullable(" + WideDecimal.ClickHouseType() + ")"
	perGPU := func(cost string) string {
		return "if(m.gpu_hours > 0, toDecimal128OrNull(toString(divideDecimal(" + cost + ", m.gpu_hours, 18)), 18), NULL)"
	}
	columns = append(columns,
		ViewColumn{Name: "gpu_hours", Type: wide, Unit: "h", Expression: "m.gpu_hours", Meaning: "GPU-hours that were charged; NULL if neither bill nor agent says how many GPUs it has."},
		ViewColumn{Name: "cost", Type: wide, Expression: "m.cost", Meaning: "What was charged for the machine itself, amortised."},
		ViewColumn{Name: "billed_cost", Type: wide, Expression: "m.billed_cost", Meaning: "The same as invoiced."},
		ViewColumn{Name: "list_cost", Type: wide, Expression: "m.list_cost", Meaning: "The same at what everybody pays, by the bill."},
		ViewColumn{Name: "cost_per_gpu_hour", Type: wide, Expression: perGPU("m.cost"), Meaning: "What a GPU-hour really cost."},
		ViewColumn{Name: "price_per_gpu_hour", Type: "Nullable(" + Decimal.ClickHouseType() + ")", Expression: "p.price_per_gpu_hour", Meaning: "What it was thought to cost: the price that held when the period began; NULL if none is known in the bill's currency."},
		ViewColumn{Name: "price_basis", Type: "LowCardinality(Nullable(String))", Expression: "p.price_basis", Meaning: "Basis of that price."},
		ViewColumn{Name: "expected_cost", Type: wide, Expression: "multiplyDecimal(m.gpu_hours, p.price_per_gpu_hour, 18)", Meaning: "GPU-hours by that price."})
	return View{
		Name: "bill_machines", Columns: columns,
		Meaning: "The true-up: what each machine was charged in each period, by the GPU-hour, beside the price that was known. Data transfer and disks are not in it.",
		From:    billMachinesFrom(),
	}
}

// billMachinesFrom joins machines with nodes, and both with the price that held: of the nearest place and the basis nearest
// to what is paid, as fleet_rates has it.
func billMachinesFrom() string {
	key := []string{"provider", "billing_account_id", "currency", "instance", "charge_period_start", "charge_period_end"}
	on := make([]string, len(key))
	for i, k := range key {
		on[i] = "m." + k + " = p." + k
	}
	machines := `
    SELECT b.provider AS provider, b.billing_account_id AS billing_account_id, b.billing_period_start AS billing_period_start, b.currency AS currency, b.instance AS instance,
        b.charge_period_start AS charge_period_start, b.charge_period_end AS charge_period_end, b.cost AS cost, b.billed_cost AS billed_cost, b.list_cost AS list_cost,
        if(n.instance = '', NULL, toNullable(n.node_id)) AS node_id, n.node_name AS node_name, ifNull(n.instance_type, b.instance_type) AS instance_type, ifNull(n.region, b.region) AS region,
        n.zone_id AS zone_id, multiIf(b.spot = 1, 'spot', n.life_cycle IS NOT NULL, n.life_cycle, b.committed = 1, 'reserved', 'on_demand') AS life_cycle,
        if(b.gpu_hours IS NOT NULL, b.gpu_hours, toDecimal128(b.machine_hours, 18) * ifNull(b.gpus, n.gpu_count)) AS gpu_hours
    FROM (` + billedMachines + `) AS b LEFT ANY JOIN (` + knownMachines + `) AS n ON b.provider = n.provider AND b.instance = n.instance`
	return `(` + machines + `
) AS m
LEFT ANY JOIN (
    SELECT ` + "m." + strings.Join(slices.Clone(key), ", m.") + `, toNullable(q.price_per_gpu_hour) AS price_per_gpu_hour, CAST(q.basis, 'LowCardinality(Nullable(String))') AS price_basis
    FROM (` + machines + `) AS m INNER JOIN (SELECT * FROM {fleet_prices}) AS q ON m.provider = q.provider AND m.currency = q.currency
    WHERE lower(m.instance_type) = lower(q.instance_type) AND q.region IN ('', ifNull(m.region, '')) AND q.zone_id IN ('', ifNull(m.zone_id, ''))
        AND q.valid_from <= m.charge_period_start AND (q.valid_to IS NULL OR q.valid_to > m.charge_period_start)
        AND (q.life_cycle = m.life_cycle OR q.life_cycle = 'on_demand' AND m.life_cycle IN (` + standIns + `))
    ORDER BY q.life_cycle = m.life_cycle DESC, indexOf(['list', 'contracted', 'effective', 'billed'], q.basis) DESC, q.zone_id != '' DESC, q.region != '' DESC, q.price_per_hour
    LIMIT 1 BY m.` + strings.Join(key, ", m.") + `
) AS p ON ` + strings.Join(on, " AND ")
}

// billDriftView compares bills with what was thought.
func billDriftView() View {
	table := BillsTable()
	wide := "Nullable(" + WideDecimal.ClickHouseType() + ")"
	return View{
		Name: "bill_drift",
		Columns: append(copiedAll(table, "d", "provider", "billing_period_start", "currency"),
			ViewColumn{Name: "machines", Type: "UInt64", Expression: "d.machines", Meaning: "Machines that were charged."},
			ViewColumn{Name: "unknown_machines", Type: "UInt64", Expression: "d.unknown_machines", Meaning: "Of these, machines of which no agent has told."},
			ViewColumn{Name: "gpu_hours", Type: wide, Unit: "h", Expression: "d.all_gpu_hours", Meaning: "GPU-hours that were charged, where their number is known."},
			ViewColumn{Name: "cost", Type: wide, Expression: "d.all_cost", Meaning: "What was charged for machines."},
			ViewColumn{Name: "compared_gpu_hours", Type: wide, Unit: "h", Expression: "d.compared_gpu_hours", Meaning: "GPU-hours that have a price to compare with: the rest is left out of the drift."},
			ViewColumn{Name: "compared_cost", Type: wide, Expression: "d.compared_cost", Meaning: "What was charged for these."},
			ViewColumn{Name: "expected_cost", Type: wide, Expression: "d.all_expected", Meaning: "What they were thought to cost."},
			ViewColumn{
				Name: "drift_percent", Type: "Nullable(Decimal(18, 3))", Meaning: "How much more was charged than was thought, in percent of that: above 0 the live cost was too low. NULL if there is nothing to compare.",
				Expression: "if(d.all_expected > 0, toDecimal64OrNull(toString(divideDecimal(multiplyDecimal(d.compared_cost - d.all_expected, toDecimal64(100, 0), 18), d.all_expected, 3)), 3), NULL)",
			}),
		Meaning: "Drift: by provider, month and currency, how far what machines were charged is from what they were thought to cost.",
		From: `(
    SELECT provider, billing_period_start, currency, uniqExact(m.instance_id) AS machines, uniqExactIf(m.instance_id, m.node_id IS NULL) AS unknown_machines,
        sumOrNull(m.gpu_hours) AS all_gpu_hours, sumOrNull(m.cost) AS all_cost, sumOrNullIf(m.gpu_hours, m.expected_cost IS NOT NULL) AS compared_gpu_hours,
        sumOrNullIf(m.cost, m.expected_cost IS NOT NULL) AS compared_cost, sumOrNull(m.expected_cost) AS all_expected
    FROM {bill_machines} AS m GROUP BY provider, billing_period_start, currency
) AS d`,
	}
}
