// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"fmt"
	"slices"
	"strings"
)

// Money is a price of an hour times milliseconds, and is divided by those of an hour at the very end. So that what a view
// shows adds up to the last digit, each amount is the difference of two sums that were divided: that of all states up to
// this one, less that of all before.

const hourMilliseconds = 3_600_000

// moneyType holds a price of an hour times the milliseconds of 100,000 GPUs in a century.
const moneyType = "Decimal(38, 9)"

// fleetAccountView has the rows that count.
func fleetAccountView() View {
	table := AccountHoursTable()
	var columns []ViewColumn
	for _, c := range table.Columns {
		columns = append(columns, copied(table, c.Name, "a"))
	}
	for _, name := range accountCosted() {
		columns = append(columns, ViewColumn{
			Name: name + "_undivided_cost", Type: "Nullable(" + moneyType + ")", Meaning: "Price of a GPU-hour × " + AccountColumn(name) + ": sum it up, and divide the sum by 3600000. NULL: no price is known.",
			Expression: "toDecimal128(a.price_per_gpu_hour, 9) * a." + AccountColumn(name),
		})
	}
	return View{
		Name: "fleet_account", Columns: columns, From: "(SELECT * FROM {account_hours} WHERE (ts, version) IN " + AccountVersions + ") AS a",
		Meaning: "What the time of all GPUs was spent on and at which price, by hour, node, owner and price: the six states add up to the inventory, exactly. Never add amounts of several currencies. See docs/account.md.",
	}
}

// accountGrouped is fleet_account by a time and some columns, with the columns of a view that name the groups.
func accountGrouped(time, timeMeaning, expression string, dimensions []string) (columns []ViewColumn, from string) {
	table := AccountHoursTable()
	timeType := map[string]string{"day": "Date", ColumnTime: TimeSeconds.ClickHouseType()}[time]
	columns = append(columns, ViewColumn{Name: time, Type: timeType, Meaning: timeMeaning, Expression: "a." + time})
	columns = append(columns, copiedAll(table, "a", dimensions...)...)
	columns = append(columns, copiedAll(table, "a", "currency", "basis")...)
	by := strings.Join(slices.Concat([]string{time}, dimensions, []string{"currency", "basis"}), ", ")
	// Times are added up by price before these are multiplied: there are many rows, and few prices.
	from = fmt.Sprintf("(\n    SELECT %[1]s,\n        %[2]s,\n        %[3]s\n    FROM (\n        SELECT %[4]s AS %[5]s, %[6]s, currency, basis, price_per_gpu_hour, %[7]s\n        FROM {fleet_account} GROUP BY %[1]s, price_per_gpu_hour\n    ) AS p\n    GROUP BY %[1]s\n) AS a",
		by, accountList("sum(p.{}_time) AS {}", AccountMilliseconds()...), accountList("sum(toDecimal128(p.price_per_gpu_hour, 9) * p.{}_time) AS {}_money", accountCosted()...),
		expression, time, strings.Join(dimensions, ", "), accountList("sum({}_milliseconds) AS {}_time", AccountMilliseconds()...))
	return columns, from
}

// gpuHours is a sum of milliseconds in hours.
func gpuHours(name, meaning, expression string) ViewColumn {
	return ViewColumn{Name: name + "_gpu_hours", Type: "Float64", Unit: "h", Meaning: meaning, Expression: fmt.Sprintf("(%s) / %d", expression, hourMilliseconds)}
}

// divided is the amount of a sum of prices times milliseconds.
func divided(names ...string) string {
	sums := make([]string, len(names))
	for i, name := range names {
		sums[i] = "a." + name + "_money"
	}
	return fmt.Sprintf("CAST((%s) / %d, 'Nullable(%s)')", strings.Join(sums, " + "), hourMilliseconds, moneyType)
}

