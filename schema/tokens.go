// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"fmt"
	"slices"
	"strings"
)

// The roles of a server: what part of a request it computes. What a row counts of prompts and answers follows from it
// (docs/tokens.md), so that no token is counted twice.
const (
	RolePrefill = "prefill" // prompts alone: the first token of an answer is computed again by whoever decodes
	RoleDecode  = "decode"  // answers alone: the prompt was counted where it was prefilled
	RoleBoth    = "both"
	RoleGateway = "gateway" // computes nothing, and counts what the servers behind it are asked
)

// TokenSources are where a row of token_samples may come from.
const (
	TokensScraped = "scrape"
	TokensPushed  = "push"
	TokensOTLP    = "otlp"
)

// LossCauses are what keeps a training job from its work, each with a column lost_…_milliseconds_delta of token_samples.
func LossCauses() []LossCause {
	return []LossCause{
		{"startup", "starting: processes, compilation, the first loading of data"},
		{"data", "waiting for data"},
		{"checkpoint", "writing and reading checkpoints"},
		{"recompute", "computing anew what was lost since the last checkpoint"},
		{"recovery", "waiting for machines after a fault"},
		{LossOther, "other causes"},
	}
}

// LossOther is the last of them.
const LossOther = "other"

// LossCause is one of them.
type LossCause struct{ Name, Meaning string }

// Column is the column of token_samples that holds the time that was lost.
func (c LossCause) Column() string { return "lost_" + c.Name + "_milliseconds_delta" }

// tokensTable has a row for each server, model and reading of its counters.
func tokensTable() Table {
	increment := func(column, unit, meaning string) Column { return number(column, Uint64, unit, meaning) }
	columns := slices.Concat(
		[]Column{
			timeColumn("When the counters were read."),
			{Name: "server", Type: Text, Meaning: "Who counted: address of the page that was read, or name of the job that pushed."},
		},
		stamped(),
		[]Column{
			{Name: "source", Type: Name, Meaning: "How the counters came: scrape (the agent read the server's page), push (a job told the agent), otlp (OpenTelemetry's gen_ai metrics)."},
			name("engine", "Program that counted: vllm, sglang, tensorrt_llm, triton, tgi, dynamo, llama_cpp, lmdeploy, training, or the provider that gen_ai metrics name."),
			name("engine_version", "Its version, if it tells."),
			name("model", "Model, as the server calls it."),
			name("role", "What the server does: prefill, decode, both or gateway. Decides what counts, see docs/tokens.md. NULL if nobody told; then it counts as both, without what was transferred."),
			{Name: ColumnInterval, Type: Uint32, Nullable: true, Unit: "ms", Meaning: "Time that the increments of this row cover. NULL on the first one."},
			{Name: ColumnCounterEpoch, Type: Uint32, Meaning: "Counts the starts of the server's counters that the agent saw, from 1 on."},
			increment("input_tokens_delta", "{token}", "Tokens of prompts, as the server counts them: with what it had in its cache or was sent, if it counts those. fleet_tokens has what counts once."),
			increment("input_computed_tokens_delta", "{token}", "Of these: computed here."),
			increment("input_cached_tokens_delta", "{token}", "Of these: found in the server's own cache."),
			increment("input_transferred_tokens_delta", "{token}", "Of these: taken from another server's cache, or from a store of them."),
			increment("output_tokens_delta", "{token}", "Tokens of answers."),
			increment("draft_rejected_tokens_delta", "{token}", "Tokens that a draft model guessed and that were thrown away: work without a result, in no other column."),
			increment("requests_delta", "{request}", "Requests that were finished."),
			number("requests_running", Uint32, "{request}", "Requests that were being computed when the counters were read."),
			number("requests_waiting", Uint32, "{request}", "Requests that waited then."),
			increment("trained_tokens_delta", "{token}", "Tokens that a training job has learned from."),
			increment("training_steps_delta", "{step}", "Steps that it has done."),
		})
	for _, cause := range LossCauses() {
		columns = append(columns, increment(cause.Column(), "ms", "Time that the job lost by "+cause.Meaning+"."))
	}
	columns = append(columns,
		name("namespace", "Kubernetes namespace of the server."),
		text("pod", "Pod of the server."),
		text("job_id", "Slurm job of the server."),
		name("deployment", "Deployment whose tokens these are, as in gpu_workload: divide by all GPUs that it has, never by those of the pod that counts."),
		name("team", "Team, as in gpu_workload."),
		number("gpu_count", Uint16, "", "GPUs of this node that the server's pod or process has; NULL if not known."),
		text("gpu_uuids", "Their UUIDs, with commas between."),
		name("reason", "Why there are no counts, or what speaks against them: see docs/tokens.md. NULL if nothing does."),
	)
	return Table{
		ID: TokensID, Name: "token_samples", Columns: columns,
		Meaning: "Tokens and requests: one row per server, model and role, each time that its counters are read. What a server does not count is NULL.",
		OrderBy: "(toStartOfHour(ts), node_id, server, ts)", PrimaryKey: "(toStartOfHour(ts), node_id)", PartitionBy: "toDate(ts)", TTLDays: 90, Granularity: 2048,
	}
}

