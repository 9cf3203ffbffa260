// SPDX-License-Identifier: Apache-2.0

package nvml

/*
#cgo LDFLAGS: -ldl
#define _GNU_SOURCE
#include <dlfcn.h>

// As nvml.h has them: the handle is one pointer, a sample a time and a value of eight bytes each.
typedef struct { void *handle; } device_t;
typedef int (*get_samples_t)(device_t device, unsigned int kind, unsigned long long since, unsigned int *type, unsigned int *count, void *samples);

static void *find_samples(void) { return dlsym(RTLD_DEFAULT, "nvmlDeviceGetSamples"); }

static int get_samples(void *function, void *handle, unsigned int kind, unsigned long long since, unsigned int *type, unsigned int *count, void *samples) {
	device_t device = { handle };
	return ((get_samples_t)function)(device, kind, since, type, count, samples);
}
*/
import "C"

import (
	"reflect"
	"unsafe"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// samplesCall reads a device's rings with one call each. go-nvml asks the driver for the number of samples before
// each time, and makes a slice for them; but what a ring holds does not change. It belongs to the goroutine that
// calls the device.
type samplesCall struct {
	function, device unsafe.Pointer
	rings            map[nvml.SamplingType][]nvml.Sample
	kind, count      C.uint // what a call writes into
}

// newSamplesCall finds the function in the library that go-nvml has loaded, and the driver's own handle in go-nvml's.
// It is nil if either is not as expected.
func newSamplesCall(device nvml.Device) *samplesCall {
	value := reflect.ValueOf(device)
	if value.Kind() != reflect.Struct || value.NumField() != 1 || value.Field(0).Kind() != reflect.Pointer {
		return nil
	}
	function := C.find_samples()
	if function == nil {
		return nil
	}
	return &samplesCall{function: function, device: value.Field(0).UnsafePointer(), rings: make(map[nvml.SamplingType][]nvml.Sample)}
}

// leastRing is room for a good deal more than any driver has been seen to keep (120 samples), should it tell how many
// there are now and not how many there can be.
const leastRing = 512

// get reads a ring. The samples are valid until the next call for it.
func (c *samplesCall) get(ring nvml.SamplingType, since uint64) (nvml.ValueType, []nvml.Sample, nvml.Return) {
	if len(c.rings[ring]) > 0 {
		kind, samples, ret := c.fill(ring, since)
		if ret != nvml.ERROR_INSUFFICIENT_SIZE {
			return kind, samples, ret
		}
	}
	c.count = 0
	ret := nvml.Return(C.get_samples(c.function, c.device, C.uint(ring), 0, &c.kind, &c.count, nil))
	if ret != nvml.SUCCESS || c.count == 0 {
		return 0, nil, ret
	}
	c.rings[ring] = make([]nvml.Sample, max(2*int(c.count), leastRing))
	return c.fill(ring, since)
}

func (c *samplesCall) fill(ring nvml.SamplingType, since uint64) (nvml.ValueType, []nvml.Sample, nvml.Return) {
	samples := c.rings[ring]
	c.count = C.uint(len(samples))
	ret := nvml.Return(C.get_samples(c.function, c.device, C.uint(ring), C.ulonglong(since), &c.kind, &c.count, unsafe.Pointer(&samples[0])))
	if ret != nvml.SUCCESS {
		return 0, nil, ret
	}
	n := min(int(c.count), len(samples))
	if n == len(samples) {
		delete(c.rings, ring) // there may be more: measure it anew
	}
	return nvml.ValueType(c.kind), samples[:n], ret
}