// accountView has hours and amounts of each state, by day and some columns.
func accountView(name, meaning string, dimensions ...string) View {
	columns, from := accountGrouped("day", "Day, UTC.", "toDate(ts)", dimensions)
	states := AccountStates()
	columns = append(columns, gpuHours("inventory", "Time of all GPUs: the sum of the states.", "a.inventory"))
	for _, s := range states {
		columns = append(columns, gpuHours(s.Name, s.Meaning, "a."+s.Name))
	}
	columns = append(columns, gpuHours("unseen", "Part of undelivered of which nothing is known, as nothing of the whole node was.", "a.unseen"))
	columns = append(columns, ViewColumn{Name: "inventory_cost", Type: "Nullable(" + moneyType + ")", Meaning: "Cost of all GPUs: the sum of the costs of the states, to the last digit. NULL: no price is known.", Expression: divided("inventory")})
	var before []string
	for _, s := range states {
		upTo := append(slices.Clone(before), s.Name)
		expression := divided(upTo...)
		if len(before) > 0 {
			expression += " - " + divided(before...)
		}
		columns = append(columns, ViewColumn{Name: s.Name + "_cost", Type: "Nullable(" + moneyType + ")", Meaning: "Cost of the state " + s.Name + ".", Expression: expression})
		before = upTo
	}
	return View{Name: name, Columns: columns, From: from, Meaning: meaning + " By day and currency. Give a range of day."}
}

// accountCostViews are what the fleet cost, by what planners ask for.
func accountCostViews() []View {
	return []View{
		accountView("fleet_cost_by_provider", "What the GPUs of each cloud and region cost, and what for.", "provider", "region", "gpu_model", "life_cycle"),
		accountView("fleet_cost_by_node", "What each node cost, and what for.", "node_id", "node_name", "provider", "region", "instance_type"),
		accountView("fleet_cost_by_team", "What each team's GPUs cost, and what for. Where team is NULL nobody had them, or nobody's team is known.", "team", "account", "owner_kind"),
		accountView("fleet_cost_by_model", "What the GPUs of each model cost that is served or trained, and what for.", "workload_model", "gpu_model"),
		accountView("fleet_cost_by_deployment", "What the GPUs of each deployment cost, and what for.", "deployment", "team", "workload_model", "provider", "region"),
	}
}

// waterfall are the steps from what a kernel ran for to what is paid.
var waterfall = []struct {
	name, meaning string
	adds          []string
}{
	{"compute", "What the time cost in which a kernel ran.", []string{"productive"}},
	{"with_idle", "And the time in which somebody had a GPU, and none ran.", []string{"allocated_idle"}},
	{"with_faults", "And the time of GPUs that were unhealthy, or whose work was lost.", []string{"busy_lost", "unhealthy"}},
	{"with_unallocated", "And the time of GPUs that nobody had.", []string{"unallocated"}},
	{"fully_loaded", "And the time of GPUs that nothing shows to have been there: all that is paid.", []string{"undelivered"}},
}

func fleetWaterfallView() View {
	columns, from := accountGrouped("day", "Day, UTC.", "toDate(ts)", []string{"provider", "region", "gpu_model"})
	columns = append(columns, gpuHours("productive", "Time in which a kernel ran.", "a.productive"))
	var so, names []string
	for _, step := range waterfall {
		so = append(so, step.adds...)
		columns = append(columns, ViewColumn{Name: step.name + "_cost", Type: "Nullable(" + moneyType + ")", Meaning: step.meaning, Expression: divided(so...)})
		names = append(names, step.name)
	}
	so = nil
	for i, step := range waterfall {
		so = append(so, step.adds...)
		columns = append(columns, ViewColumn{
			Name: names[i] + "_per_productive_gpu_hour", Type: "Nullable(Float64)", Meaning: "The same by the hours in which a kernel ran; NULL if none did.",
			Expression: fmt.Sprintf("toFloat64(a.%s) / nullIf(a.productive, 0)", strings.Join(moneyOf(so), " + a.")),
		})
	}
	return View{
		Name: "fleet_waterfall", Columns: columns, From: from,
		Meaning: "From what the time cost in which kernels ran to all that is paid, step by step, by cloud, region and GPU. By day and currency. Give a range of day.",
	}
}

func moneyOf(names []string) []string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = name + "_money"
	}
	return all
}

// capacity are NVIDIA's words for how much there is: each is the inventory less some states.
var capacity = []struct {
	name, meaning string
	less          []string
}{
	{"paid", "GPUs that are paid for: the inventory, as an average over the hour", nil},
	{"delivered", "Delivered: GPUs that are shown to have been there", []string{"undelivered"}},
	{"healthy", "Healthy: GPUs that were there and without a fault", []string{"undelivered", "unhealthy"}},
	{"reserved", "Reserved: healthy GPUs that somebody had", []string{"undelivered", "unhealthy", "unallocated"}},
	{"in_use", "In use: GPUs on which kernels ran", []string{"undelivered", "unhealthy", "unallocated", "allocated_idle"}},
}

