// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// figure is a reading of the capture, with the tolerance that differences between single GPUs ask for.
type figure struct {
	name      string
	captured  float64
	tolerance float64
	read      func(r *rig) float64
}

func fieldFigure(name string, divide float64) func(*rig) float64 {
	return func(r *rig) float64 { return float64(r.field(0, name)) / divide }
}

func getterFigure(getter gpu.Getter, part int, divide float64) func(*rig) float64 {
	return func(r *rig) float64 { return float64(r.get(0, getter)[part]) / divide }
}

// compare takes the mean over several nodes and holds it against the capture.
func compare(t *testing.T, figures []figure, rigs []*rig) {
	t.Helper()
	for _, f := range figures {
		sum := 0.0
		for _, r := range rigs {
			sum += f.read(r)
		}
		mean := sum / float64(len(rigs))
		if math.Abs(mean-f.captured) > f.tolerance {
			t.Errorf("%s: %.2f, captured %.2f ± %.2f", f.name, mean, f.captured, f.tolerance)
		}
	}
}

func rigsOf(t *testing.T, cfg NodeConfig) []*rig {
	t.Helper()
	rigs := make([]*rig, 24)
	for i := range rigs {
		cfg.Seed = uint64(i) + 1
		rigs[i] = newRig(t, cfg)
	}
	return rigs
}

// The figures are those of the H100 capture (utkuozdemir/nvidia_gpu_exporter, driver 590.48.01), idle.
func TestIdleH100IsNearTheCapture(t *testing.T) {
	rigs := rigsOf(t, NodeConfig{Model: H100, Workload: Idle})
	for _, r := range rigs {
		r.pass(10 * time.Second)
	}
	compare(t, []figure{
		{"average power, W", 69.85, 2, fieldFigure("DEV_POWER_AVERAGE", 1000)},
		{"instant power, W", 69.62, 2, fieldFigure("DEV_POWER_INSTANT", 1000)},
		{"power limit, W", 700, 0, fieldFigure("DEV_POWER_CURRENT_LIMIT", 1000)},
		{"lowest power limit, W", 200, 0, fieldFigure("DEV_POWER_MIN_LIMIT", 1000)},
		{"temperature, °C", 41, 1.5, getterFigure(gpu.GetTemperature, 0, 1)},
		{"memory temperature, °C", 47.5, 1.5, fieldFigure("DEV_MEMORY_TEMP", 1)},
		{"margin, °C", 46, 1.5, getterFigure(gpu.GetMarginTemperature, 0, 1)},
		{"shutdown margin, °C", -8, 0, fieldFigure("DEV_TEMPERATURE_SHUTDOWN_TLIMIT", 1)},
		{"slowdown margin, °C", -2, 0, fieldFigure("DEV_TEMPERATURE_SLOWDOWN_TLIMIT", 1)},
		{"SM clock, MHz", 345, 0, getterFigure(gpu.GetClockSM, 0, 1)},
		{"memory clock, MHz", 2619, 0, getterFigure(gpu.GetClockMemory, 0, 1)},
		{"event reasons", 1, 0, getterFigure(gpu.GetClocksEventReasons, 0, 1)},
		{"GPU utilization, %", 0, 0, getterFigure(gpu.GetUtilizationRates, 0, 1)},
		{"memory utilization, %", 0, 0, getterFigure(gpu.GetUtilizationRates, 1, 1)},
		{"memory, MiB", 81559, 0, getterFigure(gpu.GetMemoryInfo, 0, mebibyte)},
		{"memory reserved, MiB", 479, 0, getterFigure(gpu.GetMemoryInfo, 1, mebibyte)},
		{"memory used, MiB", 0, 0, getterFigure(gpu.GetMemoryInfo, 3, mebibyte)},
		{"BAR1 used, MiB", 1, 0, getterFigure(gpu.GetBAR1Memory, 2, mebibyte)},
		{"performance state", 0, 0, getterFigure(gpu.GetPerformanceState, 0, 1)},
		{"PCIe generation", 5, 0, getterFigure(gpu.GetPCIeLink, 0, 1)},
		{"link speed, MB/s", 26562, 0, fieldFigure("DEV_NVLINK_GET_SPEED", 1)},
	}, rigs)
}

