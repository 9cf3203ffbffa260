// SPDX-License-Identifier: Apache-2.0

package schema_test

import (
	"testing"

	"github.com/gpufleet/gpufleet/schema"
)

// TestTokenCost reckons by hand: "split" has two GPUs at 2.50 and one at 4.00 for an hour, so 9.00, of which 6.50 worked,
// for 16,420 tokens of prompts and 9,000 of answers; 9.00 / 25,420 is 354.0519… for a million. "unpriced" has a GPU that
// nobody knows a price of, "two" is paid in two currencies, and "quiet" gave no tokens.
func TestTokenCost(t *testing.T) {
	f := newFleet(t)
	f.known(t)
	builds := "account_builds"
	if f.cluster != nil { // a shard's own
		builds = schema.LocalDatabase(f.Name) + "." + builds
	}
	const hour = "'2026-11-26 10:00:00'"
	f.exec(t, `INSERT INTO account_hours (ts, version, node_id, owner_kind, deployment, team, provider, region, gpu_model, price_per_gpu_hour, currency, basis, inventory_milliseconds, productive_milliseconds, allocated_idle_milliseconds, energy_millijoules) VALUES
		(`+hour+`, 6, 7, 'kubernetes', 'split', 'search', 'aws', 'us-east-1', 'H100', 99, 'USD', 'list', 3600000, 0, 3600000, 0),
		(`+hour+`, 7, 7, 'kubernetes', 'split', 'search', 'aws', 'us-east-1', 'H100', 2.5, 'USD', 'list', 7200000, 3600000, 3600000, 2000000000),
		(`+hour+`, 7, 8, 'kubernetes', 'split', 'search', 'gcp', 'us-east4', 'H100', 4, 'USD', 'list', 3600000, 3600000, 0, 542000000),
		(`+hour+`, 7, 7, 'kubernetes', 'unpriced', 'search', 'aws', 'us-east-1', 'H100', 2.5, 'USD', 'list', 3600000, 3600000, 0, NULL),
		(`+hour+`, 7, 8, 'kubernetes', 'unpriced', 'search', 'aws', 'us-east-1', 'H100', NULL, NULL, NULL, 3600000, 0, 3600000, NULL),
		(`+hour+`, 7, 7, 'kubernetes', 'two', NULL, 'aws', 'us-east-1', 'H100', 2.5, 'USD', 'list', 3600000, 3600000, 0, NULL),
		(`+hour+`, 7, 8, 'kubernetes', 'two', NULL, 'aws', 'eu-west-1', 'H100', 2.5, 'EUR', 'list', 3600000, 3600000, 0, NULL),
		(`+hour+`, 7, 7, 'kubernetes', 'quiet', NULL, 'aws', 'us-east-1', 'H200', 5, 'USD', 'contracted', 1800000, 0, 1800000, NULL),
		(`+hour+`, 7, 7, 'none', NULL, NULL, 'aws', 'us-east-1', 'H100', 2.5, 'USD', 'list', 3600000, 0, 0, NULL)`)
	f.exec(t, "INSERT INTO "+builds+" (ts, version, recorded_at) VALUES ("+hour+", 7, now64(3))")
	const at = "toDateTime64('2026-11-26 10:30:00', 3, 'UTC')"
	f.exec(t, `INSERT INTO token_samples (ts, node_id, server, engine, model, role, deployment, interval_milliseconds, input_tokens_delta, input_cached_tokens_delta, output_tokens_delta, trained_tokens_delta, source) VALUES
		(`+at+`, 7, 'p:8000', 'vllm', 'm', 'prefill', 'split', 1800000, 16420, 20, 100, NULL, 'scrape'),
		(`+at+`, 8, 'd:8000', 'vllm', 'm', 'decode', 'split', 1800000, 16420, 16164, 9000, NULL, 'scrape'),
		(`+at+`, 7, 'u:8000', 'vllm', 'm', 'both', 'unpriced', 1800000, 10, NULL, 10, NULL, 'scrape'),
		(`+at+`, 7, 't:8000', 'training', 'm', NULL, 'two', 1800000, NULL, NULL, NULL, 1000000, 'scrape'),
		(`+at+`, 7, 't:8001', 'vllm', 'n', 'both', 'two', 1800000, 0, NULL, 0, NULL, 'scrape')`)
	const of = " FROM fleet_token_cost WHERE hour = " + hour + " ORDER BY deployment"
	f.want(t, "SELECT deployment, held_gpu_hours, productive_gpu_hours, held_cost, compute_cost, input_tokens, output_tokens, trained_tokens, round(blended_cost_per_million_tokens, 6), output_cost_per_million_tokens, round(compute_cost_per_million_tokens, 6), joules_per_token"+of,
		"quiet\t0.5\t0\t2.5\t0\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\n"+
			"split\t3\t2\t9\t6.5\t16420\t9000\t\\N\t354.051928\t1000\t255.70417\t100\n"+
			"two\t2\t2\t\\N\t\\N\t0\t0\t1000000\t\\N\t\\N\t\\N\t\\N\n"+
			"unpriced\t2\t1\t\\N\t\\N\t10\t10\t\\N\t\\N\t\\N\t\\N\t\\N")
	f.want(t, "SELECT deployment, team, provider, region, gpu_model, model, engine, counted_by, currency, basis, input_cached_tokens, covered_seconds"+of,
		"quiet\t\\N\taws\tus-east-1\tH200\t\\N\t\\N\t\\N\tUSD\tcontracted\t\\N\t\\N\n"+
			"split\tsearch\t\\N\t\\N\tH100\tm\tvllm\tserver\tUSD\tlist\t20\t1800\n"+
			"two\t\\N\taws\t\\N\tH100\t\\N\t\\N\tserver\t\\N\tlist\t\\N\t1800\n"+
			"unpriced\tsearch\taws\tus-east-1\tH100\tm\tvllm\tserver\t\\N\t\\N\t\\N\t1800")
}
