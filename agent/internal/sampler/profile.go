// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"math"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/schema"
)

// profile reads the GPM metrics, with the slow ones only if they are due: all are of the same window, which began with
// the tick before. A GPU that has none is not asked again; nor is a metric that it does not have. Without a window of
// more than 100 ms there are no values, and the row says so.
func (w *worker) profile(p *plan, slow bool) gpu.Return {
	profiler, ok := w.device.(gpu.Profiler)
	asked, call := p.profiles[:p.quick], callProfile
	if slow && len(p.profiles) > p.quick {
		asked, call = p.profiles, callProfiles
	}
	if !ok || len(asked) == 0 {
		return gpu.Success
	}
	if w.cut >= cutGPM {
		w.profileGap = true
		return gpu.Success
	}
	started := time.Now()
	_, ret := profiler.Profile(asked)
	w.called(call, 2, started) // and nvmlGpmMetricsGet
	switch {
	case ret.Unsupported():
		w.profileRefused(p, ret)
		return w.profile(p, slow)
	case w.ends(ret):
		return ret
	case ret == gpu.InUse, ret == gpu.InsufficientResources:
		w.burst.profiler = true
		w.quality |= schema.QualityProfileConflict
		return gpu.Success
	case ret == gpu.NotReady:
		w.quality |= schema.QualityProfileWindow
		return gpu.Success
	case !ret.OK():
		return gpu.Success
	}
	w.burst.profiler = false
	w.takeProfiles(p, len(asked))
	p.forgetProfiles()
	return gpu.Success
}

// takeProfiles takes the values of a window, of so many as were asked. Those of one that began before metrics were left out are of another
// time than the row; counters count all the same.
func (w *worker) takeProfiles(p *plan, asked int) {
	for _, s := range p.steps {
		kind := allMetrics()[s.metric].Kind
		if s.source.Kind == schema.FromProfile && s.first < asked && (!w.profileGap || kind == schema.Counter) {
			w.readings[s.metric] = profileReading(p.profiles[s.first], s.source, kind)
		}
	}
	if w.profileGap {
		w.quality |= schema.QualityProfileWindow
	}
	w.profileGap = false
}

// oldestProfiles ends the GPM metrics that every driver with GPM knows (NVML_GPM_METRIC_NVLINK_TOTAL_TX_PER_SEC).
const oldestProfiles = 61

// profileRefused gives up the metrics that came later than GPM itself, as the driver may refuse all for
// the one that it does not know; in the end it gives up GPM.
func (w *worker) profileRefused(p *plan, ret gpu.Return) {
	newer := false
	for i := range p.profiles {
		if p.profiles[i].MetricID > oldestProfiles {
			p.profiles[i].Return, newer = ret, true
		}
	}
	if !newer {
		for i := range p.profiles {
			p.profiles[i].Return = ret
		}
	}
	p.forgetProfiles()
}

// forgetProfiles drops the metrics that the GPU called unsupported, so that they cost no more.
func (p *plan) forgetProfiles() {
	gone := false
	for i := range p.profiles {
		gone = gone || p.profiles[i].Return.Unsupported()
	}
	if !gone {
		return
	}
	var profiles []gpu.ProfileValue
	quick := 0
	steps := p.steps[:0]
	for _, s := range p.steps {
		if s.source.Kind == schema.FromProfile {
			if p.profiles[s.first].Return.Unsupported() {
				continue
			}
			if s.first < p.quick {
				quick++
			}
			profiles = append(profiles, p.profiles[s.first])
			s.first = len(profiles) - 1
		}
		steps = append(steps, s)
	}
	p.profiles, p.quick, p.steps = profiles, quick, steps
}

// The greatest values that can be one: shares and rates, and counts.
const (
	mostLevel = 1 << 40
	mostCount = 1 << 62
)

func profileReading(v gpu.ProfileValue, source *schema.Source, kind schema.Kind) reading {
	if !v.Return.OK() || math.IsNaN(v.Value) || v.Value < 0 {
		return reading{}
	}
	if kind == schema.Counter {
		return reading{value: int64(v.Value), bits: 64, ok: v.Value < mostCount}
	}
	return reading{value: int64(math.Round(v.Value * float64(max(source.Multiply, 1)))), ok: v.Value < mostLevel}
}