// The rules that keep a token from being counted twice. A prompt counts where it is prefilled; a server of unknown role
// may be one that decodes, so that what it was sent does not count. An answer counts where it is decoded. Roles are
// compared without NULL: ClickHouse makes sumIf(x, NOT c) of sum(if(c, NULL, x)), which leaves out rows where c is NULL.
const (
	inputOnce = "multiIf(t.role = 'decode', NULL, t.role IS NULL AND t.input_transferred_tokens_delta IS NOT NULL, " +
		"toUInt64(t.input_tokens_delta - least(t.input_tokens_delta, t.input_transferred_tokens_delta)), t.input_tokens_delta)"
	cachedOnce = "if(ifNull(t.role, '') = 'decode', NULL, t.input_cached_tokens_delta)"
	outputOnce = "if(ifNull(t.role, '') = 'prefill', NULL, t.output_tokens_delta)"
	// requestsOnce counts a request where its answer ends.
	requestsOnce = "if(ifNull(t.role, '') = 'prefill', NULL, t.requests_delta)"
)

// fleetTokensView has the rows with names, and with counts that may be added up.
func fleetTokensView() View {
	table := tokensTable()
	columns := copiedAll(table, "t", ColumnTime, ColumnNode, "server")
	for _, c := range copiedAll(nodeInventoryTable(), "n", nodeNames...) {
		columns = append(columns, c.orNull())
	}
	columns = append(columns, copiedAll(table, "t", "source", "engine", "engine_version", "model", "role", "deployment", "team", "namespace", "pod", "job_id", "gpu_count", "gpu_uuids")...)
	once := func(name, expression, meaning string) ViewColumn {
		return ViewColumn{Name: name, Type: "Nullable(UInt64)", Unit: "{token}", Meaning: meaning, Expression: expression}
	}
	columns = append(columns,
		ViewColumn{Name: "interval_seconds", Type: "Nullable(Float64)", Unit: "s", Meaning: "Time that the counts of this row cover.", Expression: "t." + ColumnInterval + " / 1000"},
		once("input_tokens", inputOnce, "Tokens of prompts, each counted once: not those of a server that only decodes, nor what one of unknown role was sent."),
		once("input_cached_tokens", cachedOnce, "Of these: found in the server's own cache."),
		once("output_tokens", outputOnce, "Tokens of answers, each counted once: not those of a server that only prefills."),
		once("computed_input_tokens", "t.input_computed_tokens_delta", "Tokens of prompts that this server computed, whatever its role: its work, and not to be added to input_tokens."),
		once("transferred_input_tokens", "t.input_transferred_tokens_delta", "Tokens of prompts that this server was sent, whatever its role."),
		once("draft_rejected_tokens", "t.draft_rejected_tokens_delta", "Tokens that a draft model guessed and that were thrown away."),
		ViewColumn{Name: "requests", Type: "Nullable(UInt64)", Unit: "{request}", Meaning: "Requests that were finished, each counted once.", Expression: requestsOnce},
	)
	columns = append(columns, copiedAll(table, "t", "requests_running", "requests_waiting")...)
	columns = append(columns, once("trained_tokens", "t.trained_tokens_delta", "Tokens that a training job has learned from."),
		ViewColumn{Name: "training_steps", Type: "Nullable(UInt64)", Unit: "{step}", Meaning: "Steps that it has done.", Expression: "t.training_steps_delta"})
	for _, cause := range LossCauses() {
		columns = append(columns, ViewColumn{
			Name: "lost_" + cause.Name + "_seconds", Type: "Nullable(Float64)", Unit: "s",
			Meaning: "Time that the job lost by " + cause.Meaning + ".", Expression: "t." + cause.Column() + " / 1000",
		})
	}
	columns = append(columns, copied(table, "reason", "t"))
	return View{
		Name: "fleet_tokens", Columns: columns,
		Meaning: "Rows of token_samples with names, and with counts that may be added up over servers. Where a gateway counts for a deployment (role), take either its rows or those of the servers: token_rates does. Give a range of ts. Names of nodes are those of today.",
		From: fmt.Sprintf("{token_samples} AS t\nLEFT ANY JOIN (SELECT %s FROM {node_current} FINAL) AS n ON t.node_id = n.node_id",
			nullableList(nodeInventoryTable(), ColumnNode, nodeNames)),
	}
}

