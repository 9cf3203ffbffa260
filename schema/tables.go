// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"fmt"
	"slices"
	"sync"
)

// Table ids on the wire and in the ledger. They are never reused.
const (
	SamplesID uint8 = iota + 1
	HealthID
	SubsecondID
	EventsID
	GPUInventoryID
	NodeInventoryID
	WorkloadID
	NetworkPortsID
	TokensID
)

// Columns that the code addresses by name.
const (
	ColumnTime         = "ts"
	ColumnGPU          = "gpu_id"
	ColumnNode         = "node_id"
	ColumnEpoch        = "epoch"
	ColumnSequence     = "seq"
	ColumnInterval     = "interval_milliseconds"
	ColumnCounterEpoch = "counter_epoch"
	ColumnQuality      = "quality"
	ColumnFault        = "fault_id"
	ColumnTenant       = "tenant"
	ColumnResidency    = "residency"
)

// Bits of the quality column.
const (
	QualityRing            = 1 << iota // the ring columns hold every driver sample since the previous row
	QualityOverrun                     // the ring was overwritten before it was read: samples are missing
	QualityIdleRing                    // a ring was empty, as on an idle GPU
	QualitySnapshot                    // utilisation or clocks are readings of this instant: their ring is empty or not there
	QualityProfileWindow               // no GPM values: their window was too short, or had just begun
	QualityProfileConflict             // no GPM values: they showed a busy GPU as idle, as when another profiler holds the counters
	QualityReduced                     // less was read than usual, because driver calls took too long
	QualityForeign                     // pushed by another program, at its own pace: interval_milliseconds tells which
)

// Tables lists every table that agents push, in the order of their ids. Callers must not change it.
func Tables() []Table { return builtTables() }

var builtTables = sync.OnceValue(func() []Table {
	tables := []Table{
		samplesTable(), healthTable(), subsecondTable(), eventsTable(), gpuInventoryTable(), nodeInventoryTable(),
		workloadTable(), networkPortsTable(), tokensTable(),
	}
	for i := range tables {
		tables[i].wire = arrowSchema(tables[i].WireColumns())
		tables[i].insert = arrowSchema(tables[i].Columns)
		tables[i].message = schemaMessage(tables[i])
	}
	return tables
})

// TableByID finds a pushed table by its id.
func TableByID(id uint8) (Table, bool) {
	tables := Tables()
	i := slices.IndexFunc(tables, func(t Table) bool { return t.ID == id })
	if i < 0 {
		return Table{}, false
	}
	return tables[i], true
}

// TableName is the name of a pushed table; "" of none.
func TableName(id uint8) string {
	t, _ := TableByID(id)
	return t.Name
}

// TableByName finds a pushed table by its name.
func TableByName(name string) (Table, bool) {
	tables := Tables()
	i := slices.IndexFunc(tables, func(t Table) bool { return t.Name == name })
	if i < 0 {
		return Table{}, false
	}
	return tables[i], true
}

// stamped are the columns that the collector sets at admission from the identity of the batch and from what its agent
// has proved: an agent cannot claim another one's rows, and they cost nothing on the wire. Tenant and residency are on
// each row, and not looked up by node, because rows stay those of the tenant that had the node then; they are not
// Nullable, because rollups have them in their key (docs/adr/012-tenants.md).
func stamped() []Column {
	return []Column{
		{Name: ColumnNode, Type: Uint64, Stamped: true, Meaning: "Node that the row comes from; key of node_inventory."},
		{Name: ColumnEpoch, Type: Uint64, Stamped: true, Meaning: "Life of the agent: the time at which it started, in milliseconds since 1970."},
		{Name: ColumnSequence, Type: Uint64, Stamped: true, Meaning: "Number of the batch within table, node and epoch, from 1 on without gaps."},
		{Name: ColumnTenant, Type: Name, Stamped: true, Meaning: "Whose node it was, as the agent proved by token or certificate when it sent the row; empty if it proved no tenant."},
		{Name: ColumnResidency, Type: Name, Stamped: true, Meaning: "Zone that the row may not leave, as the agent proved; empty if it proved none."},
	}
}

func gpuColumn() Column {
	return Column{Name: ColumnGPU, Type: Uint64, Meaning: "GPU or MIG instance: the first eight bytes of the SHA-256 of its UUID; key of gpu_inventory."}
}

func timeColumn(meaning string) Column {
	return Column{Name: ColumnTime, Type: TimeMilliseconds, Meaning: meaning}
}

// SamplesColumn is the column of gpu_samples that holds the metric: its level, or the increment of a
// counter. Metrics of TierMinute have none.
func (m Metric) SamplesColumn() (Column, bool) {
	if m.Tier != TierSecond {
		return Column{}, false
	}
	if m.Kind == Counter {
		return m.deltaColumn(), true
	}
	c := m.levelColumn()
	if m.Slow {
		c.Meaning += fmt.Sprintf(" Read each %d s, as it takes the driver milliseconds: NULL in the rows between.", SlowSeconds)
	}
	return c, true
}

// HealthColumns are the columns of gpu_health that hold the metric: the total of every counter, the
// increments of the counters that gpu_samples does not hold, and the levels of TierMinute.
func (m Metric) HealthColumns() []Column {
	switch {
	case m.Kind == Counter && m.Tier == TierSecond:
		return []Column{m.totalColumn()}
	case m.Kind == Counter:
		return []Column{m.totalColumn(), m.deltaColumn()}
	case m.Tier == TierMinute:
		return []Column{m.levelColumn()}
	default:
		return nil
	}
}