// The same GPU after 13 s of gpu-burn, and what dmon showed some 10 s later.
func TestLoadedH100IsNearTheCapture(t *testing.T) {
	rigs := rigsOf(t, NodeConfig{Model: H100, Workload: Burn})
	for _, r := range rigs {
		b := &r.node.boards[0]
		b.die, b.hbm = b.spec.idleCelsius+b.inlet, b.spec.memoryIdleCelsius+b.inlet
		r.pass(13 * time.Second)
	}
	compare(t, []figure{
		{"average power, W", 629.45, 15, fieldFigure("DEV_POWER_AVERAGE", 1000)},
		{"instant power, W", 625.68, 25, fieldFigure("DEV_POWER_INSTANT", 1000)},
		{"temperature, °C", 59, 2, getterFigure(gpu.GetTemperature, 0, 1)},
		{"memory temperature, °C", 54.5, 2, fieldFigure("DEV_MEMORY_TEMP", 1)},
		{"margin, °C", 26, 2, getterFigure(gpu.GetMarginTemperature, 0, 1)},
		{"SM clock, MHz", 1980, 0, getterFigure(gpu.GetClockSM, 0, 1)},
		{"event reasons", 0, 0, getterFigure(gpu.GetClocksEventReasons, 0, 1)},
		{"GPU utilization, %", 100, 1, getterFigure(gpu.GetUtilizationRates, 0, 1)},
		{"memory utilization, %", 10, 1, getterFigure(gpu.GetUtilizationRates, 1, 1)},
		{"memory used, MiB", 19818, 20, getterFigure(gpu.GetMemoryInfo, 3, mebibyte)},
		{"BAR1 used, MiB", 19819, 20, getterFigure(gpu.GetBAR1Memory, 2, mebibyte)},
	}, rigs)
	for _, r := range rigs {
		r.pass(11 * time.Second)
	}
	compare(t, []figure{
		{"average power later, W", 634, 15, fieldFigure("DEV_POWER_AVERAGE", 1000)},
		{"temperature later, °C", 64.5, 2, getterFigure(gpu.GetTemperature, 0, 1)},
		{"memory temperature later, °C", 59, 2, fieldFigure("DEV_MEMORY_TEMP", 1)},
	}, rigs)
}

// powers reads the instant power of each GPU of the rigs once a second.
func powers(rigs []*rig, seconds int) [][]float64 {
	var series [][]float64
	for _, r := range rigs {
		series = append(series, make([][]float64, len(r.devices))...)
	}
	for range seconds {
		k := 0
		for _, r := range rigs {
			r.pass(time.Second)
			for i := range r.devices {
				series[k] = append(series[k], float64(r.field(i, "DEV_POWER_INSTANT")))
				k++
			}
		}
	}
	return series
}

func moments(x []float64) (mean, deviation float64) {
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		deviation += (v - mean) * (v - mean) / float64(len(x))
	}
	return mean, math.Sqrt(deviation)
}

func correlation(x, y []float64) float64 {
	meanX, deviationX := moments(x)
	meanY, deviationY := moments(y)
	sum := 0.0
	for i := range x {
		sum += (x[i] - meanX) * (y[i] - meanY)
	}
	return sum / float64(len(x)) / deviationX / deviationY
}

func TestJobMovesAllItsGPUsTogether(t *testing.T) {
	one := newRig(t, NodeConfig{Model: H100, Seed: 5})
	other := newRig(t, NodeConfig{Model: H100, Seed: 6})
	series := powers([]*rig{one, other}, 900)
	for i := 1; i < 8; i++ {
		if c := correlation(series[0], series[i]); c < 0.9 {
			t.Errorf("GPU 0 and GPU %d of one job: correlation %.3f", i, c)
		}
	}
	if c := correlation(series[0], series[8]); math.Abs(c) > 0.5 {
		t.Errorf("GPUs of two jobs: correlation %.3f", c)
	}
	lowest, highest := slices.Min(series[0]), slices.Max(series[0])
	if highest < 3*lowest {
		t.Errorf("power between %.0f and %.0f mW: a job has phases", lowest, highest)
	}
}

