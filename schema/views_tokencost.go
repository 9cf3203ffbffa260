// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"fmt"
	"strings"
)

// fleetTokenCostView has what a deployment's GPUs cost in an hour beside the tokens that it gave. A row is a deployment's
// whole hour: what would divide either side, such as a second region, currency or model, is NULL and counted, so that no
// cost stands beside tokens of other GPUs, and rows may be added up.
func fleetTokenCostView() View {
	money := "Nullable(" + moneyType + ")"
	account, rates := AccountHoursTable(), tokenRatesView()
	one := func(name, alias, meaning string) ViewColumn {
		return ViewColumn{Name: name, Type: "LowCardinality(Nullable(String))", Meaning: meaning + " NULL: not known, or several.", Expression: alias + "." + name}
	}
	tokens := func(name string) ViewColumn {
		for _, c := range rates.Columns {
			if c.Name == name {
				c.Expression = "t." + name
				return c
			}
		}
		panic("schema: token_rates has no column " + name)
	}
	hours := func(name, meaning string) ViewColumn {
		return ViewColumn{Name: name + "_gpu_hours", Type: "Float64", Unit: "h", Meaning: meaning, Expression: fmt.Sprintf("a.%s / %d", name, hourMilliseconds)}
	}
	cost := func(name, of, meaning string) ViewColumn {
		return ViewColumn{Name: name, Type: money, Meaning: meaning + " NULL: of some of it no price is known, or there are several currencies.", Expression: fmt.Sprintf("CAST(a.%s / %d, '%s')", of, hourMilliseconds, money)}
	}
	perMillion := func(name, of, by, meaning string) ViewColumn {
		return ViewColumn{
			Name: name + "_cost_per_million_tokens", Type: "Nullable(Float64)", Meaning: meaning,
			Expression: fmt.Sprintf("toFloat64(a.%s) / %d / nullIf(%s, 0) * 1e6", of, hourMilliseconds, by),
		}
	}
	const served = "(ifNull(t.input_tokens, 0) + ifNull(t.output_tokens, 0))"
	hour := copied(account, ColumnTime, "a")
	hour.Name, hour.Expression = "hour", "a.ts"
	columns := []ViewColumn{
		hour, copied(account, ColumnTenant, "a"), copied(account, "deployment", "a"),
		one("team", "a", "Team."), one("provider", "a", "Cloud of its GPUs."), one("region", "a", "Region of its GPUs."), one("gpu_model", "a", "Product name of its GPUs."),
		one("model", "t", "Model, as its servers call it."), one("engine", "t", "Program that counted."),
		{Name: "counted_by", Type: "LowCardinality(Nullable(String))", Meaning: "Who counted: gateway or server; NULL: nobody counted, or both did, each other models.", Expression: "t.counted_by"},
		one("currency", "a", "Currency, as ISO 4217 has it."), one("basis", "a", "Which price it is: list, contracted, effective, billed."),
		hours("held", "Time of GPUs that it had, in any state: what it is charged for."),
		hours("productive", "Of these: a kernel ran."),
		cost("held_cost", "held_money", "Cost of all GPUs that it had, whether or not they worked."),
		cost("compute_cost", "productive_money", "Of these: of the time in which a kernel ran."),
		tokens("input_tokens"), tokens("input_cached_tokens"), tokens("output_tokens"), tokens("trained_tokens"), tokens("requests"),
		{Name: "covered_seconds", Type: "Nullable(Float64)", Unit: "s", Meaning: "Time of the hour in which tokens were counted. Well below 3600 the costs per token are too high, unless the deployment began or ended then.", Expression: "t.covered_seconds"},
		perMillion("blended", "held_money", served, "Cost of all GPUs that it had by the tokens of its prompts, cached ones too, and of its answers. Of a sum of rows: sum(held_cost) / (sum(input_tokens) + sum(output_tokens)) * 1e6."),
		perMillion("output", "held_money", "t.output_tokens", "The same by the tokens of answers alone."),
		perMillion("compute", "productive_money", served, "Cost of the time in which a kernel ran, by the tokens of prompts and answers: what is left if nothing idles or fails."),
		perMillion("trained", "held_money", "t.trained_tokens", "Cost of all GPUs that it had by the tokens that were learned from."),
		{Name: "joules_per_token", Type: "Nullable(Float64)", Unit: "J", Meaning: "Energy that its GPUs took by the tokens of prompts and answers; hosts and cooling are not in it.", Expression: "a.energy / 1000 / nullIf(" + served + ", 0)"},
	}
	return View{
		Name: "fleet_token_cost", Columns: columns, From: tokenCosts(),
		Meaning: "What a token costs: each deployment's hour with what its GPUs cost, by the account, and the tokens that it gave, each counted once. Followers, prefill and spares are in the cost, as they belong to the deployment. Give a range of hour.",
	}
}

// tokenCosts has the account's hours of deployments, as a, and their tokens, as t.
func tokenCosts() string {
	// Not uniqExact(tuple(x)): ClickHouse takes the tuple away, and with it NULL from what is counted.
	single := func(of string, names ...string) string {
		var text strings.Builder
		for _, name := range names {
			fmt.Fprintf(&text, ", if(count(%[1]s.%[2]s) = count() AND min(%[1]s.%[2]s) = max(%[1]s.%[2]s), any(%[1]s.%[2]s), NULL) AS %[2]s", of, name)
		}
		return text.String()
	}
	// A sum leaves NULL out: time without a price would make the rest look cheap.
	money := func(name, as string) string {
		return fmt.Sprintf(", if(count(s.price_per_gpu_hour) = count() AND min(s.currency) = max(s.currency), sum(toDecimal128(s.price_per_gpu_hour, 9) * s.%[1]s), NULL) AS %[2]s", name, as)
	}
	return `(
    SELECT s.ts AS ts, s.tenant AS tenant, s.deployment AS deployment` + single("s", "team", "provider", "region", "gpu_model", "currency", "basis") + `,
        sum(s.inventory_milliseconds) AS held, sum(s.productive_milliseconds) AS productive, sum(s.energy_millijoules) AS energy` +
		money("inventory_milliseconds", "held_money") + money("productive_milliseconds", "productive_money") + `
    FROM {fleet_account} AS s WHERE s.deployment IS NOT NULL GROUP BY ts, tenant, deployment
) AS a
LEFT ANY JOIN (
    SELECT r.hour AS hour, r.tenant AS tenant, r.deployment AS deployment` + single("r", "model", "engine", "counted_by") + `,
        sum(r.input_tokens) AS input_tokens, sum(r.input_cached_tokens) AS input_cached_tokens, sum(r.output_tokens) AS output_tokens, sum(r.trained_tokens) AS trained_tokens,
        sum(r.requests) AS requests, toNullable(max(r.covered_seconds)) AS covered_seconds
    FROM {token_rates} AS r WHERE r.deployment IS NOT NULL GROUP BY hour, tenant, deployment
) AS t ON a.ts = t.hour AND a.tenant = t.tenant AND a.deployment = t.deployment`
}
