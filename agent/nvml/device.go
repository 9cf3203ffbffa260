// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"cmp"
	"slices"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// device is one GPU. As package gpu has it, one goroutine at a time calls it: that one owns the
// buffers.
type device struct {
	driver  *Driver
	raw     nvml.Device // what events name it by
	handle  handle
	uuid    string
	address string            // PCI address when it was first seen; "" if unknown
	request []nvml.FieldValue // reused by each call of Fields
	profile profile

	instances map[string]gpu.Instance // MIG instances that were seen, by UUID
	parts     map[string]*part        // and those that are there now, as devices
}

var (
	_ gpu.Device   = (*device)(nil)
	_ gpu.Profiler = (*device)(nil)
	_ gpu.Ring     = (*device)(nil)
)

// UUID names the GPU, as it did when it was first seen.
func (d *device) UUID() string { return d.uuid }

// Fields answers many fields in one driver call, without allocating once its buffer has grown.
func (d *device) Fields(values []gpu.FieldValue) gpu.Return {
	if !d.driver.life.enter() {
		return gpu.Uninitialized
	}
	defer d.driver.life.leave()
	return d.fields(values)
}

func (d *device) fields(values []gpu.FieldValue) gpu.Return {
	if !d.driver.symbols.has("GetFieldValues") {
		return gpu.FunctionNotFound
	}
	if len(values) == 0 {
		return gpu.Success
	}
	d.request = slices.Grow(d.request[:0], len(values))[:len(values)]
	for i := range values {
		// An entry that the driver does not touch must not look like a zero that was read.
		d.request[i] = nvml.FieldValue{
			FieldId: values[i].FieldID, ScopeId: values[i].ScopeID, NvmlReturn: uint32(nvml.ERROR_UNKNOWN),
		}
	}
	ret := gpu.Return(d.handle.GetFieldValues(d.request))
	if !ret.OK() {
		return ret
	}
	for i := range values {
		answer := &d.request[i]
		values[i].Return = gpu.Return(answer.NvmlReturn)
		values[i].Type = gpu.ValueType(answer.ValueType)
		values[i].Bytes = answer.Value
	}
	return gpu.Success
}

// Samples reads a ring buffer.
func (d *device) Samples(kind gpu.RingKind, since uint64, into []gpu.RingSample) ([]gpu.RingSample, gpu.Return) {
	if !d.driver.life.enter() {
		return into, gpu.Uninitialized
	}
	defer d.driver.life.leave()

	if !d.driver.symbols.has("GetSamples") {
		return into, gpu.FunctionNotFound
	}
	valueType, samples, ret := d.handle.GetSamples(nvml.SamplingType(kind), since)
	if ret != nvml.SUCCESS {
		return into, gpu.Return(ret)
	}
	start := len(into)
	for _, sample := range samples {
		// The driver may hand out older ones too, and slots that it has not filled yet: their time is 0.
		if sample.TimeStamp <= since {
			continue
		}
		value := gpu.FieldValue{Type: gpu.ValueType(valueType), Bytes: sample.SampleValue}
		if number, ok := value.Int(); ok {
			into = append(into, gpu.RingSample{DriverTimeMicroseconds: sample.TimeStamp, Value: number})
		}
	}
	// nvml.h does not promise an order.
	slices.SortStableFunc(into[start:], func(a, b gpu.RingSample) int {
		return cmp.Compare(a.DriverTimeMicroseconds, b.DriverTimeMicroseconds)
	})
	return into, gpu.Success
}
