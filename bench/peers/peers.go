// SPDX-License-Identifier: Apache-2.0

// Package peers gives other pipelines the readings that ours takes, and asks them the same questions: Prometheus,
// VictoriaMetrics, and an OpenTelemetry Collector that writes into ClickHouse. Each runs as a process of its own out of
// a folder of programs, on loopback and in a directory that goes with the measurement; whoever starts one stops it.
package peers

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Labels of every series, and what stands before the name of a column.
const (
	NodeLabel    = "node"
	GPULabel     = "gpu"
	metricPrefix = "gpufleet_"
)

// MetricName is the name under which peers get a column of gpu_samples.
func MetricName(column string) string { return metricPrefix + column }

// ID is how a node or a GPU is named in a label.
func ID(id uint64) string { return strconv.FormatUint(id, 10) }

// Flush is what one node sends at a time: a batch of gpu_samples, by series.
type Flush struct {
	Node   uint64
	Start  int64 // of its first row, milliseconds since 1970
	Rows   int
	Series []Series // by metric, then by GPU
}

// Series are the readings of one column and GPU. A reading that is NULL is not there.
type Series struct {
	Metric string
	GPU    uint64
	Times  []int64 // milliseconds since 1970
	Values []float64
}

// Samples counts the readings.
func (f Flush) Samples() int {
	sum := 0
	for _, s := range f.Series {
		sum += len(s.Values)
	}
	return sum
}

// Reader makes flushes of batches. It is for one goroutine.
type Reader struct {
	decoder *wire.Decoder
	close   func()
	metrics map[int]schema.Column // by place among the columns on the wire
	time    int
	gpu     int
}

// NewReader makes a reader, which must be closed.
func NewReader() (*Reader, error) {
	table, _ := schema.TableByID(schema.SamplesID)
	z, err := wire.NewDecompressor()
	if err != nil {
		return nil, err
	}
	r := &Reader{decoder: wire.NewDecoder(table.WireSchema(), z), close: z.Close, metrics: make(map[int]schema.Column)}
	for i, c := range table.WireColumns() {
		switch c.Name {
		case schema.ColumnTime:
			r.time = i
		case schema.ColumnGPU:
			r.gpu = i
		case schema.ColumnInterval, schema.ColumnCounterEpoch, schema.ColumnQuality: // of the pipeline, not of the GPU
		default:
			r.metrics[i] = c
		}
	}
	return r, nil
}

// Close gives its memory back.
func (r *Reader) Close() { r.close() }

// Read takes a batch of gpu_samples apart.
func (r *Reader) Read(b *wire.Batch) (Flush, error) {
	columns, err := r.decoder.Columns(b.Identity, b.Header, b.Body)
	if err != nil {
		return Flush{}, fmt.Errorf("read readings: %w", err)
	}
	defer columns.Release()
	times, ids := columns.Column(r.time), columns.Column(r.gpu)
	f := Flush{Node: b.Identity.Node, Start: int64(times.Uint64(0)), Rows: columns.Rows()}
	var gpus []uint64
	for row := range columns.Rows() {
		if id := ids.Uint64(row); !slices.Contains(gpus, id) {
			gpus = append(gpus, id)
		}
	}
	for i := range columns.Schema().NumFields() {
		metric, ok := r.metrics[i]
		if !ok {
			continue
		}
		column := columns.Column(i)
		for _, id := range gpus {
			s := Series{Metric: MetricName(metric.Name), GPU: id}
			for row := range columns.Rows() {
				if ids.Uint64(row) == id && !column.Null(row) {
					s.Times = append(s.Times, int64(times.Uint64(row)))
					s.Values = append(s.Values, number(column.Values, metric.Type, row))
				}
			}
			if len(s.Values) > 0 {
				f.Series = append(f.Series, s)
			}
		}
	}
	return f, nil
}

// number is the value of a row of a column.
func number(values []byte, t schema.Type, row int) float64 {
	switch t {
	case schema.Uint8:
		return float64(values[row])
	case schema.Int8:
		return float64(int8(values[row]))
	case schema.Uint16:
		return float64(binary.LittleEndian.Uint16(values[2*row:]))
	case schema.Int16:
		return float64(int16(binary.LittleEndian.Uint16(values[2*row:])))
	case schema.Uint32:
		return float64(binary.LittleEndian.Uint32(values[4*row:]))
	case schema.Int32:
		return float64(int32(binary.LittleEndian.Uint32(values[4*row:])))
	case schema.Uint64:
		return float64(binary.LittleEndian.Uint64(values[8*row:]))
	case schema.Int64:
		return float64(int64(binary.LittleEndian.Uint64(values[8*row:])))
	case schema.Float64:
		return math.Float64frombits(binary.LittleEndian.Uint64(values[8*row:]))
	default:
		panic(fmt.Sprintf("peers: a column of type %d is no reading", t))
	}
}

// Span is a time over which questions are asked: from Start on, up to but without End.
type Span struct{ Start, End time.Time }
