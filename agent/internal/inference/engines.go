// SPDX-License-Identifier: Apache-2.0

package inference

import "github.com/gpufleet/gpufleet/schema"

// kind is what a counter counts, or a gauge shows.
type kind uint8

const (
	input       kind = iota // prompts, with cached and transferred tokens if the server counts them so
	computed                // of prompts: computed here
	cached                  // found in the server's own cache
	transferred             // taken from another server, or from a store
	output
	drafted  // guessed by a draft model
	accepted // of these: taken
	requests
	trained
	steps
	lost       // seconds that a training job lost, by the causes of the schema from here on
	running    = lost + kind(lossCauses)
	waiting    = running + 1
	kinds      = waiting + 1
	lossCauses = 6
)

// isGauge tells of a kind that goes up and down.
func (k kind) isGauge() bool { return k == running || k == waiting }

// tokens tells of a kind that counts tokens which somebody asked for.
func (k kind) tokens() bool { return k <= output || k == trained }

// metric is one name that an engine gives to a kind.
type metric struct {
	kind  kind
	names []string // in the order of preference: of those on a page the first counts
	// only are labels that a series must have, unless it lacks them: of series that tell the same of each rank, one counts.
	only map[string]string
	// must are labels that a series must have.
	must map[string]string
	// beyond is a label that must have none of these values.
	beyond map[string][]string
}

// engine is one program, and what it calls things.
type engine struct {
	name     string
	prefixes []string // of its metrics: a page with none of them is not its
	metrics  []metric
	model    []string          // labels that name the model, the first that is there counts
	roleIn   string            // label that tells the role; "" if none does
	roles    map[string]string // what it says there
	role     string            // of all its series; "" if it differs
	process  []string          // how its processes begin their names, as far as they hold GPUs
	beside   bool              // cached tokens are beside the others, and not among them
	source   string            // where the names were read
}

// engines lists those that are known, in the order of docs/tokens.md.
func engines() []engine {
	return []engine{vllm(), sglang(), tensorRT(), triton(), tgi(), dynamo(), llamaCPP(), lmdeploy(), ollama(), training()}
}

func one(k kind, names ...string) metric { return metric{kind: k, names: names} }

// vllm, versions 0 and 1. The prefix cache's own counters (prefix_cache_hits and the like) are left alone: they count a
// request anew at each step in which it waits.
func vllm() engine {
	from := func(k kind, source string) metric {
		return metric{kind: k, names: []string{"vllm:prompt_tokens_by_source_total"}, must: map[string]string{"source": source}}
	}
	return engine{
		name: "vllm", prefixes: []string{"vllm:"}, model: []string{"model_name"}, process: []string{"VLLM::", "vllm"},
		roleIn: "dynamo_component", roles: map[string]string{"prefill": schema.RolePrefill, "decode": schema.RoleDecode},
		metrics: []metric{
			one(input, "vllm:prompt_tokens_total"),
			from(computed, "local_compute"), from(cached, "local_cache_hit"), from(transferred, "external_kv_transfer"),
			one(output, "vllm:generation_tokens_total"),
			one(drafted, "vllm:spec_decode_num_draft_tokens_total"), one(accepted, "vllm:spec_decode_num_accepted_tokens_total"),
			one(requests, "vllm:request_success_total"), one(running, "vllm:num_requests_running"), one(waiting, "vllm:num_requests_waiting"),
		},
		source: "vllm/v1/metrics/loggers.py",
	}
}

// sglang counts requests when they end. Its schedulers tell the same gauges of each rank, if they are all asked to; those
// of rank 0 count. The separator of names became an underscore in some versions.
func sglang() engine {
	both := func(k kind, name string) metric { return one(k, "sglang:"+name, "sglang_"+name) }
	gauge := func(k kind, name string) metric {
		m := both(k, name)
		m.only = map[string]string{"tp_rank": "0", "pp_rank": "0", "moe_ep_rank": "0"}
		return m
	}
	return engine{
		name: "sglang", prefixes: []string{"sglang:", "sglang_"}, model: []string{"model_name"}, process: []string{"sglang"},
		roleIn: "engine_type", roles: map[string]string{"prefill": schema.RolePrefill, "decode": schema.RoleDecode, "unified": schema.RoleBoth},
		metrics: []metric{
			both(input, "prompt_tokens_total"), both(cached, "cached_tokens_total"), both(output, "generation_tokens_total"),
			both(requests, "num_requests_total"), gauge(running, "num_running_reqs"), gauge(waiting, "num_queue_reqs"),
		},
		source: "python/sglang/srt/metrics/collector.py",
	}
}

// tensorRT is trtllm-serve, and the workers of Dynamo that run TensorRT-LLM.
func tensorRT() engine {
	both := func(k kind, name string) metric { return one(k, "trtllm_"+name, "trtllm:"+name) }
	return engine{
		name: "tensorrt_llm", prefixes: []string{"trtllm_", "trtllm:"}, model: []string{"model_name", "model"}, process: []string{"trtllm"},
		roleIn: "dynamo_component", roles: map[string]string{"prefill": schema.RolePrefill, "decode": schema.RoleDecode},
		metrics: []metric{
			both(input, "prompt_tokens_total"), both(cached, "prompt_cached_tokens_total"), both(output, "generation_tokens_total"),
			both(drafted, "spec_decode_drafted_tokens_total"), both(accepted, "spec_decode_accepted_tokens_total"),
			both(requests, "request_success_total"), both(running, "num_requests_running"), both(waiting, "num_requests_waiting"),
		},
		source: "tensorrt_llm/metrics/collector.py",
	}
}

