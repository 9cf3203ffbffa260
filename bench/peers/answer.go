// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Point is one number of an answer: of a node and minute, or of ten seconds.
type Point struct {
	ID string // of the node; "" where only one GPU was asked about
	At int64  // beginning of its time, seconds since 1970
}

// Answer is what a question came to.
type Answer map[Point]float64

// Same reports the first thing in which two answers differ, or nothing. Averages are sums in any order: they may differ
// in their last digits.
func (a Answer) Same(b Answer) error {
	if len(a) != len(b) {
		return fmt.Errorf("%d values, the other has %d", len(a), len(b))
	}
	for point, value := range a {
		other, ok := b[point]
		if !ok {
			return fmt.Errorf("of %s at %d the other has no value", point.ID, point.At)
		}
		if math.Abs(value-other) > 1e-6*math.Max(1, math.Abs(value)) {
			return fmt.Errorf("of %s at %d: %v, the other has %v", point.ID, point.At, value, other)
		}
	}
	return nil
}

// ParseMatrix reads the answer of a range query as Prometheus gives it. Every value is of the step seconds that end with
// its time: a query asks at the last millisecond of each. The label names the points; there may be none.
func ParseMatrix(text []byte, label string, step int64) (Answer, error) {
	var reply struct {
		Status string `json:"status"`
		Error  string `json:"error"`
		Data   struct {
			Type   string `json:"resultType"`
			Result []struct {
				Metric map[string]string    `json:"metric"`
				Values [][2]json.RawMessage `json:"values"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(text, &reply); err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if reply.Status != "success" || reply.Data.Type != "matrix" {
		return nil, fmt.Errorf("read answer: status %q, type %q: %.200s", reply.Status, reply.Data.Type, reply.Error)
	}
	answer := make(Answer)
	for _, series := range reply.Data.Result {
		for _, pair := range series.Values {
			at, err := strconv.ParseFloat(string(pair[0]), 64)
			if err != nil {
				return nil, fmt.Errorf("read answer: time %s: %w", pair[0], err)
			}
			value, err := strconv.ParseFloat(strings.Trim(string(pair[1]), `"`), 64)
			if err != nil {
				return nil, fmt.Errorf("read answer: value %s: %w", pair[1], err)
			}
			begin := int64(math.Floor(at)) / step * step
			answer[Point{ID: series.Metric[label], At: begin}] = value
		}
	}
	return answer, nil
}

// ParseTSV reads the answer of ClickHouse as tab-separated lines: id, time and value, or time and value.
func ParseTSV(text []byte) (Answer, error) {
	answer := make(Answer)
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(fields) != 2 && len(fields) != 3 {
			return nil, fmt.Errorf("read answer: line %q: want two or three fields", line)
		}
		var point Point
		if len(fields) == 3 {
			point.ID, fields = fields[0], fields[1:]
		}
		if fields[1] == `\N` { // nothing was read in this time: peers have no value there either
			continue
		}
		var err error
		if point.At, err = strconv.ParseInt(fields[0], 10, 64); err != nil {
			return nil, fmt.Errorf("read answer: time %q: %w", fields[0], err)
		}
		value, err := strconv.ParseFloat(fields[1], 64)
		if err != nil {
			return nil, fmt.Errorf("read answer: value %q: %w", fields[1], err)
		}
		answer[point] = value
	}
	return answer, nil
}

// ParseCounter adds up the values of a counter in a page of metrics, over all its labels that hold the text.
func ParseCounter(page []byte, name, label string) (float64, error) {
	sum, found := 0.0, false
	for line := range strings.Lines(string(page)) {
		series, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		base, labels, _ := strings.Cut(series, "{")
		if !ok || base != name || !strings.Contains(labels, label) {
			continue
		}
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("read metric %s: %w", series, err)
		}
		sum, found = sum+number, true
	}
	if !found {
		return 0, fmt.Errorf("read metrics: %s%s is not there", name, label)
	}
	return sum, nil
}
