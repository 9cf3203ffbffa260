// SPDX-License-Identifier: Apache-2.0

package schema

// Metrics is the table of all that is read of a GPU: first what is read each second, then what is
// read each minute. Sources, units and support are those of nvml.h (go-nvml v0.13.4-1); what is
// left out, and why, is in DESIGN.md.
func Metrics() []Metric {
	var all []Metric
	for _, group := range [][]Metric{
		activityMetrics, powerMetrics, throttleMetrics, trafficMetrics, profileMetrics, profileCounterMetrics,
		stateMetrics, limitMetrics, eccMetrics, remapMetrics, pcieMetrics, nvlinkMetrics, nvlink5Metrics(), fabricMetrics, smoothingMetrics,
	} {
		all = append(all, group...)
	}
	return all
}

// Hopper and later answer GPM; the names say which GPUs are meant.
const (
	hopper    = "H100 and later"
	blackwell = "B200, GB200"
	upToH200  = "A100, H100, H200"
	grace     = "GH200, GB200"
)

// Scopes of the power fields (nvml.h, NVML_POWER_SCOPE_*).
const (
	scopeGPU    = 0
	scopeModule = 1
	scopeMemory = 2
)

func field(name string) Source { return Source{Kind: FromField, Name: name} }

func scaled(s Source, multiply, divide int64) Source {
	s.Multiply, s.Divide = multiply, divide
	return s
}

func scoped(s Source, scope uint32) Source {
	s.Scope = scope
	return s
}

// allLinks asks a per-link field for the driver's own sum over the links.
func allLinks(name string) Source { return scoped(field(name), ^uint32(0)) }

func perLink(name string, combine Combine) Source {
	return Source{Kind: FromFieldPerLink, Name: name, Combine: combine}
}

// wraps32 marks a counter of 32 bits that wraps within seconds; rate is the metric of its speed.
func wraps32(s Source, rate string) Source {
	s.Wraps32, s.Rate = true, rate
	return s
}

// linksIn counts the links of which a field has the given value.
func linksIn(name string, state int64) Source {
	s := perLink(name, Sum)
	s.Decoding, s.Equal = IsEqual, state
	return s
}

// bitErrorRate is the rate of the worst link.
func bitErrorRate(name string) Source {
	s := perLink(name, Max)
	s.Decoding = BitErrorRate
	return s
}

// ifSet takes 2^32-1 for "not set".
func ifSet(s Source) Source {
	s.Decoding = NotSet32
	return s
}

func getter(symbol string, part int) Source {
	return Source{Kind: FromGetter, Name: symbol, Part: part}
}

func clock(domain string) Source {
	return Source{Kind: FromGetter, Name: "nvmlDeviceGetClockInfo", Argument: domain}
}

// profile is a GPM ratio: the driver answers in percent.
func profile(id uint32, name string) Source {
	return Source{Kind: FromProfile, Name: name, ID: id, Multiply: 10}
}

// profileCounter is a GPM count since the GPU was booted.
func profileCounter(id uint32, name string) Source {
	return Source{Kind: FromProfile, Name: name, ID: id}
}

// profileRate is a GPM rate: the driver answers in MiB/s.
func profileRate(id uint32, name string) Source {
	return Source{Kind: FromProfile, Name: name, ID: id}
}

// ring is what became of a ring buffer since the previous row.
func ring(id uint32, combine Combine) Source {
	return Source{Kind: FromRing, Name: ringNames[id], ID: id, Combine: combine}
}

// Numbers of the driver's ring buffers (nvml.h, nvmlSamplingType_t).
const (
	ringPower             = 0
	ringGPUUtilization    = 1
	ringMemoryUtilization = 2
	ringProcessorClock    = 5
	ringMemoryClock       = 6
	ringModulePower       = 7
)

var ringNames = map[uint32]string{
	ringPower: "TOTAL_POWER_SAMPLES", ringGPUUtilization: "GPU_UTILIZATION_SAMPLES", ringMemoryUtilization: "MEMORY_UTILIZATION_SAMPLES",
	ringProcessorClock: "PROCESSOR_CLK_SAMPLES", ringMemoryClock: "MEMORY_CLK_SAMPLES", ringModulePower: "MODULE_POWER_SAMPLES",
}

func from(sources ...Source) []Source { return sources }
