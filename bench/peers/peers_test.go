// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"bytes"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// batchOf is a batch of two GPUs and two ticks in which two columns have values, one of them not always.
func batchOf(t *testing.T) *wire.Batch {
	t.Helper()
	table, _ := schema.TableByID(schema.SamplesID)
	b := array.NewRecordBuilder(memory.DefaultAllocator, table.WireSchema())
	defer b.Release()
	for row := range 4 {
		for i, c := range table.WireColumns() {
			switch field := b.Field(i).(type) {
			case *array.TimestampBuilder:
				field.Append(arrow.Timestamp(1_790_000_000_000 + 1000*int64(row/2)))
			case *array.Uint64Builder:
				if c.Name == schema.ColumnGPU {
					field.Append(first + uint64(row%2))
				} else {
					field.AppendNull()
				}
			case *array.Int16Builder:
				if c.Name == "gpu_temperature_celsius" && row != 1 {
					field.Append(int16(-40 + row))
				} else {
					field.AppendNull()
				}
			case *array.Uint16Builder:
				if c.Name == "power_instant_watts" {
					field.Append(uint16(60_000 + row))
				} else {
					field.AppendNull()
				}
			case *array.Uint8Builder:
				field.Append(7)
			case *array.Uint32Builder:
				field.Append(9)
			default:
				b.Field(i).AppendNull()
			}
		}
	}
	record := b.NewRecordBatch()
	defer record.Release()
	encoder, err := wire.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	batch, err := encoder.Encode(record, wire.Identity{Table: schema.SamplesID, Node: 77, Epoch: 1, Sequence: 1})
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

func readBatch(t *testing.T) Flush {
	t.Helper()
	r, err := NewReader()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f, err := r.Read(batchOf(t))
	if err != nil {
		t.Fatal(err)
	}
	var asked []Series // the rates are of 32 bits, too, and have the 9
	for _, s := range f.Series {
		if !strings.HasSuffix(s.Metric, "_per_second") {
			asked = append(asked, s)
		}
	}
	f.Series = asked
	return f
}

const (
	power = "gpufleet_power_instant_watts"
	heat  = "gpufleet_gpu_temperature_celsius"
	first = uint64(1) << 63
)

func TestReadingsAreWhatTheBatchSays(t *testing.T) {
	f := readBatch(t)
	both := []int64{1_790_000_000_000, 1_790_000_001_000}
	want := Flush{Node: 77, Start: both[0], Rows: 4, Series: []Series{
		{heat, first, both, []float64{-40, -38}},
		{heat, first + 1, both[1:], []float64{-37}},
		{power, first, both, []float64{60_000, 60_002}},
		{power, first + 1, both, []float64{60_001, 60_003}},
	}}
	if diff := cmp.Diff(want, f); diff != "" {
		t.Error(diff)
	}
	if f.Samples() != 7 {
		t.Errorf("%d samples", f.Samples())
	}
}

// fields are the fields of a protobuf message, by number, in order.
func fields(t *testing.T, message []byte) map[protowire.Number][][]byte {
	t.Helper()
	all := make(map[protowire.Number][][]byte)
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		message = message[n:]
		n = protowire.ConsumeFieldValue(number, kind, message)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		value := message[:n]
		if kind == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(value)
		}
		all[number] = append(all[number], value)
		message = message[n:]
	}
	return all
}

func double(t *testing.T, b []byte) float64 {
	t.Helper()
	bits, n := protowire.ConsumeFixed64(b)
	if n < 0 {
		t.Fatal(protowire.ParseError(n))
	}
	return math.Float64frombits(bits)
}

// TestRemoteWriteSaysAllReadings reads the request as a receiver does.
func TestRemoteWriteSaysAllReadings(t *testing.T) {
	f := readBatch(t)
	request, err := s2.Decode(nil, RemoteWrite(f))
	if err != nil {
		t.Fatal(err)
	}
	var got []Series
	for _, series := range fields(t, request)[1] {
		var s Series
		parts := fields(t, series)
		var labels []string
		for _, label := range parts[1] {
			pair := fields(t, label)
			labels = append(labels, string(pair[1][0])+"="+string(pair[2][0]))
		}
		for _, sample := range parts[2] {
			pair := fields(t, sample)
			at, _ := protowire.ConsumeVarint(pair[2][0])
			s.Times, s.Values = append(s.Times, int64(at)), append(s.Values, double(t, pair[1][0]))
		}
		s.Metric, s.GPU = f.Series[len(got)].Metric, f.Series[len(got)].GPU
		if want := []string{"__name__=" + s.Metric, "gpu=" + ID(s.GPU), "node=77"}; !cmp.Equal(labels, want) {
			t.Errorf("labels %v, want %v", labels, want)
		}
		got = append(got, s)
	}
	if diff := cmp.Diff(f.Series, got); diff != "" {
		t.Error(diff)
	}
}

