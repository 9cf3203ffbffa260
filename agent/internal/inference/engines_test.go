// SPDX-License-Identifier: Apache-2.0

package inference

import (
	"testing"
	"time"
)

// TestEachEngine has a page of each engine, and the same half a minute later.
func TestEachEngine(t *testing.T) {
	const qwen, llama, deepseek = `model_name="qwen3-32b"`, `{model_name="meta-llama/Llama-3.1-8B-Instruct"}`, `{engine_type="decode",model_name="deepseek-r1"}`
	tests := []struct {
		page         string
		later        []string
		first, wants string
	}{
		{
			"vllm-0.6",
			[]string{`vllm:prompt_tokens_total` + llama + ` 1.0005e+06`, `vllm:generation_tokens_total` + llama + ` 250100.0`, `vllm:request_success_total{finished_reason="length",model_name="meta-llama/Llama-3.1-8B-Instruct"} 103.0`},
			"server=s:8000 engine=vllm model=meta-llama/Llama-3.1-8B-Instruct requests_running=5 requests_waiting=2",
			"server=s:8000 engine=vllm model=meta-llama/Llama-3.1-8B-Instruct interval_milliseconds=30000 input_tokens=500 output_tokens=100 requests=3 requests_running=5 requests_waiting=2",
		},
		{
			"vllm",
			[]string{
				`vllm:prompt_tokens_total{engine="0",` + qwen + `} 10600.0`, `vllm:prompt_tokens_by_source_total{engine="0",` + qwen + `,source="local_compute"} 6300.0`,
				`vllm:prompt_tokens_by_source_total{engine="0",` + qwen + `,source="local_cache_hit"} 3200.0`, `vllm:prompt_tokens_by_source_total{engine="0",` + qwen + `,source="external_kv_transfer"} 1100.0`,
				`vllm:generation_tokens_total{engine="0",` + qwen + `} 5040.0`, `vllm:generation_tokens_total{engine="1",` + qwen + `} 6002.0`,
				`vllm:spec_decode_num_draft_tokens_total{engine="0",` + qwen + `} 3656.0`, `vllm:spec_decode_num_accepted_tokens_total{engine="0",` + qwen + `} 1675.0`,
				`vllm:request_success_total{engine="0",finished_reason="stop",` + qwen + `} 41.0`,
			},
			"server=s:8000 engine=vllm model=qwen3-32b requests_running=7 requests_waiting=1",
			"server=s:8000 engine=vllm model=qwen3-32b interval_milliseconds=30000 input_tokens=600 input_computed_tokens=300 input_cached_tokens=200 input_transferred_tokens=100 output_tokens=42 draft_rejected_tokens=40 requests=1 requests_running=7 requests_waiting=1",
		},
		{
			"sglang",
			[]string{
				`sglang:prompt_tokens_total` + deepseek + ` 8.129902e+06`, `sglang:cached_tokens_total{cache_source="device",engine_type="decode",model_name="deepseek-r1"} 4300.0`,
				`sglang:cached_tokens_total{cache_source="host",engine_type="decode",model_name="deepseek-r1"} 1100.0`,
				`sglang:generation_tokens_total` + deepseek + ` 7.557672e+06`, `sglang:num_requests_total` + deepseek + ` 7571.0`,
			},
			"server=s:8000 engine=sglang model=deepseek-r1 role=decode requests_running=12 requests_waiting=1",
			"server=s:8000 engine=sglang model=deepseek-r1 role=decode interval_milliseconds=30000 input_tokens=1000 input_computed_tokens=600 input_cached_tokens=400 output_tokens=100 requests=1 requests_running=12 requests_waiting=1",
		},
		{
			"tensorrt_llm",
			[]string{`trtllm_prompt_tokens_total{engine_type="trtllm",model_name="nemotron-nano-3"} 1900.0`, `trtllm_generation_tokens_total{engine_type="trtllm",model_name="nemotron-nano-3"} 60.0`},
			"server=s:8000 engine=tensorrt_llm model=nemotron-nano-3 requests_running=6 requests_waiting=7",
			"server=s:8000 engine=tensorrt_llm model=nemotron-nano-3 interval_milliseconds=30000 input_tokens=100 input_computed_tokens=100 input_cached_tokens=0 output_tokens=30 requests=0 requests_running=6 requests_waiting=7",
		},
		{
			"triton",
			[]string{`nv_llm_input_token_len_sum{model="tensorrt_llm",response_metric_type="total_input_tokens",version="1"} 128100`, `nv_inference_request_success{model="tensorrt_llm",version="1"} 502`, `nv_inference_request_success{model="ensemble",version="1"} 502`},
			"server=s:8000 engine=triton model=tensorrt_llm requests_running=4 requests_waiting=1",
			"server=s:8000 engine=triton model=tensorrt_llm interval_milliseconds=30000 input_tokens=100 output_tokens=0 requests=2 requests_running=4 requests_waiting=1",
		},
		{
			"tgi",
			[]string{`tgi_request_input_length_sum 18100`, `tgi_request_generated_tokens_sum 12600`, `tgi_request_success 151`},
			"server=s:8000 engine=tgi requests_running=3 requests_waiting=2",
			"server=s:8000 engine=tgi interval_milliseconds=30000 input_tokens=100 output_tokens=100 requests=1 requests_running=3 requests_waiting=2",
		},
		{
			"dynamo",
			[]string{
				`dynamo_frontend_input_sequence_tokens_sum{model="kimi-k2.5"} 20000100`, `dynamo_frontend_cached_tokens_sum{model="kimi-k2.5"} 15000040`, `dynamo_frontend_output_tokens_total{model="kimi-k2.5"} 4500010`,
				`dynamo_frontend_requests_total{endpoint="completions",error_type="internal",model="kimi-k2.5",request_type="stream",status="error"} 41`,
			},
			"server=s:8000 engine=dynamo model=kimi-k2.5 role=gateway requests_running=12 requests_waiting=3",
			"server=s:8000 engine=dynamo model=kimi-k2.5 role=gateway interval_milliseconds=30000 input_tokens=100 input_computed_tokens=60 input_cached_tokens=40 output_tokens=10 requests=0 requests_running=12 requests_waiting=3",
		},
		{
			"llama_cpp",
			[]string{`llamacpp:prompt_tokens_total 17700`, `llamacpp:prompt_tokens_cached_total 700`, `llamacpp:tokens_predicted_total 1601`},
			"server=s:8000 engine=llama_cpp requests_running=2 requests_waiting=0",
			"server=s:8000 engine=llama_cpp interval_milliseconds=30000 input_tokens=55 input_computed_tokens=11 input_cached_tokens=44 output_tokens=1 requests_running=2 requests_waiting=0",
		},
		{
			"lmdeploy",
			[]string{`lmdeploy:prompt_tokens_total{engine="0",model_name="internlm3-8b"} 710.0`},
			"server=s:8000 engine=lmdeploy model=internlm3-8b requests_running=1 requests_waiting=0",
			"server=s:8000 engine=lmdeploy model=internlm3-8b interval_milliseconds=30000 input_tokens=10 output_tokens=0 requests=0 requests_running=1 requests_waiting=0",
		},
		{
			"training",
			[]string{`gpufleet_training_tokens_total{model="olmo-3-32b"} 4.198498304e+09`, `gpufleet_training_steps_total{model="olmo-3-32b"} 1001`, `gpufleet_training_lost_seconds_total{cause="checkpoint",model="olmo-3-32b"} 63.5`, `gpufleet_training_lost_seconds_total{cause="weather",model="olmo-3-32b"} 2`},
			"server=s:8000 engine=training model=olmo-3-32b",
			"server=s:8000 engine=training model=olmo-3-32b interval_milliseconds=30000 trained_tokens=4194304 training_steps=1 lost_startup_milliseconds=0 lost_checkpoint_milliseconds=2250 lost_other_milliseconds=1000",
		},
		{
			"triton-without-tokens",
			[]string{`nv_inference_request_success{model="resnet50",version="1"} 101`},
			"server=s:8000 engine=triton model=resnet50 reason=no_token_counters",
			"server=s:8000 engine=triton model=resnet50 interval_milliseconds=30000 requests=1 reason=no_token_counters",
		},
	}
	for _, tt := range tests {
		t.Run(tt.page, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				t.Helper()
				w.options.Servers = []Server{{URL: "http://s:8000/metrics"}}
				watcher := w.watcher()
				page := recorded(t, tt.page)
				w.set("http://s:8000/metrics", page)
				wantRows(t, w.look(watcher, 0), tt.first)
				w.set("http://s:8000/metrics", changed(t, page, tt.later...))
				wantRows(t, w.look(watcher, 30*time.Second), tt.wants)
			})
		})
	}
}

// TestNamesAreNotShared: a page with the metrics of two engines counts each once.
func TestNamesAreNotShared(t *testing.T) {
	owner := map[string]string{}
	for _, e := range engines() {
		for _, m := range e.metrics {
			for _, name := range m.names {
				if other := owner[name]; other != "" && other != e.name {
					t.Errorf("%s is of %s and of %s", name, other, e.name)
				}
				owner[name] = e.name
			}
		}
	}
}
