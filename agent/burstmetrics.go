// SPDX-License-Identifier: Apache-2.0

package agent

// burstCounters are the metrics of bursts and traces.
func burstCounters() []instrument {
	return []instrument{
		{"gpufleet.agent.bursts", "Orders for a GPU to be read at 10 Hz that were obeyed.", func(s Stats) int64 { return int64(s.Bursts) }},
		{"gpufleet.agent.bursts.refused", "Orders for a GPU to be read at 10 Hz that were refused.", func(s Stats) int64 { return int64(s.BurstsRefused) }},
		{"gpufleet.agent.burst.reads", "Reads of GPUs at 10 Hz.", func(s Stats) int64 { return int64(s.BurstReads) }},
		{"gpufleet.agent.burst.reads.skipped", "Reads at 10 Hz that were left out, because the GPU was busy or a tick was near.", func(s Stats) int64 { return int64(s.BurstReadsSkipped) }},
		{"gpufleet.agent.traced.samples", "Sub-second samples that were sent for no other reason than that they lie around a fault.", func(s Stats) int64 { return int64(s.TracedSamples) }},
	}
}