func TestOTLPSaysAllReadings(t *testing.T) {
	f := readBatch(t)
	packed, err := OTLP(f)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	request, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	resource := fields(t, fields(t, request)[1][0])
	if node := attribute(t, fields(t, resource[1][0])[1][0]); node != "node=77" {
		t.Errorf("resource has %s", node)
	}
	var got []Series
	for _, metric := range fields(t, resource[2][0])[2] {
		parts := fields(t, metric)
		for _, point := range fields(t, parts[5][0])[1] {
			p := fields(t, point)
			nanoseconds, _ := protowire.ConsumeFixed64(p[3][0])
			gpu := first
			if attribute(t, p[7][0]) == "gpu="+ID(first+1) {
				gpu++
			}
			if n := len(got); n == 0 || got[n-1].Metric != string(parts[1][0]) || got[n-1].GPU != gpu {
				got = append(got, Series{Metric: string(parts[1][0]), GPU: gpu})
			}
			s := &got[len(got)-1]
			s.Times, s.Values = append(s.Times, int64(nanoseconds/1e6)), append(s.Values, double(t, p[4][0]))
		}
	}
	if diff := cmp.Diff(f.Series, got); diff != "" {
		t.Error(diff)
	}
}

func attribute(t *testing.T, b []byte) string {
	t.Helper()
	pair := fields(t, b)
	return string(pair[1][0]) + "=" + string(fields(t, pair[2][0])[1][0])
}

func TestAnswersOfPeersAreRead(t *testing.T) {
	matrix := `{"status":"success","data":{"resultType":"matrix","result":[
		{"metric":{"node":"5"},"values":[[60119.999,"12.5"],[60179.999,"1e3"]]},
		{"metric":{},"values":[[60119.999,"-1"]]}]}}`
	got, err := ParseMatrix([]byte(matrix), NodeLabel, 60)
	if err != nil {
		t.Fatal(err)
	}
	want := Answer{{"5", 60060}: 12.5, {"5", 60120}: 1000, {"", 60060}: -1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	lines, err := ParseTSV([]byte("5\t60060\t12.5\n5\t60120\t1000\n60060\t-1\n60180\t\\N\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := want.Same(lines); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{
		``, `{}`, `{"status":"error","error":"no"}`, `{"status":"success","data":{"resultType":"vector"}}`,
		`{"status":"success","data":{"resultType":"matrix","result":[{"values":[["x","1"]]}]}}`,
		`{"status":"success","data":{"resultType":"matrix","result":[{"values":[[1,"x"]]}]}}`,
	} {
		if _, err := ParseMatrix([]byte(bad), "", 1); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
	for _, bad := range []string{"1\n", "1\t2\t3\t4\n", "x\t1\n", "1\tx\n"} {
		if _, err := ParseTSV([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestDifferentAnswersAreNotTheSame(t *testing.T) {
	one := Answer{{"5", 60}: 100, {"6", 60}: 0}
	if err := one.Same(Answer{{"5", 60}: 100.00001, {"6", 60}: 0}); err != nil {
		t.Errorf("the last digits: %v", err)
	}
	for name, other := range map[string]Answer{
		"a value": {{"5", 60}: 100.1, {"6", 60}: 0}, "a node": {{"5", 60}: 100, {"7", 60}: 0}, "a minute": {{"5", 60}: 100, {"6", 120}: 0}, "fewer": {{"5", 60}: 100},
	} {
		if one.Same(other) == nil {
			t.Errorf("another one in %s is the same", name)
		}
	}
}

func TestCountersAreAddedUp(t *testing.T) {
	page := []byte("# HELP vm_rows\nvm_rows{type=\"storage/inmemory\"} 5\nvm_rows{type=\"storage/small\"} 1e3\nvm_rows{type=\"indexdb\"} 7\nvm_rows_other{type=\"storage/x\"} 9\nplain 4\n")
	if got, err := ParseCounter(page, "vm_rows", `type="storage/`); got != 1005 || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := ParseCounter(page, "plain", ""); got != 4 || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := ParseCounter(page, "absent", ""); err == nil {
		t.Error("a counter that is not there was read")
	}
	if _, err := ParseCounter([]byte("a b\n"), "a", ""); err == nil {
		t.Error("a counter that is no number was read")
	}
}
