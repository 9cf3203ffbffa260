// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"fmt"
	"strings"
)

// Version numbers the state of the tables. Every change of a table raises it; the test of
// testdata/versions refuses a change that does not.
const Version = 2

// deduplicationWindow is the number of insert tokens that a table remembers. Rollups need the same
// window as their source, or a retried insert doubles them.
const deduplicationWindow = 100000

// wideBytes is how large a part must be to get a file or two for each column. An insert of a second's rows stays
// below it: of a wide one, ClickHouse spends more on making its hundreds of files than on the rows.
const wideBytes = 64 << 20

var clickhouseTypes = [...]string{
	Uint8: "UInt8", Uint16: "UInt16", Uint32: "UInt32", Uint64: "UInt64",
	Int8: "Int8", Int16: "Int16", Int32: "Int32", Int64: "Int64", Float64: "Float64",
	TimeMilliseconds: "DateTime64(3, 'UTC')", TimeMicroseconds: "DateTime64(6, 'UTC')",
	Decimal: "Decimal(18, 9)", WideDecimal: "Decimal(38, 18)", Name: "LowCardinality(String)", Text: "String",
	TimeSeconds: "DateTime('UTC')", Sketch: "AggregateFunction(" + sketch + ", Nullable(Float64))",
}

// ClickHouseType is the column type in ClickHouse, without Nullable.
func (t Type) ClickHouseType() string {
	if int(t) >= len(clickhouseTypes) {
		panic(fmt.Sprintf("schema: column type %d is not in the table", t))
	}
	return clickhouseTypes[t]
}

// ClickHouseType is the full type of the column.
func (c Column) ClickHouseType() string {
	base := c.Type.ClickHouseType()
	switch {
	case c.State != "":
		return "AggregateFunction(" + c.State + ", " + base + ")"
	case !c.Nullable:
		return base
	case c.Type == Name:
		return "LowCardinality(Nullable(String))"
	default:
		return "Nullable(" + base + ")"
	}
}

// Codec is the column's compression, chosen by how a reading of its kind changes. DESIGN.md has what the candidates take
// and docs/adr/003-clickhouse-schema.md what whole rows do, both with the commands that measure it.
func (c Column) Codec() string {
	if c.State != "" {
		return "ZSTD(1)"
	}
	switch c.Type {
	case TimeMilliseconds, TimeMicroseconds, TimeSeconds:
		return "Delta, ZSTD(1)"
	case Uint8, Int8, Float64, Decimal, WideDecimal, Name, Sketch:
		return "ZSTD(1)"
	case Text:
		return "ZSTD(3)"
	case Uint16, Uint32, Int16, Int32:
		return c.narrowCodec()
	case Uint64, Int64:
		return c.wideCodec()
	default:
		panic(fmt.Sprintf("schema: column type %d has no codec", c.Type))
	}
}

// narrowCodec: bits of different weight go each to their own place (T64) where the low ones are noise, and stay
// together where a reading is often the one before or one of few.
func (c Column) narrowCodec() string {
	switch {
	case strings.HasPrefix(c.Name, "gpu_utilization_"), strings.HasPrefix(c.Name, "memory_busy_"): // whole percents, in per mille
		return "GCD, ZSTD(1)"
	case c.Unit == "Cel": // a degree up, a degree down
		return "Delta, ZSTD(1)"
	case c.Unit == "MHz", c.Name == ColumnInterval: // steps of 15 MHz; a second
		return "ZSTD(1)"
	default:
		return "T64, ZSTD(1)"
	}
}

func (c Column) wideCodec() string {
	switch {
	case c.Counter:
		return "Delta, T64, ZSTD(1)"
	case c.Name == ColumnSequence: // of a GPU's rows ten have the same, then it is one more
		return "DoubleDelta, ZSTD(1)"
	case c.Stamped, c.Name == ColumnGPU, strings.HasSuffix(c.Name, "_used_bytes"): // the same for a long time
		return "ZSTD(1)"
	case strings.HasSuffix(c.Name, "_delta"): // the driver counts in steps: of a KiB, of 64 bytes, of a millisecond
		return "GCD, T64, ZSTD(1)"
	default:
		return "T64, ZSTD(1)"
	}
}

