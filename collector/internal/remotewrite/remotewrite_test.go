// SPDX-License-Identifier: Apache-2.0

package remotewrite

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/snappy"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/gpufleet/gpufleet/collector/internal/foreign"
	"github.com/gpufleet/gpufleet/collector/internal/foreign/mapping"
)

func message(n protowire.Number, parts ...[]byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), slices.Concat(parts...))
}

func text(n protowire.Number, s string) []byte { return message(n, []byte(s)) }

func label(name, value string) []byte { return message(1, text(1, name), text(2, value)) }

func sampleOf(value float64, at, start int64) []byte {
	b := protowire.AppendFixed64(protowire.AppendTag(nil, 1, protowire.Fixed64Type), math.Float64bits(value))
	b = protowire.AppendVarint(protowire.AppendTag(b, 2, protowire.VarintType), uint64(at))
	if start != 0 {
		b = protowire.AppendVarint(protowire.AppendTag(b, 3, protowire.VarintType), uint64(start))
	}
	return message(2, b)
}

func references(at ...uint64) []byte {
	var b []byte
	for _, a := range at {
		b = protowire.AppendVarint(b, a)
	}
	return message(1, b)
}

// version1 and version2 are requests with the same series.
func version1() []byte {
	return slices.Concat(
		message(1, label("__name__", "DCGM_FI_DEV_GPU_UTIL"), label("UUID", "GPU-a"), sampleOf(97, 1000, 0), sampleOf(98, 2000, 0)),
		message(3, text(2, "DCGM_FI_DEV_GPU_UTIL")), // metadata
		message(1, label("__name__", "DCGM_FI_DEV_GPU_TEMP"), label("UUID", "GPU-a"), sampleOf(-1, 1000, 0)))
}

func version2() []byte {
	created := protowire.AppendVarint(protowire.AppendTag(nil, 6, protowire.VarintType), 400)
	return slices.Concat(
		message(5, references(1, 2, 3, 4), sampleOf(97, 1000, 0), sampleOf(98, 2000, 500), created),
		text(4, ""), text(4, "__name__"), text(4, "DCGM_FI_DEV_GPU_UTIL"), text(4, "UUID"), text(4, "GPU-a"), text(4, "DCGM_FI_DEV_GPU_TEMP"),
		message(5, references(1, 5, 3, 4), sampleOf(-1, 1000, 0)))
}

func TestDecode(t *testing.T) {
	labels := foreign.Labels{"UUID": "GPU-a"}
	reading := func(metric string, at, start int64, value float64) foreign.Reading {
		return foreign.Reading{Metric: metric, Labels: labels, Time: at, Start: start, Value: mapping.Float(value)}
	}
	for version, c := range map[Version]struct {
		body   []byte
		starts [2]int64
	}{V1: {version1(), [2]int64{}}, V2: {version2(), [2]int64{400, 500}}} {
		got, err := Decode(c.body, version)
		if err != nil {
			t.Errorf("version %d: %v", version, err)
		}
		want := foreign.Group{Readings: []foreign.Reading{
			reading("DCGM_FI_DEV_GPU_UTIL", 1000, c.starts[0], 97), reading("DCGM_FI_DEV_GPU_UTIL", 2000, c.starts[1], 98), reading("DCGM_FI_DEV_GPU_TEMP", 1000, 0, -1),
		}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("version %d (-want +got):\n%s", version, diff)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	many := make([]byte, 0, 1<<12)
	for i := range maxLabels + 1 {
		many = append(many, label(string(rune('a'+i%26))+strings.Repeat("x", i), "v")...)
	}
	for name, c := range map[string]struct {
		body    []byte
		version Version
	}{
		"cut":                    {version1()[:20], V1},
		"no name":                {message(1, label("UUID", "GPU-a"), sampleOf(1, 1, 0)), V1},
		"a symbol too far":       {message(5, references(0, 7), sampleOf(1, 1, 0)), V2},
		"half a label":           {slices.Concat(text(4, ""), message(5, references(0), sampleOf(1, 1, 0))), V2},
		"too many labels":        {message(1, many), V1},
		"version 2 as version 1": {message(1, []byte{1, 2, 3, 4}), V1},
	} {
		if _, err := Decode(c.body, c.version); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDecodeIsBounded: a few bytes each become a hundred in memory.
func TestDecodeIsBounded(t *testing.T) {
	named := func(samples int) []byte {
		return message(1, label("__name__", "up"), bytes.Repeat([]byte{0x12, 0}, samples))
	}
	if got, err := Decode(slices.Concat(named(1), named(foreign.MaxReadings-1)), V1); err != nil || len(got.Readings) != foreign.MaxReadings {
		t.Errorf("as many as may be: %d, %v", len(got.Readings), err)
	}
	for name, c := range map[string]struct {
		body    []byte
		version Version
	}{
		"one too many":             {slices.Concat(named(1), named(foreign.MaxReadings)), V1},
		"one too many, one by one": {bytes.Repeat(named(1), foreign.MaxReadings+1), V1},
		"symbols":                  {bytes.Repeat([]byte{0x22, 0}, maxSymbols+1), V2},
	} {
		if _, err := Decode(c.body, c.version); !errors.Is(err, foreign.ErrTooMany) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUncompress(t *testing.T) {
	bomb := snappy.Encode(nil, make([]byte, 1<<20))
	for name, c := range map[string]struct {
		body []byte
		max  int
		says string
	}{
		"whole":     {snappy.Encode(nil, version1()), 1 << 10, ""},
		"too large": {bomb, 1<<20 - 1, "1048576 bytes uncompressed, at most 1048575"},
		"a lie":     {append(protowire.AppendVarint(nil, 100), 0), 1 << 10, "snappy"},
		"nothing":   {nil, 1 << 10, "snappy"},
	} {
		got, err := Uncompress(c.body, c.max)
		if c.says == "" && (err != nil || !slices.Equal(got, version1())) || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

func TestParseContentType(t *testing.T) {
	for header, want := range map[string]Version{
		"": V1, "application/x-protobuf": V1, "application/x-protobuf;proto=prometheus.WriteRequest": V1,
		"application/x-protobuf;proto=io.prometheus.write.v2.Request": V2, "application/x-protobuf;proto=other": 0, "application/json": 0, "/": 0,
	} {
		if got, err := ParseContentType(header); got != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %d, %v", header, got, err)
		}
	}
}

// FuzzDecode: what is read has names, and is the same when it is written as version 1 and read again.
func FuzzDecode(f *testing.F) {
	f.Add(version1(), false)
	f.Add(version2(), true)
	f.Fuzz(func(t *testing.T, body []byte, second bool) {
		version := V1
		if second {
			version = V2
		}
		got, err := Decode(body, version)
		if err != nil {
			return
		}
		var again []byte
		for i := range got.Readings {
			r := &got.Readings[i]
			series := [][]byte{label("__name__", r.Metric)}
			for name, value := range r.Labels {
				series = append(series, label(name, value))
			}
			value := r.Value.Float
			if r.Value.Whole {
				value = float64(r.Value.Int)
			}
			again = append(again, message(1, append(series, sampleOf(value, r.Time, r.Start))...)...)
		}
		back, err := Decode(again, V1)
		if err != nil {
			t.Fatalf("read what was written: %v", err)
		}
		same := cmp.Comparer(func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) })
		if diff := cmp.Diff(got.Readings, back.Readings, same); diff != "" {
			t.Errorf("readings differ:\n%s", diff)
		}
	})
}