func fleetCapacityView() View {
	columns, from := accountGrouped(ColumnTime, "Beginning of the hour, UTC.", ColumnTime, []string{"provider", "region", "cluster", "gpu_model", "life_cycle"})
	for _, c := range capacity {
		columns = append(columns, ViewColumn{
			Name: c.name + "_gpus", Type: "Float64", Unit: "{gpu}", Meaning: c.meaning + ".",
			Expression: fmt.Sprintf("(a.%s) / %d", strings.Join(append([]string{"inventory"}, c.less...), " - a."), hourMilliseconds),
		})
	}
	for _, c := range capacity {
		var so []string
		for _, s := range AccountStates() {
			if !slices.Contains(c.less, s.Name) {
				so = append(so, s.Name)
			}
		}
		columns = append(columns, ViewColumn{Name: c.name + "_cost", Type: "Nullable(" + moneyType + ")", Meaning: c.meaning + ": what they cost in the hour.", Expression: divided(so...)})
	}
	return View{
		Name: "fleet_capacity", Columns: columns, From: from,
		Meaning: "How many GPUs were paid for, delivered, healthy, reserved and in use in each hour, and what they cost, by cloud, region, cluster and GPU. Give a range of ts.",
	}
}

// accountWaste lists time that is paid for and not used, with whom to ask.
func accountWaste(name, meaning, state, of string, dimensions ...string) View {
	columns, from := accountGrouped("day", "Day, UTC.", "toDate(ts)", dimensions)
	columns = append(columns,
		gpuHours(state, of, "a."+state), gpuHours("inventory", "Time of all GPUs of the row.", "a.inventory"),
		ViewColumn{Name: state + "_cost", Type: "Nullable(" + moneyType + ")", Meaning: "What it cost; NULL: no price is known.", Expression: divided(state)})
	return View{Name: name, Columns: columns, From: from + "\nWHERE a." + state + " > 0", Meaning: meaning + " By day and currency. Give a range of day."}
}

func accountWasteViews() []View {
	return []View{
		accountWaste("fleet_idle", "GPUs that somebody had and on which no kernel ran, with owner and cost: order by allocated_idle_cost.", "allocated_idle",
			"Time in which somebody had a GPU, and no kernel ran.", "team", "account", "deployment", "workload_model", "node_name", "provider", "region", "gpu_model"),
		accountWaste("fleet_stranded", "GPUs that were there, healthy, and that nobody had, with cost: order by unallocated_cost.", "unallocated",
			"Time in which nobody had a GPU.", "node_name", "provider", "region", "zone_id", "cluster", "instance_type", "gpu_model"),
	}
}

// accountVersionsView lists what was made when.
func accountVersionsView() View {
	t := AccountBuildsTable()
	return View{
		Name: "account_versions", Meaning: "Versions of the account's hours: what an earlier one said is in account_hours, under its version.",
		Columns: append(copiedAll(t, "b", ColumnTime, ColumnVersion),
			ViewColumn{Name: "counts", Type: "UInt8", Meaning: "1 if it is the one that counts.", Expression: "b.version = b.newest"},
			copied(t, ColumnRows, "b"), copied(t, "reason", "b"),
			ViewColumn{Name: "recorded_at", Type: TimeMilliseconds.ClickHouseType(), Meaning: "When it was first recorded.", Expression: "b.first_recorded_at"},
			ViewColumn{Name: "last_looked_at", Type: TimeMilliseconds.ClickHouseType(), Meaning: "When the hour was last made again and came to the same.", Expression: "b.last_recorded_at"},
			copied(t, "built_by", "b")),
		From: `(
    SELECT l.ts AS ts, l.version AS version, any(l.rows) AS rows, argMin(l.reason, l.recorded_at) AS reason, min(l.recorded_at) AS first_recorded_at, max(l.recorded_at) AS last_recorded_at,
        argMin(l.built_by, l.recorded_at) AS built_by, max(l.version) OVER (PARTITION BY l.ts, l.shard) AS newest
    FROM (SELECT *, shardNum() AS shard FROM {account_builds}) AS l GROUP BY l.ts, l.version, l.shard
) AS b`,
	}
}