// tokenRatesView is what a planner asks for: a deployment's tokens by hour, and by GPU. An hour in which a gateway counted something
// for the deployment and model is the gateway's. Each owner of a GPU is said once an hour, so that the GPUs of an hour
// are those in its rows of gpu_workload.
func tokenRatesView() View {
	text := func(name, meaning string) ViewColumn {
		return ViewColumn{Name: name, Type: "LowCardinality(Nullable(String))", Meaning: meaning, Expression: "h." + name}
	}
	count := func(name, unit, meaning string) ViewColumn {
		return ViewColumn{Name: name, Type: "Nullable(UInt64)", Unit: unit, Meaning: meaning, Expression: "h." + name}
	}
	perGPU := "nullIf(ifNull(w.gpus, h.server_gpus), 0)"
	seconds := "greatest(h.covered_seconds, 1)"
	rate := func(name, of, divisor, unit, meaning string) ViewColumn {
		return ViewColumn{Name: name, Type: "Nullable(Float64)", Unit: unit, Meaning: meaning, Expression: "h." + of + " / " + divisor}
	}
	columns := []ViewColumn{
		{Name: "hour", Type: "DateTime('UTC')", Meaning: "The hour.", Expression: "h.hour"},
		{Name: ColumnTenant, Type: Name.ClickHouseType(), Meaning: "Tenant, as proved.", Expression: "h.tenant"},
		text("provider", "Cloud."), text("region", "Region."),
		text("deployment", "Deployment; NULL if the server belongs to none that is known."), text("team", "Team."), text("model", "Model, as the server calls it."),
		text("engine", "Program that counted."),
		{Name: "counted_by", Type: "String", Meaning: "Who counted: gateway, where one counts for the deployment and model in this hour; else server.", Expression: "if(h.gateway, 'gateway', 'server')"},
		count("servers", "", "Servers that were read."),
		{Name: "gpus", Type: "Nullable(UInt64)", Meaning: "GPUs that the deployment had in this hour, of which some may count nothing: followers, prefill, spares. Where no deployment is known, those of the servers.", Expression: perGPU},
		count("input_tokens", "{token}", "Tokens of prompts, each counted once."),
		count("input_cached_tokens", "{token}", "Of these: found in a cache."),
		count("output_tokens", "{token}", "Tokens of answers, each counted once."),
		count("draft_rejected_tokens", "{token}", "Tokens that a draft model guessed and that were thrown away."),
		count("trained_tokens", "{token}", "Tokens that training jobs have learned from."),
		count("requests", "{request}", "Requests that were finished."),
		{Name: "covered_seconds", Type: "Float64", Unit: "s", Meaning: "Time of the hour that was counted: from the first increment to the last.", Expression: "h.covered_seconds"},
		rate("output_tokens_per_second", "output_tokens", seconds, "{token}/s", "Tokens of answers per second of the time that was counted."),
		rate("output_tokens_per_second_per_gpu", "output_tokens", seconds+" / "+perGPU, "{token}/s", "The same by all GPUs of the deployment."),
	}
	return View{
		Name: "token_rates", Columns: columns, From: tokensByHour(),
		Meaning: "Tokens of each deployment and model by the hour, counted once: at the gateway where there is one, else at the servers, prompts where they are prefilled and answers where they are decoded. Give a range of hour.",
	}
}

// tokensByHour adds the counts up, as h, with the GPUs of each deployment, as w.
func tokensByHour() string {
	var sums strings.Builder
	for _, c := range [][2]string{
		{"input_tokens", inputOnce},
		{"input_cached_tokens", cachedOnce},
		{"output_tokens", outputOnce},
		{"draft_rejected_tokens", "t.draft_rejected_tokens_delta"},
		{"trained_tokens", "t.trained_tokens_delta"},
		{"requests", requestsOnce},
	} {
		fmt.Fprintf(&sums, ", sum(%s) AS %s", c[1], c[0])
	}
	return `(
    SELECT *, max(s.gateway AND (s.input_tokens IS NOT NULL OR s.output_tokens IS NOT NULL)) OVER (PARTITION BY s.hour, s.tenant, s.deployment, s.model) AS has_gateway
    FROM (
        SELECT toStartOfHour(toDateTime(t.ts, 'UTC')) AS hour, t.tenant AS tenant, n.provider AS provider, n.region AS region, t.deployment AS deployment, t.team AS team, t.model AS model, t.engine AS engine,
            ifNull(t.role = 'gateway', 0) AS gateway, toNullable(uniqExact(t.node_id, t.server)) AS servers,
            uniqExactArrayIf(splitByChar(',', ifNull(t.gpu_uuids, '')), t.gpu_uuids IS NOT NULL) AS server_gpus,
            ifNull(dateDiff('millisecond', minIf(t.ts - toIntervalMillisecond(ifNull(t.interval_milliseconds, 0)), t.interval_milliseconds IS NOT NULL), maxIf(t.ts, t.interval_milliseconds IS NOT NULL)), 0) / 1000 AS covered_seconds` + sums.String() + `
        FROM {token_samples} AS t
        LEFT ANY JOIN (SELECT ` + nullableList(nodeInventoryTable(), ColumnNode, nodeNames) + ` FROM {node_current} FINAL) AS n ON t.node_id = n.node_id
        GROUP BY hour, tenant, provider, region, deployment, team, model, engine, gateway
    ) AS s
) AS h
LEFT ANY JOIN (
    SELECT toStartOfHour(toDateTime(ts, 'UTC')) AS hour, tenant, assumeNotNull(deployment) AS deployment, toNullable(uniqExact(gpu_id)) AS gpus
    FROM {gpu_workload} WHERE deployment IS NOT NULL GROUP BY hour, tenant, deployment
) AS w ON h.hour = w.hour AND h.tenant = w.tenant AND h.deployment = w.deployment
WHERE h.gateway = h.has_gateway`
}
