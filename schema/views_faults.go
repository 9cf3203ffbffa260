// SPDX-License-Identifier: Apache-2.0

package schema

import "fmt"

// A fault's trace is what fleet_fault_trace shows around it, whoever kept it: a sample names one fault at the most,
// and lies near several if they come together.
const (
	traceSecondsBefore = 120
	traceSecondsAfter  = 60
)

// fleetFaultTraceView joins each fault with the samples of its GPU. Of a fault that no GPU is known for, as of a
// switch, it has those that name it.
func fleetFaultTraceView() View {
	faults, samples := eventsTable(), subsecondTable()
	columns := []ViewColumn{
		{Name: ColumnFault, Type: "UInt64", Meaning: "Names the fault.", Expression: "f.fault_id"},
		{Name: "fault_ts", Type: TimeMilliseconds.ClickHouseType(), Meaning: "When the fault happened, or was first seen.", Expression: "f.ts"},
	}
	columns = append(columns, copiedAll(faults, "f", "kind", "xid", "severity")...)
	columns = append(columns, ViewColumn{
		Name: "seconds_after_fault", Type: "Float64", Unit: "s", Meaning: "When the sample was taken, from the fault on; negative before it.",
		Expression: "dateDiff('microsecond', f.ts, s.ts) / 1000000",
	})
	columns = append(columns, copiedAll(samples, "s", ColumnTime, ColumnGPU, "signal", "value")...)
	columns = append(columns, ViewColumn{
		Name: "burst", Type: "Bool", Meaning: "Whether the agent read it in a burst of 10 Hz; else the driver sampled it.", Expression: "ifNull(s.burst, 0) = 1",
	})
	columns = append(columns, copiedAll(samples, "s", ColumnNode, ColumnTenant, ColumnResidency)...)
	columns = append(columns, nameColumns()...)
	return View{
		Name: "fleet_fault_trace", Columns: columns,
		Meaning: fmt.Sprintf("What GPUs did within seconds around each fault, a row for each sample from %d s before it to %d s after it, as far as it was kept. Give fault_id, its gpu_id, and ranges of fault_ts and ts: without a gpu_id all GPUs' samples of that time are read.", traceSecondsBefore, traceSecondsAfter),
		From: `{gpu_subsecond} AS s
INNER JOIN (SELECT fault_id, ts, gpu_id, node_id, kind, xid, severity FROM {fleet_faults}) AS f ON s.node_id = f.node_id` + joinNames("s") + fmt.Sprintf(`
WHERE s.fault_id = f.fault_id OR s.gpu_id = f.gpu_id AND s.ts BETWEEN f.ts - INTERVAL %d SECOND AND f.ts + INTERVAL %d SECOND`, traceSecondsBefore, traceSecondsAfter),
	}
}
