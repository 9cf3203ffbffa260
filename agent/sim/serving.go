// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"strings"
)

// What one GPU of a server answers at full load, in tokens per second, and how prompts relate to it.
const (
	answersPerSecond = 900
	promptsPerAnswer = 4    // tokens of prompts for each of an answer
	cachedShare      = 0.35 // of the prompts
	tokensPerRequest = 320  // of an answer
)

// MetricsPage is the page of metrics of a pod that serves, as vLLM writes it: counters since the pod started, which grow
// with the load that its GPUs show.
func (n *Node) MetricsPage(p *Pod) string {
	now := n.now().UnixNano() / int64(quantum)
	answers := n.plan.served(p.Started.UnixNano()/int64(quantum), now) * answersPerSecond * float64(len(p.GPUs))
	prompts := answers * promptsPerAnswer
	cached := uint64(prompts * cachedShare)
	load := n.plan.load(now, hash(n.plan.seed, uint64(now/servingSlot)))
	var page strings.Builder
	line := func(kind, name, labels string, value uint64) {
		fmt.Fprintf(&page, "# TYPE vllm:%s %s\nvllm:%[1]s{engine=\"0\",model_name=%[3]q%[4]s} %[5]d\n", name, kind, p.Model, labels, value)
	}
	fmt.Fprintf(&page, "process_start_time_seconds %d\n", p.Started.Unix())
	line("counter", "prompt_tokens_total", "", uint64(prompts))
	line("counter", "prompt_tokens_by_source_total", `,source="local_compute"`, uint64(prompts)-cached)
	fmt.Fprintf(&page, "vllm:prompt_tokens_by_source_total{engine=\"0\",model_name=%q,source=\"local_cache_hit\"} %d\n", p.Model, cached)
	line("counter", "generation_tokens_total", "", uint64(answers))
	line("counter", "request_success_total", `,finished_reason="stop"`, uint64(answers/tokensPerRequest))
	line("gauge", "num_requests_running", "", uint64(24*load*float64(len(p.GPUs))))
	line("gauge", "num_requests_waiting", "", uint64(max(0, load-0.9)*40))
	return page.String()
}

// served is the load between two quanta, summed over its slots, in seconds of full load.
func (p *plan) served(from, to int64) (seconds float64) {
	for slot := from / servingSlot; slot*servingSlot < to; slot++ {
		begin, end := max(from, slot*servingSlot), min(to, (slot+1)*servingSlot)
		load := min(1, p.load(slot*servingSlot, hash(p.seed, uint64(slot))))
		seconds += load * float64(end-begin) * secondsPerQuanta
	}
	return seconds
}