func TestEnergyIsTheIntegralOfPower(t *testing.T) {
	for model := A100; model <= GB200; model++ {
		r := newRig(t, NodeConfig{Model: model, Seed: 11})
		before := r.field(3, "DEV_TOTAL_ENERGY_CONSUMPTION")
		var since uint64
		joules, last := 0.0, before
		if samples, ret := r.ring(3, gpu.RingTotalPower, 0); ret.OK() {
			since = samples[len(samples)-1].DriverTimeMicroseconds
		}
		for range 600 {
			r.pass(time.Second)
			samples, ret := r.ring(3, gpu.RingTotalPower, since)
			if !ret.OK() {
				t.Fatalf("%v: power ring: %v", model, ret)
			}
			for _, s := range samples {
				joules += float64(s.Value) / 1000 * float64(specs[model].pace().power) / 1e6
			}
			since = samples[len(samples)-1].DriverTimeMicroseconds
			now := r.field(3, "DEV_ENERGY")
			if now <= last {
				t.Fatalf("%v: energy went from %d to %d mJ", model, last, now)
			}
			last = now
		}
		if counted := float64(last-before) / 1000; math.Abs(counted-joules) > 0.01*joules {
			t.Errorf("%v: the counter has %.1f J, the samples %.1f J", model, counted, joules)
		}
	}
}

func TestAverageIsSmootherThanInstant(t *testing.T) {
	r := newRig(t, NodeConfig{Model: H100, Seed: 2, Workload: Burn})
	var averages, instants []float64
	for range 200 {
		r.pass(time.Second)
		averages = append(averages, float64(r.field(0, "DEV_POWER_AVERAGE")))
		instants = append(instants, float64(r.field(0, "DEV_POWER_INSTANT")))
	}
	meanAverage, average := moments(averages)
	meanInstant, instant := moments(instants)
	if average > instant/2 {
		t.Errorf("deviation of the average %.0f mW, of the instant power %.0f mW", average, instant)
	}
	if math.Abs(meanAverage-meanInstant) > 0.02*meanInstant {
		t.Errorf("mean of the average %.0f mW, of the instant power %.0f mW", meanAverage, meanInstant)
	}
}

func TestPowerIsCappedAtTheLimit(t *testing.T) {
	r := newRig(t, NodeConfig{Model: B200, Seed: 4, Workload: Burn})
	hungry := 0 // the GPU that needs the most power for the same work
	for i := range r.node.boards {
		if r.node.boards[i].efficiency > r.node.boards[hungry].efficiency {
			hungry = i
		}
	}
	before := r.field(hungry, "DEV_PERF_POLICY_POWER")
	r.pass(10 * time.Second)
	if power := r.field(hungry, "DEV_POWER_AVERAGE"); power > 1_000_000 {
		t.Errorf("%d mW is above the limit of 1,000 W", power)
	}
	if reasons := r.get(hungry, gpu.GetClocksEventReasons)[0]; reasons&reasonPowerCap == 0 {
		t.Errorf("event reasons %#x lack the power cap", reasons)
	}
	if clock := r.get(hungry, gpu.GetClockSM)[0]; clock >= 1965 || clock < 1500 {
		t.Errorf("SM clock %d MHz: the cap takes some of 1965 MHz away", clock)
	}
	held := time.Duration(r.field(hungry, "DEV_PERF_POLICY_POWER") - before)
	if held < 5*time.Second || held > 10*time.Second {
		t.Errorf("held down for %v of 10 s", held)
	}
}

func TestHeatThrottlesAndPasses(t *testing.T) {
	r := newRig(t, NodeConfig{Model: H100, Seed: 9, Workload: Burn})
	before := r.field(2, "DEV_PERF_POLICY_THERMAL")
	r.inject(Fault{Kind: Overheat, GPU: 2, Celsius: 30, For: 2 * time.Minute})
	r.pass(115 * time.Second)
	if reasons := r.get(2, gpu.GetClocksEventReasons)[0]; reasons&reasonSoftwareThermal == 0 {
		t.Errorf("event reasons %#x lack software thermal slowdown", reasons)
	}
	if clock := r.get(2, gpu.GetClockSM)[0]; clock > 1900 {
		t.Errorf("SM clock %d MHz while there is no margin left", clock)
	}
	if margin := r.get(2, gpu.GetMarginTemperature)[0]; margin > 5 || margin < -8 {
		t.Errorf("margin %d °C: throttling holds it near 0", margin)
	}
	throttled := r.field(2, "DEV_PERF_POLICY_THERMAL") - before
	if slowed := r.field(2, "DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN"); throttled <= 0 || slowed <= 0 {
		t.Errorf("thermal counters advanced by %d and %d ns", throttled, slowed)
	}
	if clock := r.get(3, gpu.GetClockSM)[0]; clock != 1980 {
		t.Errorf("the neighbour runs at %d MHz", clock)
	}
	r.pass(3 * time.Minute)
	if clock := r.get(2, gpu.GetClockSM)[0]; clock != 1980 {
		t.Errorf("SM clock %d MHz three minutes later", clock)
	}
}

