// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/gpufleet/gpufleet/collector/internal/foreign"
	"github.com/gpufleet/gpufleet/collector/internal/foreign/mapping"
)

// exported is a request as OTLP writes it in JSON: 64-bit numbers are texts, what is unknown is to be passed over.
const exported = `{"resourceMetrics": [{
	"resource": {"attributes": [
		{"key": "host.name", "value": {"stringValue": "node-1"}}, {"key": "count", "value": {"intValue": "8"}}, {"key": "spot", "value": {"boolValue": true}},
		{"key": "share", "value": {"doubleValue": 0.5}}, {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": "x"}]}}}]},
	"futureField": {"a": [1, 2]},
	"scopeMetrics": [{"scope": {"name": "s"}, "metrics": [
		{"name": "hw.power", "unit": "W", "gauge": {"dataPoints": [
			{"attributes": [{"key": "hw.id", "value": {"stringValue": "GPU-a"}}], "timeUnixNano": "1770000000123456789", "asDouble": 71.5,
			 "exemplars": [{"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "asDouble": 1}]},
			{"timeUnixNano": "1770000000000000000", "flags": 1}]}},
		{"name": "hw.energy", "unit": "J", "sum": {"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [
			{"timeUnixNano": "1770000000000000000", "startTimeUnixNano": "1760000000000000000", "asInt": "9007199254740993"}]}},
		{"name": "requests", "sum": {"aggregationTemporality": 1, "dataPoints": [{"timeUnixNano": "1770000000000000000", "asInt": "1"}]}},
		{"name": "latency", "histogram": {"aggregationTemporality": 2, "dataPoints": [{"timeUnixNano": "1", "count": "0"}, {"timeUnixNano": "2", "count": "0"}]}},
		{"name": "empty"}]}]}]}`

func TestGroups(t *testing.T) {
	r, err := Decode([]byte(exported), JSON)
	if err != nil {
		t.Fatal(err)
	}
	got := Groups(r)
	if !math.IsNaN(got[0].Readings[1].Value.Float) {
		t.Errorf("a point without a value has %+v", got[0].Readings[1].Value)
	}
	got[0].Readings[1].Value = mapping.Value{}
	want := []foreign.Group{{
		Resource: foreign.Labels{"host.name": "node-1", "count": "8", "spot": "true", "share": "0.5"},
		Readings: []foreign.Reading{
			{Metric: "hw.power", Unit: "W", Labels: foreign.Labels{"hw.id": "GPU-a"}, Time: 1_770_000_000_123, Value: mapping.Float(71.5)},
			{Metric: "hw.power", Unit: "W", Labels: foreign.Labels{}, Time: 1_770_000_000_000},
			{Metric: "hw.energy", Unit: "J", Labels: foreign.Labels{}, Time: 1_770_000_000_000, Start: 1_760_000_000_000, Value: mapping.Int(9_007_199_254_740_993)},
			{Metric: "requests", Labels: foreign.Labels{}, Time: 1_770_000_000_000, Value: mapping.Int(1), Fault: faultTemporality},
			{Metric: "latency", Fault: faultShape},
			{Metric: "latency", Fault: faultShape},
		},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
}

func TestDecodeRefuses(t *testing.T) {
	deep := strings.Repeat(`{"arrayValue": {"values": [`, 200) + `{"stringValue": "x"}` + strings.Repeat(`]}}`, 200)
	for name, c := range map[string]struct {
		body string
		e    Encoding
	}{
		"no JSON":       {"{", JSON},
		"another shape": {`{"resourceMetrics": 7}`, JSON},
		"nested deep":   {`{"resourceMetrics": [{"resource": {"attributes": [{"key": "a", "value": ` + deep + `}]}}]}`, JSON},
		"no protobuf":   {"\xff\xff\xff", Protobuf},
		"cut":           {"\x0a\x7f", Protobuf},
	} {
		if _, err := Decode([]byte(c.body), c.e); err == nil || !strings.Contains(err.Error(), "read OTLP metrics") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDecodeIsBounded: a few bytes each become a hundred in memory.
func TestDecodeIsBounded(t *testing.T) {
	nested := func(fields ...byte) func(body []byte) []byte {
		return func(body []byte) []byte {
			for _, n := range fields {
				body = protowire.AppendBytes(protowire.AppendTag(nil, protowire.Number(n), protowire.BytesType), body)
			}
			return body
		}
	}
	empty := func(field byte, n int) []byte { return bytes.Repeat(nested(field)(nil), n) }
	gauge, summary, attributes := nested(5, 2, 2, 1), nested(11, 2, 2, 1), nested(1, 1)
	half := foreign.MaxReadings / 2
	const points = `{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"gauge":{"dataPoints":[`
	for name, c := range map[string]struct {
		body []byte
		e    Encoding
		ok   bool
	}{
		"points":                           {gauge(empty(1, foreign.MaxReadings)), Protobuf, true},
		"one too many":                     {gauge(empty(1, foreign.MaxReadings+1)), Protobuf, false},
		"of several metrics":               {slices.Concat(gauge(empty(1, half)), summary(empty(1, half))), Protobuf, true},
		"of several metrics, one too many": {slices.Concat(gauge(empty(1, half)), summary(empty(1, half+1))), Protobuf, false},
		"points in JSON, one too many":     {[]byte(points + strings.Repeat("{},", foreign.MaxReadings) + "{}]}}]}]}]}"), JSON, false},
		"attributes":                       {attributes(empty(1, maxMessages-2)), Protobuf, true},
		"attributes, one too many":         {attributes(empty(1, maxMessages-1)), Protobuf, false},
		"resources in JSON":                {[]byte(`{"resourceMetrics":[` + strings.Repeat("{},", maxMessages-2) + "{}]}"), JSON, true},
		"resources in JSON, one too many":  {[]byte(`{"resourceMetrics":[` + strings.Repeat("{},", maxMessages-1) + "{}]}"), JSON, false},
	} {
		if _, err := Decode(c.body, c.e); c.ok && err != nil || !c.ok && !errors.Is(err, foreign.ErrTooMany) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzDecode: what is read in either encoding says the same when it is written in the other and read again.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(exported), true)
	if r, err := Decode([]byte(exported), JSON); err == nil {
		body, err := Encode(r, Protobuf)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body, false)
	}
	f.Add([]byte("\x0a\x02\x12\x00"), false)
	f.Fuzz(func(t *testing.T, body []byte, isJSON bool) {
		in, out := Protobuf, Protobuf
		if isJSON {
			in = JSON
		}
		r, err := Decode(body, in)
		if err != nil {
			return
		}
		again, err := Encode(r, out)
		if err != nil {
			t.Fatalf("write what was read: %v", err)
		}
		second, err := Decode(again, out)
		if err != nil {
			t.Fatalf("read what was written: %v", err)
		}
		if diff := cmp.Diff(Groups(r), Groups(second), cmp.Comparer(sameFloat)); diff != "" {
			t.Errorf("the groups differ:\n%s", diff)
		}
	})
}

func sameFloat(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }
