// SPDX-License-Identifier: Apache-2.0

// Package otlp reads metrics in OpenTelemetry's protocol, in protobuf and in JSON, and writes its answers. It trusts
// nothing that it reads and keeps nothing of it: whoever received the bytes bounds them, and it bounds what they become. It
// starts no goroutines.
package otlp

import (
	"bytes"
	"fmt"
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"

	"github.com/gpufleet/gpufleet/collector/internal/foreign"
	"github.com/gpufleet/gpufleet/collector/internal/foreign/mapping"
)

// Request is what is exported.
type Request = collectormetrics.ExportMetricsServiceRequest

// Encoding is how a request is written.
type Encoding uint8

// The encodings.
const (
	Protobuf Encoding = iota
	JSON
)

const (
	maxDepth    = 100     // of messages within messages: values of attributes may nest
	maxMessages = 1 << 19 // within a request, all together: an empty one has two bytes in it, and a hundred in memory
)

// Decode reads a request. Its error is foreign.ErrTooMany if the request is too large, however few bytes it has.
func Decode(body []byte, e Encoding) (*Request, error) {
	r := &Request{}
	var err error
	if messages(body, e) > maxMessages {
		return nil, fmt.Errorf("read OTLP metrics: more than %d messages within one: %w", maxMessages, foreign.ErrTooMany)
	}
	if e == JSON {
		err = protojson.UnmarshalOptions{DiscardUnknown: true, RecursionLimit: maxDepth}.Unmarshal(body, r)
	} else {
		err = proto.UnmarshalOptions{DiscardUnknown: true, RecursionLimit: maxDepth}.Unmarshal(body, r)
	}
	if err != nil {
		return nil, fmt.Errorf("read OTLP metrics: %w", err)
	}
	if n := allPoints(r); n > foreign.MaxReadings {
		return nil, fmt.Errorf("read OTLP metrics: %d points, at most %d: %w", n, foreign.MaxReadings, foreign.ErrTooMany)
	}
	return r, nil
}

// messages counts those within a request, before they are made. In JSON each has a brace.
func messages(body []byte, e Encoding) int {
	if e == JSON {
		return bytes.Count(body, []byte{'{'})
	}
	return within(body, (&Request{}).ProtoReflect().Descriptor(), maxDepth)
}

// within counts the messages within one, as far as it can be read: why not further is told when it is decoded.
func within(message []byte, of protoreflect.MessageDescriptor, depth int) (n int) {
	for len(message) > 0 && depth > 0 {
		number, kind, tag := protowire.ConsumeTag(message)
		if tag < 0 {
			break
		}
		size := protowire.ConsumeFieldValue(number, kind, message[tag:])
		if size < 0 {
			break
		}
		if f := of.Fields().ByNumber(number); f != nil && f.Message() != nil && kind == protowire.BytesType {
			inner, _ := protowire.ConsumeBytes(message[tag:])
			n += 1 + within(inner, f.Message(), depth-1)
		}
		message = message[tag+size:]
	}
	return n
}

func allPoints(r *Request) (n int) {
	for _, rm := range r.GetResourceMetrics() {
		for _, scope := range rm.GetScopeMetrics() {
			for _, m := range scope.GetMetrics() {
				n += points(m)
			}
		}
	}
	return n
}

// points is how many points a metric has: it has one kind of them.
func points(m *metrics.Metric) int {
	return len(m.GetGauge().GetDataPoints()) + len(m.GetSum().GetDataPoints()) + len(m.GetHistogram().GetDataPoints()) +
		len(m.GetExponentialHistogram().GetDataPoints()) + len(m.GetSummary().GetDataPoints())
}

// Encode writes an answer.
func Encode(m proto.Message, e Encoding) ([]byte, error) {
	if e == JSON {
		return protojson.Marshal(m)
	}
	return proto.Marshal(m)
}

// Answer is what is said of a request that was taken.
func Answer(o foreign.Outcome) *collectormetrics.ExportMetricsServiceResponse {
	answer := &collectormetrics.ExportMetricsServiceResponse{}
	if o.Refused > 0 {
		answer.PartialSuccess = &collectormetrics.ExportMetricsPartialSuccess{RejectedDataPoints: o.Refused, ErrorMessage: o.String()}
	}
	return answer
}

// Groups are the readings of a request, by resource.
func Groups(r *Request) []foreign.Group {
	groups := make([]foreign.Group, 0, len(r.GetResourceMetrics()))
	for _, rm := range r.GetResourceMetrics() {
		g := foreign.Group{Resource: labels(rm.GetResource().GetAttributes())}
		for _, scope := range rm.GetScopeMetrics() {
			for _, m := range scope.GetMetrics() {
				g.Readings = appendMetric(g.Readings, m)
			}
		}
		groups = append(groups, g)
	}
	return groups
}

// Reasons why a point is none of ours, whatever its name.
const (
	faultTemporality = "increments (delta temporality): gpufleet takes totals, so set the sender to cumulative temporality"
	faultShape       = "histograms and summaries: no column takes one"
)

func appendMetric(readings []foreign.Reading, m *metrics.Metric) []foreign.Reading {
	switch data := m.GetData().(type) {
	case *metrics.Metric_Gauge:
		return appendNumbers(readings, m, data.Gauge.GetDataPoints(), "")
	case *metrics.Metric_Sum:
		fault := ""
		if data.Sum.GetAggregationTemporality() == metrics.AggregationTemporality_AGGREGATION_TEMPORALITY_DELTA {
			fault = faultTemporality
		}
		return appendNumbers(readings, m, data.Sum.GetDataPoints(), fault)
	default:
		return appendFaults(readings, m)
	}
}

func appendFaults(readings []foreign.Reading, m *metrics.Metric) []foreign.Reading {
	for range points(m) {
		readings = append(readings, foreign.Reading{Metric: m.GetName(), Fault: faultShape})
	}
	return readings
}

func appendNumbers(readings []foreign.Reading, m *metrics.Metric, points []*metrics.NumberDataPoint, fault string) []foreign.Reading {
	const noValue = uint32(metrics.DataPointFlags_DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK)
	for _, p := range points {
		r := foreign.Reading{
			Metric: m.GetName(), Unit: m.GetUnit(), Labels: labels(p.GetAttributes()),
			Time: milliseconds(p.GetTimeUnixNano()), Start: milliseconds(p.GetStartTimeUnixNano()), Fault: fault,
			Value: mapping.Float(math.NaN()), // none, as long as there is no other
		}
		if p.GetFlags()&noValue == 0 {
			switch v := p.GetValue().(type) {
			case *metrics.NumberDataPoint_AsDouble:
				r.Value = mapping.Float(v.AsDouble)
			case *metrics.NumberDataPoint_AsInt:
				r.Value = mapping.Int(v.AsInt)
			}
		}
		readings = append(readings, r)
	}
	return readings
}

func milliseconds(nanoseconds uint64) int64 { return int64(nanoseconds / 1_000_000) }

// labels are attributes as text. One that is a list or a map names nothing here.
func labels(attributes []*common.KeyValue) foreign.Labels {
	l := make(foreign.Labels, len(attributes))
	for _, a := range attributes {
		switch v := a.GetValue().GetValue().(type) {
		case *common.AnyValue_StringValue:
			l[a.GetKey()] = v.StringValue
		case *common.AnyValue_IntValue:
			l[a.GetKey()] = strconv.FormatInt(v.IntValue, 10)
		case *common.AnyValue_BoolValue:
			l[a.GetKey()] = strconv.FormatBool(v.BoolValue)
		case *common.AnyValue_DoubleValue:
			l[a.GetKey()] = strconv.FormatFloat(v.DoubleValue, 'g', -1, 64)
		}
	}
	return l
}
