// SPDX-License-Identifier: Apache-2.0

// Package schema is the contract between the driver and the panel: one Go table of metrics and the
// tables that they are stored in. The Arrow schema on the wire, the CREATE TABLE statements, the
// insert column lists, the views and docs/metrics.md are functions of it. It imports nothing of
// ours, so that every program can import it.
//
// Changes are additive. A column is never renamed or retyped: a new one is added with a migration.
package schema

//go:generate go run ./internal/generate ..

import "github.com/apache/arrow-go/v18/arrow"

// Type is the type of a column, one to one with an Arrow and a ClickHouse type (see arrow.go and
// clickhouse.go).
type Type uint8

// The column types.
const (
	Uint8 Type = iota
	Uint16
	Uint32
	Uint64
	Int8
	Int16
	Int32
	Int64
	Float64
	TimeMilliseconds // UTC, milliseconds since 1970
	TimeMicroseconds // UTC, microseconds since 1970
	Decimal          // money: 18 digits, nine of them behind the point; not on the wire
	Name             // text with few distinct values, such as a region
	Text             // any other text
	TimeSeconds      // UTC, seconds since 1970; not on the wire
	WideDecimal      // money and quantities of bills: 38 digits, 18 of them behind the point; not on the wire
	Sketch           // what quantiles are taken from, mergeable (DDSketch, 1 % off at the most); not on the wire
)

// Kind tells how a metric behaves over time, and so how it is stored and rolled up.
type Kind uint8

// The kinds of metrics.
const (
	Gauge   Kind = iota // a level: average, minimum and maximum make sense
	State               // a code or a set of bits: neither sums nor averages make sense
	Counter             // counts up since the driver was loaded; stored as total and as increments
)

// Tier tells how often a metric is read.
type Tier uint8

// The tiers.
const (
	TierSecond Tier = iota // every tick (1 Hz), into gpu_samples; what is slow less often
	TierMinute             // once a minute, into gpu_health
)

// SlowSeconds is how often, in seconds, a slow metric is read.
const SlowSeconds = 10

// SourceKind tells which family of driver calls a metric comes from.
type SourceKind uint8

// The families of driver calls.
const (
	FromField        SourceKind = iota // nvmlDeviceGetFieldValues, one scope
	FromFieldPerLink                   // nvmlDeviceGetFieldValues, once per NVLink, combined by Links
	FromGetter                         // a call of its own
	FromProfile                        // GPM
	FromRing                           // the driver's ring buffer (nvmlDeviceGetSamples), since the previous row
)

// Combine tells how the values of several links, or of the samples of a ring, become one.
type Combine uint8

// The ways to combine.
const (
	Sum Combine = iota
	Max
	Min
	Mean
	Last
)

// Decoding tells how the driver's number is to be read.
type Decoding uint8

// The decodings.
const (
	Plain Decoding = iota
	// BitErrorRate is NVML's coded rate: mantissa in bits 8-11, exponent (base 10, negative) in bits
	// 0-7.
	BitErrorRate
	// IsEqual is 1 where the driver's number is the source's Equal, else 0: a sum over links counts them.
	IsEqual
	// NotSet32 is NULL where the driver's number is 2^32-1, which stands for "not set".
	NotSet32
)

// Source is one place in NVML that a metric can be read from.
type Source struct {
	Kind     SourceKind
	Name     string // field name without NVML_FI_, symbol of the getter, or name of the ring
	Argument string // what tells two uses of one symbol apart
	ID       uint32 // GPM metric id; ring number
	Scope    uint32 // scope id of a field
	Part     int    // which result of a getter
	Combine  Combine
	Decoding Decoding
	Equal    int64 // of IsEqual
	// Wraps32 says that the driver keeps 32 bits of a counter that fills them within seconds: one that
	// went down has wrapped. Rate names the metric (MiB/s) that tells whether it wrapped more than once.
	Wraps32 bool
	Rate    string
	// The stored value is the driver's × Multiply ÷ Divide, rounded to the nearest; 0 counts as 1.
	Multiply, Divide int64
}

// Metric is one thing that is read of a GPU.
type Metric struct {
	Name     string // column name with its unit; of a Counter without the suffix _total or _delta
	Type     Type
	Kind     Kind
	Tier     Tier
	Slow     bool   // of TierSecond, and read each SlowSeconds, a Counter also when clocks begin or cease to be held down: the driver takes a millisecond for it
	Sketch   bool   // rollups keep quantiles of it, which take as much room as all else that they keep of four metrics
	Unit     string // UCUM, as OpenTelemetry uses it; "‰" for ratios, which are stored per mille
	Requires string // which GPUs answer; "" for all from A100 on
	OTel     string // OpenTelemetry metric name where there is one
	Meaning  string
	Sources  []Source // tried in order; the first that a GPU supports is used
}

// Column is one column of a table.
type Column struct {
	Name     string
	Type     Type
	Nullable bool
	Stamped  bool   // set by the collector at admission; not on the wire
	Counter  bool   // a counter's total or increment: decides the codec
	State    string // aggregate function of which the column holds a state of such values; "" holds one value; not on the wire
	Unit     string // "" if it has none
	OTel     string
	Meaning  string
}

// Table is one stored table. Tables with a Wire name can be pushed by agents.
type Table struct {
	Name    string
	Meaning string
	Columns []Column
	OrderBy string
	// PrimaryKey is the prefix of OrderBy that the index in memory holds; "" is all of it. It leaves ts
	// out where it begins with toStartOfHour(ts): ClickHouse uses a condition on ts for one column of the
	// index alone, and takes ts itself if that is one, so that the hour would never be used.
	PrimaryKey string
	// PartitionBy is an expression of which toDate(ts) is never finer: a batch of one day lies in
	// one partition.
	PartitionBy string
	// Indexes tell which granules can hold a value of a column that OrderBy does not lead to.
	Indexes     []Index
	TTLDays     int // rows older than this are dropped; 0 keeps them
	Granularity int
	Synced      bool   // a row is on the disk, not only in the page cache, when its insert is answered
	Engine      string // "" is MergeTree
	ID          uint8  // on the wire and in the ledger; 0 if agents do not push it
	derived
}

// Index is a data-skipping index.
type Index struct {
	Name, Expression, Type string
}

// derived is what the columns of a pushed table make, made once: a fleet of simulated agents shares
// it.
type derived struct {
	wire, insert *arrow.Schema
	message      []byte
}