// triton counts tokens where its TensorRT-LLM backend does; its other models have requests alone.
func triton() engine {
	labelled := func(k kind, name, key, value string) metric {
		return metric{kind: k, names: []string{name}, must: map[string]string{key: value}}
	}
	return engine{
		name: "triton", prefixes: []string{"nv_inference_", "nv_trt_llm_", "nv_llm_"}, model: []string{"model"}, process: []string{"tritonserver"},
		metrics: []metric{
			labelled(input, "nv_llm_input_token_len_sum", "response_metric_type", "total_input_tokens"),
			labelled(output, "nv_llm_output_token_len_sum", "response_metric_type", "total_output_tokens"),
			one(requests, "nv_inference_request_success"),
			labelled(running, "nv_trt_llm_request_metrics", "request_type", "active"),
			labelled(waiting, "nv_trt_llm_request_metrics", "request_type", "waiting"),
		},
		source: "triton_backend: inflight_batcher_llm/src/custom_metrics_reporter",
	}
}

// tgi has histograms, whose sums are the counts.
func tgi() engine {
	return engine{
		name: "tgi", prefixes: []string{"tgi_"}, process: []string{"text-generation"},
		metrics: []metric{
			one(input, "tgi_request_input_length_sum"), one(output, "tgi_request_generated_tokens_sum"),
			one(requests, "tgi_request_success", "tgi_request_success_total"), one(running, "tgi_batch_current_size"), one(waiting, "tgi_queue_size"),
		},
		source: "docs: reference/metrics",
	}
}

// dynamo is the frontend, which sees each request once: the place to count where prefill and decode are apart.
func dynamo() engine {
	return engine{
		name: "dynamo", prefixes: []string{"dynamo_frontend_"}, model: []string{"model"}, role: schema.RoleGateway,
		metrics: []metric{
			one(input, "dynamo_frontend_input_sequence_tokens_sum"), one(cached, "dynamo_frontend_cached_tokens_sum"),
			one(output, "dynamo_frontend_output_tokens_total", "dynamo_frontend_output_sequence_tokens_sum"),
			{kind: requests, names: []string{"dynamo_frontend_requests_total"}, only: map[string]string{"status": "success"}},
			one(running, "dynamo_frontend_active_requests", "dynamo_frontend_inflight_requests"), one(waiting, "dynamo_frontend_queued_requests"),
		},
		source: "docs/observability/metrics.md",
	}
}

// llamaCPP counts the tokens that it has computed, and since August 2026 beside them those that it found in its cache.
func llamaCPP() engine {
	return engine{
		name: "llama_cpp", prefixes: []string{"llamacpp:"}, process: []string{"llama-server"}, model: []string{"model"}, beside: true,
		metrics: []metric{
			one(computed, "llamacpp:prompt_tokens_total"), one(cached, "llamacpp:prompt_tokens_cached_total"), one(output, "llamacpp:tokens_predicted_total"),
			one(drafted, "llamacpp:spec_decode_num_draft_tokens_total"), one(accepted, "llamacpp:spec_decode_num_accepted_tokens_total"),
			one(running, "llamacpp:requests_processing"), one(waiting, "llamacpp:requests_deferred"),
		},
		source: "tools/server/server.cpp",
	}
}

func lmdeploy() engine {
	return engine{
		name: "lmdeploy", prefixes: []string{"lmdeploy:"}, model: []string{"model_name"}, process: []string{"lmdeploy"},
		metrics: []metric{
			one(input, "lmdeploy:prompt_tokens_total"), one(output, "lmdeploy:generation_tokens_total"),
			one(drafted, "lmdeploy:spec_decode_num_draft_tokens_total"), one(accepted, "lmdeploy:spec_decode_num_accepted_tokens_total"),
			one(requests, "lmdeploy:request_success_total"), one(running, "lmdeploy:num_requests_running"), one(waiting, "lmdeploy:num_requests_waiting"),
		},
		source: "lmdeploy/metrics/loggers.py",
	}
}

// ollama has no page of metrics: its processes are known, so that they are not passed over in silence.
func ollama() engine { return engine{name: "ollama", process: []string{"ollama"}} }

// training is what jobs that train tell, in names of our own.
func training() engine {
	e := engine{
		name: "training", prefixes: []string{"gpufleet_training_"}, model: []string{"model"},
		metrics: []metric{one(trained, "gpufleet_training_tokens_total"), one(steps, "gpufleet_training_steps_total")},
		source:  "docs/tokens.md",
	}
	const name = "gpufleet_training_lost_seconds_total"
	var known []string
	for i, cause := range schema.LossCauses() {
		m := metric{kind: lost + kind(i), names: []string{name}, must: map[string]string{"cause": cause.Name}}
		if cause.Name == schema.LossOther { // what nobody foresaw is one of them
			m.must, m.beyond = nil, map[string][]string{"cause": known}
		}
		known = append(known, cause.Name)
		e.metrics = append(e.metrics, m)
	}
	return e
}