// Comment is the column's comment in ClickHouse: meaning, unit, OpenTelemetry name.
func (c Column) Comment() string {
	comment := c.Meaning
	if c.Unit != "" {
		comment += " Unit: " + c.Unit + "."
	}
	if c.OTel != "" {
		comment += " OpenTelemetry: " + c.OTel + "."
	}
	return comment
}

// Definition is the column's line in CREATE TABLE and ADD COLUMN.
func (c Column) Definition() string {
	return fmt.Sprintf("%s %s COMMENT %s CODEC(%s)", QuoteName(c.Name), c.ClickHouseType(), QuoteText(c.Comment()), c.Codec())
}

// CreateTable is the statement that makes the table in the database; it does nothing where the table
// exists.
func (t Table) CreateTable(database string) string { return t.create(Single(database)) }

func (t Table) create(l Layout) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE IF NOT EXISTS %s.%s\n(\n", QuoteName(l.Database), QuoteName(t.Name))
	for i, c := range t.Columns {
		b.WriteString("    " + c.Definition())
		if i < len(t.Columns)-1 || len(t.Indexes) > 0 {
			b.WriteString(",")
		}
		b.WriteString("\n")
	}
	for i, x := range t.Indexes {
		b.WriteString("    INDEX " + x.Definition())
		if i < len(t.Indexes)-1 {
			b.WriteString(",")
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, ")\nENGINE = %s\nPARTITION BY %s\nORDER BY %s\n", l.engine(t), t.PartitionBy, t.OrderBy)
	if t.PrimaryKey != "" {
		fmt.Fprintf(&b, "PRIMARY KEY %s\n", t.PrimaryKey)
	}
	if t.TTLDays > 0 {
		fmt.Fprintf(&b, "TTL toDateTime(%s) + INTERVAL %d DAY DELETE\n", t.timeColumn(), t.TTLDays)
	}
	fmt.Fprintf(&b, "SETTINGS index_granularity = %d, ttl_only_drop_parts = 1, %s, min_bytes_for_wide_part = %d", t.Granularity, l.windows(t), wideBytes)
	if t.Synced {
		b.WriteString(", fsync_after_insert = 1, fsync_part_directory = 1")
	}
	b.WriteString("\nCOMMENT " + QuoteText(t.Meaning))
	return b.String()
}

func (t Table) timeColumn() string {
	for _, c := range t.Columns {
		if c.Type == TimeMilliseconds || c.Type == TimeMicroseconds || c.Type == TimeSeconds {
			return c.Name
		}
	}
	return ColumnTime
}

// AddColumn is the statement that adds the i-th column to a table of an earlier version, at its
// place; it does nothing where the column exists.
func (t Table) AddColumn(database string, i int) string {
	place := "FIRST"
	if i > 0 {
		place = "AFTER " + QuoteName(t.Columns[i-1].Name)
	}
	return fmt.Sprintf("ALTER TABLE %s.%s ADD COLUMN IF NOT EXISTS %s %s",
		QuoteName(database), QuoteName(t.Name), t.Columns[i].Definition(), place)
}

// Definition is what follows INDEX in CREATE TABLE and ADD INDEX.
func (x Index) Definition() string {
	return fmt.Sprintf("%s %s TYPE %s GRANULARITY 1", QuoteName(x.Name), x.Expression, x.Type)
}

// AddIndex is the statement that adds an index to a table of an earlier version, for what is there already too.
// ClickHouse indexes that in the background.
func (t Table) AddIndex(database string, x Index) string {
	return fmt.Sprintf("ALTER TABLE %s.%s ADD INDEX IF NOT EXISTS %s, MATERIALIZE INDEX %s",
		QuoteName(database), QuoteName(t.Name), x.Definition(), QuoteName(x.Name))
}

// InsertStatement names every column, so that a table of a later version fills the rest itself.
func (t Table) InsertStatement(database string) string {
	return fmt.Sprintf("INSERT INTO %s.%s (%s)", QuoteName(database), QuoteName(t.Name), strings.Join(t.quotedNames(), ", "))
}

func (t Table) quotedNames() []string {
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = QuoteName(c.Name)
	}
	return names
}

// QuoteName is a name as SQL has it.
func QuoteName(s string) string {
	return "`" + strings.NewReplacer("\\", "\\\\", "`", "\\`").Replace(s) + "`"
}

// QuoteText is a text as SQL has it.
func QuoteText(s string) string {
	return "'" + strings.NewReplacer("\\", "\\\\", "'", "\\'").Replace(s) + "'"
}
