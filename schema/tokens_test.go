// SPDX-License-Identifier: Apache-2.0

package schema_test

import (
	"testing"
)

// TestTokensCountOnce has three deployments: one disaggregated with the counts of a real pair of servers, where prefill has
// computed 16420 tokens of prompts and sent 16164 of them; the same behind a gateway; and one server whose role nobody told.
func TestTokensCountOnce(t *testing.T) {
	f := newFleet(t)
	f.known(t)
	const at = "toDateTime64('2026-11-26 10:30:00', 3, 'UTC')"
	const columns = "(ts, node_id, server, engine, model, role, deployment, team, interval_milliseconds, input_tokens_delta, input_computed_tokens_delta, input_cached_tokens_delta, input_transferred_tokens_delta, output_tokens_delta, requests_delta, gpu_uuids, source)"
	f.exec(t, "INSERT INTO token_samples "+columns+` VALUES
		(`+at+`, 7, 'p:8000', 'vllm', 'm', 'prefill', 'split', 'search', 600000, 16420, 16420, 0, 0, 100, 100, 'GPU-1', 'scrape'),
		(`+at+`, 8, 'd:8000', 'vllm', 'm', 'decode', 'split', 'search', 600000, 16420, 256, 0, 16164, 9000, 100, 'GPU-2,GPU-3', 'scrape'),
		(`+at+`, 7, 'p:8000', 'vllm', 'm', 'prefill', 'behind', 'search', 600000, 16420, 16420, 0, 0, 100, 100, 'GPU-1', 'scrape'),
		(`+at+`, 7, 'd:8000', 'vllm', 'm', 'decode', 'behind', 'search', 600000, 16420, 256, 0, 16164, 9000, 100, 'GPU-2', 'scrape'),
		(`+at+`, 7, 'g:8000', 'dynamo', 'm', 'gateway', 'behind', 'search', 600000, 16420, NULL, NULL, NULL, 9000, 100, NULL, 'scrape'),
		(`+at+`, 7, 'g:8000', 'dynamo', 'other', 'gateway', 'behind', 'search', 600000, 1, NULL, NULL, NULL, 2, 3, NULL, 'scrape'),
		(`+at+`, 7, 's:8000', 'vllm', 'm', 'both', 'alone', 'search', 600000, 70, 70, 0, 0, 30, 1, 'GPU-1', 'scrape'),
		(`+at+`, 7, 'h:8000', NULL, 'm', 'gateway', 'alone', 'search', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'scrape'),
		(`+at+`, 7, 'u:8000', 'vllm', 'm', NULL, NULL, NULL, 600000, 100, 60, 30, 10, 50, 1, 'GPU-1', 'scrape'),
		(`+at+`, 7, 'b:8000', 'vllm', 'm', 'both', NULL, NULL, NULL, 100, 60, 30, 10, 50, 1, 'GPU-1', 'scrape'),
		(`+at+` + 60, 7, 's:8000', 'sglang', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'scrape')`)
	f.want(t, "SELECT deployment, role, input_tokens, input_cached_tokens, output_tokens, requests, node_name FROM fleet_tokens WHERE server IN ('p:8000', 'd:8000', 'u:8000', 'b:8000') AND deployment != 'behind' OR deployment IS NULL ORDER BY server",
		"\\N\tboth\t100\t30\t50\t1\tnode\nsplit\tdecode\t\\N\t\\N\t9000\t100\t\\N\nsplit\tprefill\t16420\t0\t\\N\t\\N\tnode\n\\N\t\\N\t\\N\t\\N\t\\N\t\\N\tnode\n\\N\t\\N\t90\t30\t50\t1\tnode")
	// The deployment has four GPUs, one of which runs no server that counts.
	f.exec(t, "INSERT INTO gpu_workload (ts, gpu_id, node_id, assignment_id, valid_from, owner_kind, deployment) SELECT "+at+", number, 7, number, "+at+", 'kubernetes', 'split' FROM numbers(4)")
	const rates = "SELECT hour, deployment, model, engine, counted_by, sum(servers), any(gpus), sum(input_tokens), sum(output_tokens), sum(requests), round(sum(output_tokens_per_second_per_gpu), 3) FROM token_rates WHERE hour = '2026-11-26 10:00:00' AND engine != 'sglang' GROUP BY ALL ORDER BY deployment, model"
	f.want(t, rates,
		"2026-11-26 10:00:00\talone\tm\tvllm\tserver\t1\t1\t70\t30\t1\t0.05\n"+ // its gateway could not be read
			"2026-11-26 10:00:00\tbehind\tm\tdynamo\tgateway\t1\t\\N\t16420\t9000\t100\t\\N\n"+
			"2026-11-26 10:00:00\tbehind\tother\tdynamo\tgateway\t1\t\\N\t1\t2\t3\t\\N\n"+
			"2026-11-26 10:00:00\tsplit\tm\tvllm\tserver\t2\t4\t16420\t9000\t100\t3.75\n"+
			"2026-11-26 10:00:00\t\\N\tm\tvllm\tserver\t2\t1\t190\t100\t2\t0.167")
}
