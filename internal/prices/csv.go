// SPDX-License-Identifier: Apache-2.0

package prices

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/gpufleet/gpufleet/schema/hardware"
)

// Defaults are what a file does not say of its rows.
type Defaults struct {
	Provider, Region, LifeCycle, Currency string
	Basis                                 Basis
	Columns                               map[string]string // our name of a column by the file's
}

// The columns of a CSV file, by our names. instance_type and price_per_hour must be there; the rest may come from
// Defaults.
var csvColumns = []string{
	"provider", "region", "zone_id", "instance_type", "life_cycle", "basis", "currency", "price_per_hour", "gpus", "gpu", "valid_from", "valid_to",
}

// maxRowBytes bounds a field of a CSV file.
const maxRowBytes = 64 << 10

// ReadCSV reads prices from a CSV file with a header. Lines that begin with # are no rows. A row that cannot be read is a quote without a price: Check
// quarantines it, and the rest of the file is used.
func ReadCSV(r io.Reader, source string, d Defaults) ([]Quote, error) {
	rows := csv.NewReader(r)
	rows.FieldsPerRecord, rows.ReuseRecord, rows.Comment = -1, true, '#'
	header, err := rows.Read()
	if err != nil {
		return nil, fmt.Errorf("read prices from %s: its header: %w", source, err)
	}
	places, err := placesIn(header, d.Columns)
	if err != nil {
		return nil, fmt.Errorf("read prices from %s: %w", source, err)
	}
	var quotes []Quote
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return quotes, nil
		}
		if err != nil && !errors.Is(err, csv.ErrFieldCount) {
			return nil, fmt.Errorf("read prices from %s: %w", source, err)
		}
		line, _ := rows.FieldPos(0)
		quotes = append(quotes, csvRow{row, places}.quote(source, line, d))
	}
}

// placesIn finds our columns in a header.
func placesIn(header []string, names map[string]string) (map[string]int, error) {
	places := make(map[string]int)
	for i, name := range header {
		name = strings.ToLower(strings.TrimSpace(strings.TrimPrefix(name, "\ufeff")))
		if ours, ok := names[name]; ok {
			name = ours
		}
		if !slices.Contains(csvColumns, name) {
			continue
		}
		if _, twice := places[name]; twice {
			return nil, fmt.Errorf("column %s is there twice", name)
		}
		places[name] = i
	}
	for _, needed := range []string{"instance_type", "price_per_hour"} {
		if _, ok := places[needed]; !ok {
			return nil, fmt.Errorf("there is no column %s: the header is %s; name it with --column %[1]s=NAME", needed, strings.Join(header, ","))
		}
	}
	for _, ours := range slices.Sorted(maps.Values(names)) {
		if !slices.Contains(csvColumns, ours) {
			return nil, fmt.Errorf("%q is no column of prices: they are %s", ours, strings.Join(csvColumns, ", "))
		}
	}
	return places, nil
}

// csvRow is one row of a file.
type csvRow struct {
	cells  []string
	places map[string]int
}

// text is a cell; "" if the file or the row does not have it. Some exports print NULL for nothing.
func (r csvRow) text(column string) string {
	i, ok := r.places[column]
	if !ok || i >= len(r.cells) || len(r.cells[i]) > maxRowBytes {
		return ""
	}
	text := strings.TrimSpace(r.cells[i])
	if strings.EqualFold(text, "null") {
		return ""
	}
	return strings.Clone(text)
}

func (r csvRow) quote(source string, line int, d Defaults) Quote {
	or := func(column, otherwise string) string {
		if text := r.text(column); text != "" {
			return text
		}
		return otherwise
	}
	q := Quote{
		Provider: hardware.Provider(or("provider", d.Provider)), Region: or("region", d.Region), ZoneID: r.text("zone_id"),
		InstanceType: r.text("instance_type"), LifeCycle: or("life_cycle", d.LifeCycle), Basis: Basis(or("basis", string(d.Basis))),
		Currency: strings.ToUpper(or("currency", d.Currency)), GPU: r.text("gpu"), Source: source, Line: line,
	}
	q.Hourly, q.HasPrice = parsePrice(r.text("price_per_hour"))
	if gpus, err := strconv.Atoi(r.text("gpus")); err == nil {
		q.GPUs = gpus
	}
	q.dated(r.text("valid_from"), r.text("valid_to"))
	return q
}

// maxDigits bounds a price: more is no price, and costs memory.
const maxDigits = 40

// parsePrice reads a number as providers write it; false if it is none.
func parsePrice(text string) (decimal.Decimal, bool) {
	text = strings.TrimPrefix(text, "$")
	if text == "" || len(text) > maxDigits || strings.ContainsAny(text, "eE") {
		return decimal.Decimal{}, false
	}
	price, err := decimal.NewFromString(text)
	return price, err == nil
}

// timeForms are how times are written; those without a zone are UTC.
var timeForms = []string{time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02"}

// ParseTime reads a time as feeds and people write them; one without a zone is UTC. The empty text is the zero time, and no mistake.
func ParseTime(text string) (t time.Time, ok bool) {
	if text == "" {
		return time.Time{}, true
	}
	for _, form := range timeForms {
		if t, err := time.Parse(form, text); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}
