// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"math"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/schema"
)

// reading is what came of the metric at the latest request.
type reading struct {
	value int64 // in the driver's unit; of a bit error rate the bits of a float64; of a GPM share per mille
	bits  int   // width of the counter
	ok    bool
}

func (w *worker) takeFields(p *plan) {
	for _, s := range p.steps {
		switch s.source.Kind {
		case schema.FromField, schema.FromFieldPerLink:
			w.readings[s.metric] = combine(p.fields[s.first:s.first+s.count], s.source)
		case schema.FromGetter, schema.FromProfile, schema.FromRing:
		}
	}
}

// combine makes one reading of the values of one field. If one of several links does not answer
// there is none: a sum without it would look like a reset.
func combine(values []gpu.FieldValue, source *schema.Source) reading {
	var r reading
	for i := range values {
		v, ok := decode(&values[i], source)
		if !ok {
			return reading{}
		}
		switch {
		case source.Decoding == schema.BitErrorRate:
			worse := max(math.Float64frombits(uint64(v)), math.Float64frombits(uint64(r.value)))
			r.value = int64(math.Float64bits(worse))
		case i == 0:
			r.value = v
		case source.Combine == schema.Max:
			r.value = max(r.value, v)
		case source.Combine == schema.Min:
			r.value = min(r.value, v)
		default:
			r.value += v
		}
		r.bits = values[i].Bits()
	}
	if len(values) > 1 {
		r.bits = 64 // a sum does not wrap where its parts do
	}
	r.ok = len(values) > 0
	return r
}

// decode reads one value; !ok is one that is not there.
func decode(value *gpu.FieldValue, source *schema.Source) (v int64, ok bool) {
	v, ok = value.Int()
	if !value.Return.OK() || !ok {
		return 0, false
	}
	switch source.Decoding {
	case schema.BitErrorRate:
		rate, ok := bitErrorRate(v)
		return int64(math.Float64bits(rate)), ok
	case schema.IsEqual:
		if v == source.Equal {
			return 1, true
		}
		return 0, true
	case schema.NotSet32:
		return v, v != math.MaxUint32
	case schema.Plain:
	}
	return v, true
}

func (w *worker) takeParts(p *plan, g gpu.Getter) {
	for _, s := range p.steps {
		if s.source.Kind == schema.FromGetter && s.getter == g {
			w.readings[s.metric] = reading{value: w.parts[s.source.Part], bits: 64, ok: true}
		}
	}
}
