// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"fmt"
	"slices"
)

// standIns are the life cycles whose machines are priced as on_demand where no price of their own is known, and say so:
// what they cost is agreed upon with the provider, or paid long before. The price of spot, and of one's own machines,
// does not follow from what others pay.
const standIns = "'reserved', 'capacity_block'"

// fleetRatesView finds one price for each node: of the basis that is nearest to what is paid, then of the place that is
// nearest to where the node is.
func fleetRatesView() View {
	nodes, prices := nodeInventoryTable(), PricesTable()
	columns := []ViewColumn{copied(nodes, ColumnNode, "n")}
	for _, c := range copiedAll(nodes, "n", append(slices.Clone(nodeNames), "life_cycle")...) {
		columns = append(columns, c.orNull())
	}
	columns = append(columns, copiedAll(prices, "p", "price_per_gpu_hour", "price_per_hour", "currency", "basis")...)
	priced := copied(prices, "life_cycle", "p")
	priced.Name, priced.Meaning = "priced_as", "Life cycle that the price is for: on_demand where a node does not tell its own, or is reserved and no price for that is known."
	columns = append(columns, priced, copied(prices, "gpus", "p"), copied(prices, "gpu_model", "p"), copied(prices, "valid_from", "p"), copied(prices, "source", "p"))
	columns[slices.IndexFunc(columns, func(c ViewColumn) bool { return c.Name == "gpus" })].Meaning = "GPUs of the machine, by the catalogue; gpu_count of fleet_nodes is what the driver lists."
	return View{
		Name: "fleet_rates", Columns: columns,
		Meaning: "What each node costs now: one price, with its basis. A node without a price is not in it: see fleet_cost_now, and docs/prices.md.",
		From: fmt.Sprintf(`(
    SELECT %s FROM {node_current} FINAL WHERE ts >= now64(3) - toIntervalDay(%d)
) AS n
INNER JOIN (SELECT * FROM {fleet_prices} WHERE valid_from <= now64(3) AND (valid_to IS NULL OR valid_to > now64(3))) AS p ON n.provider = p.provider
WHERE lower(n.instance_type) = lower(p.instance_type) AND p.region IN ('', ifNull(n.region, '')) AND p.zone_id IN ('', ifNull(n.zone_id, ''))
    AND (p.life_cycle = ifNull(n.life_cycle, 'on_demand') OR p.life_cycle = 'on_demand' AND n.life_cycle IN (%s))
ORDER BY n.node_id, p.life_cycle = ifNull(n.life_cycle, 'on_demand') DESC, indexOf(['list', 'contracted', 'effective', 'billed'], p.basis) DESC,
    p.zone_id != '' DESC, p.region != '' DESC, p.currency, p.price_per_hour
LIMIT 1 BY n.node_id`, nullableList(nodes, ColumnNode, append(slices.Clone(nodeNames), "life_cycle")), expectedDays, standIns),
	}
}

// fleetCostNowView has the GPUs of fleet_now with what they cost and who has them.
func fleetCostNowView() View {
	prices := PricesTable()
	columns := make([]ViewColumn, 0, 20)
	for _, c := range fleetNowView().Columns {
		switch c.Name {
		case ColumnTime, ColumnGPU, ColumnNode, "node_name", "provider", "region", "zone_id", "instance_type", "gpu_uuid", "model", "gpu_utilization_ratio":
			c.Expression = "s." + c.Name
			columns = append(columns, c)
		}
	}
	for _, c := range copiedAll(prices, "r", "price_per_gpu_hour", "currency", "basis") {
		c = c.orNull()
		c.Meaning += " NULL if no price is known for the node."
		columns = append(columns, c)
	}
	state := `multiIf(w.gpu_id = 0, 'unknown', w.owners = 0, 'unallocated', s.gpu_utilization_ratio = 0, 'allocated idle', s.gpu_utilization_ratio IS NULL, 'unknown', 'busy')`
	columns = append(columns,
		ViewColumn{Name: "state", Type: "String", Expression: state, Meaning: "What it is paid for: busy (it has an owner, and a kernel ran), allocated idle (an owner, and none ran), unallocated (no owner), unknown (nobody looks for owners there, or the GPU does not tell)."},
		ViewColumn{Name: "team", Type: "Nullable(String)", Expression: "w.team", Meaning: "Team of the owner; of several the first."},
		ViewColumn{Name: "deployment", Type: "Nullable(String)", Expression: "w.deployment", Meaning: "Deployment of the owner; of several the first."},
		ViewColumn{Name: "account", Type: "Nullable(String)", Expression: "w.account", Meaning: "Account that the owner's job is charged to; of several the first."})
	return View{
		Name: "fleet_cost_now", Columns: columns,
		Meaning: "Each GPU that gives rows now, what it costs by the hour, who has it and whether it works: sum price_per_gpu_hour by currency and state. MIG instances are left out: they are parts of a GPU that is in it.",
		From: `(SELECT * FROM {fleet_now} WHERE parent_gpu_uuid IS NULL) AS s
LEFT ANY JOIN (SELECT node_id, CAST(price_per_gpu_hour, 'Nullable(Decimal(18, 9))') AS price_per_gpu_hour, CAST(currency, 'LowCardinality(Nullable(String))') AS currency, CAST(basis, 'LowCardinality(Nullable(String))') AS basis FROM {fleet_rates}) AS r ON s.node_id = r.node_id
LEFT ANY JOIN (
    SELECT gpu_id, countIf(owner_kind != 'none') AS owners, min(team) AS team, min(deployment) AS deployment, min(account) AS account
    FROM {fleet_workload} GROUP BY gpu_id
) AS w ON s.gpu_id = w.gpu_id`,
	}
}
