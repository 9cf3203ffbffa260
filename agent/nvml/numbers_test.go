// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"go/ast"
	"go/build"
	"strconv"
	"strings"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/schema"
)

// headerFields reads the field numbers of the header that go-nvml was made from.
func headerFields(t *testing.T) map[string]uint32 {
	t.Helper()
	found, err := build.Import("github.com/NVIDIA/go-nvml/pkg/nvml", ".", build.FindOnly)
	if err != nil {
		t.Fatal(err)
	}
	fields := make(map[string]uint32)
	for _, declaration := range parsePackage(t, found.Dir) {
		ast.Inspect(declaration, func(node ast.Node) bool {
			spec, ok := node.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			name, isField := strings.CutPrefix(spec.Names[0].Name, "FI_")
			if literal, ok := spec.Values[0].(*ast.BasicLit); ok && isField {
				id, err := strconv.ParseUint(literal.Value, 10, 32)
				if err != nil {
					t.Fatal(err)
				}
				fields[name] = uint32(id)
			}
			return true
		})
	}
	return fields
}

// TestFieldNumbers compares package gpu with the header, which has the newer numbering, for all that
// the schema reads.
func TestFieldNumbers(t *testing.T) {
	header := headerFields(t)
	if len(header) < 200 {
		t.Fatalf("only %d fields found in go-nvml", len(header))
	}
	for _, metric := range schema.Metrics() {
		for _, source := range metric.Sources {
			if source.Kind != schema.FromField && source.Kind != schema.FromFieldPerLink {
				continue
			}
			if id, ok := gpu.FieldID(source.Name, gpu.NewerNumbering); !ok || id != header[source.Name] {
				t.Errorf("%s: field %s is %d here and %d in the header", metric.Name, source.Name, id, header[source.Name])
			}
		}
	}
}

// TestNumbers compares the other numbers that package gpu takes over from NVML.
func TestNumbers(t *testing.T) {
	returns := map[gpu.Return]nvml.Return{
		gpu.Success: nvml.SUCCESS, gpu.Uninitialized: nvml.ERROR_UNINITIALIZED, gpu.InvalidArgument: nvml.ERROR_INVALID_ARGUMENT,
		gpu.NotSupported: nvml.ERROR_NOT_SUPPORTED, gpu.NoPermission: nvml.ERROR_NO_PERMISSION, gpu.NotFound: nvml.ERROR_NOT_FOUND,
		gpu.InsufficientSize: nvml.ERROR_INSUFFICIENT_SIZE, gpu.DriverNotLoaded: nvml.ERROR_DRIVER_NOT_LOADED,
		gpu.Timeout: nvml.ERROR_TIMEOUT, gpu.LibraryNotFound: nvml.ERROR_LIBRARY_NOT_FOUND,
		gpu.FunctionNotFound: nvml.ERROR_FUNCTION_NOT_FOUND, gpu.GPUIsLost: nvml.ERROR_GPU_IS_LOST,
		gpu.ResetRequired: nvml.ERROR_RESET_REQUIRED, gpu.LibRMVersion: nvml.ERROR_LIB_RM_VERSION_MISMATCH,
		gpu.NoData: nvml.ERROR_NO_DATA, gpu.DeprecatedVersion: nvml.ERROR_ARGUMENT_VERSION_MISMATCH,
		gpu.NotReady: nvml.ERROR_NOT_READY, gpu.GPUNotFound: nvml.ERROR_GPU_NOT_FOUND, gpu.Unknown: nvml.ERROR_UNKNOWN,
	}
	for ours, theirs := range returns {
		if uint32(ours) != uint32(theirs) {
			t.Errorf("%v is %d here and %d in NVML", ours, uint32(ours), uint32(theirs))
		}
	}
	pairs := map[string][2]uint64{
		"DoubleBitECC":   {uint64(gpu.EventDoubleBitECC), nvml.EventTypeDoubleBitEccError},
		"XID":            {uint64(gpu.EventXID), nvml.EventTypeXidCriticalError},
		"PowerSource":    {uint64(gpu.EventPowerSource), nvml.EventTypePowerSourceChange},
		"MIGConfig":      {uint64(gpu.EventMIGConfig), nvml.EventMigConfigChange},
		"SingleBitStorm": {uint64(gpu.EventSingleBitStorm), nvml.EventTypeSingleBitEccErrorStorm},
		"DRAMRetired":    {uint64(gpu.EventDRAMRetired), nvml.EventTypeDramRetirementEvent},
		"DRAMFailed":     {uint64(gpu.EventDRAMFailed), nvml.EventTypeDramRetirementFailure},
		"Unavailable":    {uint64(gpu.EventUnavailable), nvml.EventTypeGpuUnavailableError},
		"Recovery":       {uint64(gpu.EventRecovery), nvml.EventTypeGpuRecoveryAction},
		"power":          {uint64(gpu.RingTotalPower), uint64(nvml.TOTAL_POWER_SAMPLES)},
		"utilisation":    {uint64(gpu.RingGPUUtilization), uint64(nvml.GPU_UTILIZATION_SAMPLES)},
		"memory":         {uint64(gpu.RingMemoryUtilization), uint64(nvml.MEMORY_UTILIZATION_SAMPLES)},
		"clock":          {uint64(gpu.RingProcessorClock), uint64(nvml.PROCESSOR_CLK_SAMPLES)},
		"memory clock":   {uint64(gpu.RingMemoryClock), uint64(nvml.MEMORY_CLK_SAMPLES)},
		"module power":   {uint64(gpu.RingModulePower), uint64(nvml.MODULE_POWER_SAMPLES)},
		"double":         {uint64(gpu.TypeDouble), uint64(nvml.VALUE_TYPE_DOUBLE)},
		"uint32":         {uint64(gpu.TypeUint32), uint64(nvml.VALUE_TYPE_UNSIGNED_INT)},
		"long":           {uint64(gpu.TypeUnsignedLong), uint64(nvml.VALUE_TYPE_UNSIGNED_LONG)},
		"uint64":         {uint64(gpu.TypeUint64), uint64(nvml.VALUE_TYPE_UNSIGNED_LONG_LONG)},
		"int64":          {uint64(gpu.TypeInt64), uint64(nvml.VALUE_TYPE_SIGNED_LONG_LONG)},
		"int32":          {uint64(gpu.TypeInt32), uint64(nvml.VALUE_TYPE_SIGNED_INT)},
		"uint16":         {uint64(gpu.TypeUint16), uint64(nvml.VALUE_TYPE_UNSIGNED_SHORT)},
	}
	for name, pair := range pairs {
		if pair[0] != pair[1] {
			t.Errorf("%s is %d here and %d in NVML", name, pair[0], pair[1])
		}
	}
}