func (m Metric) levelColumn() Column {
	return Column{Name: m.Name, Type: m.Type, Nullable: true, Unit: m.Unit, OTel: m.OTel, Meaning: m.Meaning + m.answeredBy()}
}

// answeredBy says which GPUs answer, if not all do: on the others the column is NULL.
func (m Metric) answeredBy() string {
	if m.Requires == "" {
		return ""
	}
	return " Answered by " + m.Requires + "; else NULL."
}

func (m Metric) totalColumn() Column {
	c := m.levelColumn()
	c.Name, c.Type, c.Counter = m.Name+"_total", Uint64, true
	return c
}

// deltaColumn is wide enough for a whole minute of the fastest counter.
func (m Metric) deltaColumn() Column {
	c := m.levelColumn()
	c.Name, c.Counter = m.Name+"_delta", false
	c.Meaning = "Increment since the previous row, resets taken care of. " + c.Meaning
	if m.Slow {
		c.Meaning += fmt.Sprintf(" Read each %d s, and when clocks begin or cease to be held down: the increment is since the latest row that has one, and NULL in the rows between.", SlowSeconds)
	}
	return c
}

func samplesTable() Table {
	columns := slices.Concat(
		[]Column{timeColumn("When the GPU was read."), gpuColumn()},
		stamped(),
		[]Column{
			{Name: ColumnInterval, Type: Uint32, Nullable: true, Unit: "ms", Meaning: "Time that the increments of this row cover: since the GPU's previous row. NULL on the first one. Increments that are read each 10 s cover the time since the latest row that has them."},
			{Name: ColumnCounterEpoch, Type: Uint32, Meaning: "Counts the resets of the GPU's counters that the agent saw; a driver reload or a reset starts a new one."},
			{Name: ColumnQuality, Type: Uint8, Meaning: "Bits: 1 ring columns hold every driver sample, 2 driver samples were overwritten before they were read, 4 a ring was empty, 8 utilisation or clocks are readings of this instant, 16 GPM has no window yet, 32 GPM is held by another profiler, 64 less was read to spare the driver, 128 pushed by another program at its own pace, which is no sampling at 1 Hz (docs/neighbours.md)."},
		})
	for _, m := range Metrics() {
		if c, ok := m.SamplesColumn(); ok {
			columns = append(columns, c)
		}
	}
	return Table{
		ID: SamplesID, Name: "gpu_samples", Columns: columns,
		Meaning: "One wide row per GPU (or MIG instance) and tick, 1 Hz. What a GPU does not answer is NULL.",
		OrderBy: "(toStartOfHour(ts), gpu_id, ts)", PrimaryKey: "(toStartOfHour(ts), gpu_id)", PartitionBy: "toDate(ts)", TTLDays: 14, Granularity: 2048,
	}
}

func healthTable() Table {
	columns := slices.Concat(
		[]Column{timeColumn("When the GPU was read."), gpuColumn()},
		stamped(),
		[]Column{
			{Name: ColumnInterval, Type: Uint32, Nullable: true, Unit: "ms", Meaning: "Time that the increments of this row cover: since the GPU's previous row here. NULL on the first one."},
			{Name: ColumnCounterEpoch, Type: Uint32, Meaning: "Counts the resets of the GPU's counters that the agent saw."},
		})
	for _, m := range Metrics() {
		columns = append(columns, m.HealthColumns()...)
	}
	return Table{
		ID: HealthID, Name: "gpu_health", Columns: columns,
		Meaning: "One wide row per GPU (or MIG instance) and minute: states, limits, error counters, and the totals of all counters.",
		OrderBy: "(gpu_id, ts)", PartitionBy: "toDate(ts)", TTLDays: 90, Granularity: 1024,
	}
}

func subsecondTable() Table {
	columns := slices.Concat(
		[]Column{{Name: ColumnTime, Type: TimeMicroseconds, Meaning: "When the driver took the sample, or the agent in a burst, in wall time."}, gpuColumn()},
		stamped(),
		[]Column{
			{Name: "signal", Type: Name, Meaning: "What was sampled, with its unit: power_milliwatts, gpu_utilization_percent, memory_busy_percent, sm_clock_megahertz, memory_clock_megahertz, module_power_milliwatts; only in bursts: power_instant_milliwatts, temperature_celsius, memory_temperature_celsius, clocks_event_reasons (bits, as in gpu_samples)."},
			{Name: "driver_time_microseconds", Type: Uint64, Counter: true, Unit: "us", Meaning: "When the driver took the sample, by the driver's own clock. In a burst: the time of the reading by that clock; the wall time of a GPU whose rings have never told it."},
			{Name: "value", Type: Int64, Meaning: "The sample, in the unit that the signal names."},
			{Name: "burst", Type: Uint8, Nullable: true, Meaning: "1 if the agent read it in a burst of 10 Hz; NULL if it comes from the driver's ring."},
			{Name: ColumnFault, Type: Uint64, Nullable: true, Meaning: "Fault around which it was kept, the first of several; NULL if it was kept for another reason. fleet_fault_trace has all samples around each fault."},
		})
	return Table{
		ID: SubsecondID, Name: "gpu_subsecond", Columns: columns,
		Meaning: "The driver's own sub-second samples, one row each, where they are kept.",
		OrderBy: "(toStartOfHour(ts), gpu_id, signal, ts)", PrimaryKey: "(toStartOfHour(ts), gpu_id, signal)", PartitionBy: "toDate(ts)", TTLDays: 2, Granularity: 8192,
	}
}
