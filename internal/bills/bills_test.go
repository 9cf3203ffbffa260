// SPDX-License-Identifier: Apache-2.0

package bills

import (
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/google/go-cmp/cmp"
	"github.com/shopspring/decimal"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
)

func TestMain(m *testing.M) { clickhousetest.Main(m) }

var quirks = filepath.Join("testdata", "quirks.csv")

// became is a charge in one line.
func became(c Charge) string {
	words := []string{c.Texts["charge_description"] + ":"}
	for _, f := range c.Reasons {
		words = append(words, string(f.Reason))
	}
	if len(c.Reasons) > 0 {
		return strings.Join(words, " ")
	}
	words = append(words, c.Provider, c.Cost.String(), c.Currency)
	if c.OfMachine {
		words = append(words, fmt.Sprintf("%s %q %d", c.InstanceID, c.InstanceType, c.GPUs), hoursText(c.MachineHours), hoursText(c.GPUHours))
	}
	for _, n := range c.Notes {
		words = append(words, string(n))
	}
	return strings.Join(words, " ")
}

func hoursText(hours *decimal.Decimal) string {
	if hours == nil {
		return "-"
	}
	return hours.String()
}

// TestQuirks has what was seen in real bills, and what they must not break on: each has an outcome by its name.
func TestQuirks(t *testing.T) {
	var got []string
	if err := Read(t.Context(), quirks, func(c Charge) error { got = append(got, became(c)); return nil }); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`plain: aws 55.04 USD i-01 "p5.48xlarge" 8 1 -`,
		`no zone; covered by a plan: aws 40.5 USD i-01 "" 0 1 - unknown_machine no_zone`,
		`amortised to nothing: aws 55.04 USD i-01 "" 8 1 - effective_zero unknown_machine zone_is_region`,
		`taken back: aws -27.52 USD i-01 "" 0 -0.5 - correction unknown_machine`,
		`below zero: aws -0.0000001 USD negative_usage`,
		`a credit: aws -3 USD credit`,
		`nobody had it: aws 2 USD unused_commitment`,
		`another month and another word: aws 1 USD outside_month effective_missing unknown_category`,
		`Nvidia H100 80GB GPU running in Virginia: gcp 1500 EUR 77 "a3-highgpu-8g" 8 - 192`,
		`A3 Instance Core running in Virginia: gcp 150 EUR 77 "a3-highgpu-8g" 8 - -`,
		`another currency: unknown_currency`, `no time: bad_period`, `ends before it begins: bad_period`, `no cost: no_cost`, `no number: bad_number`,
		`too fine: too_many_digits`, `nobody: no_provider`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestRealBill reads a real bill, where it is at hand: 500 rows of AWS in FOCUS 1.0.
func TestRealBill(t *testing.T) {
	path := filepath.Join("..", "..", "..", "shared", "data", "focus_1.0_sample_500.csv")
	if _, err := os.Stat(path); err != nil {
		t.Skip("SKIPPED: there is no real bill beside this checkout")
	}
	summaries, err := Scan(t.Context(), []string{path}, nil)
	if err != nil || len(summaries) != 1 {
		t.Fatalf("%+v, %v", summaries, err)
	}
	s := summaries[0]
	if s.Rows != 500 || s.Quarantined != 0 || s.Machines != 14 || s.Billed["USD"].String() != "5.9883937432" || s.Cost["USD"].String() != "5.8380937432" ||
		s.Notes[EffectiveZero] != 313 || s.Notes[Credit] != 1 || s.Month.String() != "aws 2024-09, account 1234567890123" {
		t.Errorf("%+v", s)
	}
}

func TestSeveralCurrenciesHaveNoSum(t *testing.T) {
	usd, eur := decimal.New(5, 0), decimal.New(7, 0)
	if got := total(map[string]decimal.Decimal{"USD": usd}); got == nil || !got.Equal(usd) {
		t.Errorf("one currency: %v", got)
	}
	if got := total(map[string]decimal.Decimal{"USD": usd, "EUR": eur}); got != nil {
		t.Errorf("two currencies: %v", got)
	}
}

func TestFilesThatAreNoBill(t *testing.T) {
	dir := t.TempDir()
	for name, tt := range map[string]struct{ text, want string }{
		"a.csv":     {"", "its header"},
		"b.csv":     {"provider,price\n", "it lacks BilledCost, BillingCurrency"},
		"c.csv":     {"BilledCost,billedcost\n", "is there twice"},
		"d.csv":     {strings.Join(needed, ",") + "\n\"1,2", "read the bill d.csv"},
		"e.xlsx":    {"", "its name ends in none of"},
		"f.csv.gz":  {"no gzip", "read the bill f.csv.gz"},
		"g.parquet": {"PAR1 and no more", "read the bill g.parquet"},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Read(t.Context(), path, func(Charge) error { return nil }); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	if err := Read(t.Context(), filepath.Join(dir, "none.csv"), nil); err == nil || !strings.Contains(err.Error(), "none.csv") {
		t.Errorf("got %v", err)
	}
}

// TestGzip: the same, packed.
func TestGzip(t *testing.T) {
	text, err := os.ReadFile(quirks)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "quirks.csv.gz")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := gzip.NewWriter(file)
	_, err = w.Write(text)
	if err := errors.Join(err, w.Close(), file.Close()); err != nil {
		t.Fatal(err)
	}
	rows := 0
	if err := Read(t.Context(), path, func(Charge) error { rows++; return nil }); err != nil || rows != 17 {
		t.Errorf("%d rows, %v", rows, err)
	}
}

// TestParquet has costs as decimals, and as the binary fractions that AWS's exports have.
func TestParquet(t *testing.T) {
	for name, tt := range map[string]struct {
		cost   arrow.DataType
		append func(b array.Builder)
		want   string
	}{
		"decimals": {
			&arrow.Decimal128Type{Precision: 38, Scale: 10}, func(b array.Builder) { _ = b.AppendValueFromString("55.0400000001") },
			`: aws 55.0400000001 USD i-01 "p5.48xlarge" 8 1 - no_zone`,
		},
		"binary fractions": {
			arrow.PrimitiveTypes.Float64, func(b array.Builder) { b.(*array.Float64Builder).Append(0.30000000000000004) },
			`: aws 0.30000000000000004 USD i-01 "p5.48xlarge" 8 1 - no_zone binary_fraction`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := writeParquet(t, tt.cost, tt.append)
			var got []string
			if err := Read(t.Context(), path, func(c Charge) error { got = append(got, became(c)); return nil }); err != nil {
				t.Fatal(err)
			}
			if len(got) != 2 || got[0] != tt.want || !strings.Contains(got[1], "no_cost") {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// writeParquet writes two rows, the second without costs.
func writeParquet(t *testing.T, cost arrow.DataType, appendCost func(array.Builder)) string {
	t.Helper()
	month := &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "UTC"}
	texts := map[string]string{
		"ProviderName": "AWS", "BillingAccountId": "a", "BillingCurrency": "USD", "ChargeCategory": "Usage", "ServiceCategory": "Compute", "ResourceId": "i-01",
		"ConsumedUnit": "Hours", "SkuPriceDetails": `{"InstanceType":"p5.48xlarge"}`, "ConsumedQuantity": "1",
	}
	var fields []arrow.Field
	for name := range texts {
		fields = append(fields, arrow.Field{Name: name, Type: arrow.BinaryTypes.String, Nullable: true})
	}
	times := map[string]int64{"BillingPeriodStart": 1790812800000, "BillingPeriodEnd": 1793491200000, "ChargePeriodStart": 1790812800000, "ChargePeriodEnd": 1790816400000}
	for name := range times {
		fields = append(fields, arrow.Field{Name: name, Type: month})
	}
	fields = append(fields, arrow.Field{Name: "EffectiveCost", Type: cost, Nullable: true}, arrow.Field{Name: "BilledCost", Type: cost, Nullable: true})
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
	defer b.Release()
	for row := range 2 {
		for i, f := range fields {
			switch builder := b.Field(i).(type) {
			case *array.StringBuilder:
				builder.Append(texts[f.Name])
			case *array.TimestampBuilder:
				builder.Append(arrow.Timestamp(times[f.Name]))
			default:
				if row == 1 {
					builder.AppendNull()
					continue
				}
				appendCost(builder)
			}
		}
	}
	batch := b.NewRecordBatch()
	defer batch.Release()
	path := filepath.Join(t.TempDir(), "bill.parquet")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := pqarrow.NewFileWriter(batch.Schema(), file, parquet.NewWriterProperties(), pqarrow.DefaultWriterProps())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(batch); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// FuzzCSV: whatever a file holds, each row becomes one charge, which either counts and has a cost, or says why not.
func FuzzCSV(f *testing.F) {
	text, err := os.ReadFile(quirks)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Add(strings.Join(needed, ",") + ",ProviderName\n1e5,USD,2026-01-01,Usage,2026-01-01,2026-01-02,AWS\n")
	f.Fuzz(func(t *testing.T, text string) {
		_ = ReadCSV(strings.NewReader(text), "fuzz", func(c Charge) error {
			if len(c.Reasons) > 0 {
				return nil
			}
			if c.Cost == nil || c.Cost.Abs().GreaterThanOrEqual(largest) || c.To.Before(c.From) || c.Provider == "" || len(c.Currency) != 3 {
				t.Fatalf("%+v", c)
			}
			return nil
		})
	})
}