// Some jobs have a GPU that is slower than its peers from the start.
func TestSomeJobsHaveAStraggler(t *testing.T) {
	for seed := range uint64(200) {
		r := newRig(t, NodeConfig{Model: H100, Seed: seed})
		j := &r.node.boards[0].job
		if j.straggler < 0 || j.phase(r.node.boards[0].quantum+quantaPerSecond) != phaseCompute {
			continue
		}
		r.pass(time.Second)
		slow, fast := int(j.straggler), int(j.straggler+1)%8
		ratio := float64(r.get(slow, gpu.GetClockSM)[0]) / float64(r.get(fast, gpu.GetClockSM)[0])
		if ratio > 0.95 {
			t.Errorf("seed %d: the straggler runs at %.2f of its neighbour's clock", seed, ratio)
		}
		if mine, other := r.node.boards[slow].demand.sm, r.node.boards[fast].demand.sm; mine > 0.95*other {
			t.Errorf("seed %d: SM active %.2f, its neighbour %.2f", seed, mine, other)
		}
		return
	}
	t.Error("no straggler in 200 jobs")
}

func TestSlowGPUFallsBehind(t *testing.T) {
	r := newRig(t, NodeConfig{Model: H200, Seed: 9, Workload: Burn})
	r.inject(Fault{Kind: SlowGPU, GPU: 5, Pace: 0.8})
	fast := r.profile(4, 10*time.Second, metricSM)[0]
	slow := r.profile(5, 10*time.Second, metricSM)[0]
	if slow > 0.85*fast {
		t.Errorf("SM active %.1f %%, its neighbour %.1f %%", slow, fast)
	}
	if clock := r.get(5, gpu.GetClockSM)[0]; clock > 1600 {
		t.Errorf("SM clock %d MHz at 0.8 of 1980 MHz", clock)
	}
}

func TestRequestsFollowTheDay(t *testing.T) {
	p := newPlan(7, Inference, 8, 0)
	level := func(hour int64) float64 {
		sum := 0.0
		for i := range int64(180) {
			j := p.jobAt(20_000*quantaPerDay + hour*3600*quantaPerSecond + i*servingSlot)
			sum += j.load / 180
		}
		return sum
	}
	if night, day := level(3), level(15); day < 2*night {
		t.Errorf("load %.2f by night, %.2f by day", night, day)
	}
}

func TestProfileAgreesWithTheCounters(t *testing.T) {
	r := newRig(t, NodeConfig{Model: H100, Seed: 5})
	read := func() float64 {
		v := r.ask(0, "DEV_NVLINK_THROUGHPUT_DATA_TX", gpu.ScopeAll)
		kibibytes, _ := v.Int()
		return float64(kibibytes) / 1024
	}
	before := read()
	rates := r.profile(0, 30*time.Second, metricNVLinkSent, metricTensor, metricTensorHMMA, metricTensorIMMA, metricSM)
	counted := (read() - before) / 30
	if math.Abs(rates[0]-counted) > 0.01*counted {
		t.Errorf("NVLink: %.0f MiB/s profiled, %.0f MiB/s counted", rates[0], counted)
	}
	if math.Abs(rates[1]-rates[2]-rates[3]) > 0.001 || rates[1] <= 0 || rates[4] <= rates[1] {
		t.Errorf("tensor %.1f %% = HMMA %.1f %% + IMMA %.1f %%, below SM %.1f %%", rates[1], rates[2], rates[3], rates[4])
	}
}

func TestPCIeCountersWrap(t *testing.T) {
	r := newRig(t, NodeConfig{Model: H100, Seed: 5})
	wraps, last := 0, r.field(0, "DEV_PCIE_COUNT_RX_BYTES")
	var moved int64
	before := r.node.boards[0].count.pcieGot
	for range 120 {
		r.pass(time.Second)
		v := r.ask(0, "DEV_PCIE_COUNT_RX_BYTES", 0)
		now, _ := v.Int()
		if v.Bits() != 32 {
			t.Fatalf("the counter has %d bits", v.Bits())
		}
		if now < last {
			wraps++
			now += 1 << 32
		}
		moved += now - last
		last = now % (1 << 32)
	}
	if wraps == 0 {
		t.Error("no wrap in two minutes")
	}
	if really := int64(r.node.boards[0].count.pcieGot - before); moved != really {
		t.Errorf("%d bytes by the wrapping counter, %d really", moved, really)
	}
}
