// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"bytes"
	"fmt"
	"math"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"google.golang.org/protobuf/encoding/protowire"
)

// RemoteWrite is a flush as a request of Prometheus' remote write 1.0: protobuf in a snappy block.
//
//	WriteRequest { repeated TimeSeries timeseries = 1 }
//	TimeSeries   { repeated Label labels = 1; repeated Sample samples = 2 }
//	Label        { string name = 1; string value = 2 }
//	Sample       { double value = 1; int64 timestamp = 2 }
func RemoteWrite(f Flush) []byte {
	var request, series, part []byte
	label := func(name, value string) {
		part = appendText(part[:0], 1, name)
		part = appendText(part, 2, value)
		series = appendBytes(series, 1, part)
	}
	for _, s := range f.Series {
		series = series[:0]
		label("__name__", s.Metric) // labels are in order of their names
		label(GPULabel, ID(s.GPU))
		label(NodeLabel, ID(f.Node))
		for i, value := range s.Values {
			part = appendDouble(part[:0], 1, value)
			part = protowire.AppendTag(part, 2, protowire.VarintType)
			part = protowire.AppendVarint(part, uint64(s.Times[i]))
			series = appendBytes(series, 2, part)
		}
		request = appendBytes(request, 1, series)
	}
	return s2.EncodeSnappy(nil, request)
}

// OTLP is a flush as a request of the OpenTelemetry protocol over HTTP, gzipped as exporters send it. Every column is a
// gauge.
//
//	ExportMetricsServiceRequest { repeated ResourceMetrics resource_metrics = 1 }
//	ResourceMetrics { Resource resource = 1 { repeated KeyValue attributes = 1 }; repeated ScopeMetrics scope_metrics = 2 }
//	ScopeMetrics    { repeated Metric metrics = 2 }
//	Metric          { string name = 1; Gauge gauge = 5 { repeated NumberDataPoint data_points = 1 } }
//	NumberDataPoint { fixed64 time_unix_nano = 3; double as_double = 4; repeated KeyValue attributes = 7 }
//	KeyValue        { string key = 1; AnyValue value = 2 { string string_value = 1 } }
func OTLP(f Flush) ([]byte, error) {
	var metrics []byte
	for i := 0; i < len(f.Series); {
		name, gauge := f.Series[i].Metric, []byte(nil)
		for ; i < len(f.Series) && f.Series[i].Metric == name; i++ {
			gauge = appendPoints(gauge, f.Series[i])
		}
		metric := appendText(nil, 1, name)
		metric = appendBytes(metric, 5, gauge)
		metrics = appendBytes(metrics, 2, metric)
	}
	resource := appendBytes(nil, 1, keyValue(NodeLabel, ID(f.Node)))
	all := appendBytes(nil, 1, resource)
	all = appendBytes(all, 2, metrics)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(appendBytes(nil, 1, all)); err != nil {
		return nil, fmt.Errorf("compress request: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("compress request: %w", err)
	}
	return packed.Bytes(), nil
}

func appendPoints(gauge []byte, s Series) []byte {
	attribute := keyValue(GPULabel, ID(s.GPU))
	for i, value := range s.Values {
		point := protowire.AppendTag(nil, 3, protowire.Fixed64Type)
		point = protowire.AppendFixed64(point, uint64(s.Times[i])*1e6)
		point = appendDouble(point, 4, value)
		point = appendBytes(point, 7, attribute)
		gauge = appendBytes(gauge, 1, point)
	}
	return gauge
}

func keyValue(key, value string) []byte {
	return appendBytes(appendText(nil, 1, key), 2, appendText(nil, 1, value))
}

func appendBytes(b []byte, field protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), value)
}

func appendText(b []byte, field protowire.Number, value string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), value)
}

func appendDouble(b []byte, field protowire.Number, value float64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(b, field, protowire.Fixed64Type), math.Float64bits(value))
}
