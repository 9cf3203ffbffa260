// SPDX-License-Identifier: Apache-2.0

package bills

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
)

// record is a row as a file has it.
type record struct {
	places map[string]int // of FOCUS columns, in small letters
	cells  []string
	line   int
	binary bool // the file has numbers as binary fractions
}

// text is a cell; "" if the file or the row does not have it. Exports print NULL for nothing.
func (r record) text(column string) string {
	i, ok := r.places[strings.ToLower(column)]
	if !ok || i >= len(r.cells) {
		return ""
	}
	text := strings.TrimSpace(r.cells[i])
	if text == "NULL" || text == "null" || text == `\N` {
		return ""
	}
	return text
}

// first is the first of the columns that the row has.
func (r record) first(columns ...string) string {
	for _, c := range columns {
		if text := r.text(c); text != "" {
			return text
		}
	}
	return ""
}

// needed are the columns without which a file is no bill.
var needed = []string{"BilledCost", "BillingCurrency", "BillingPeriodStart", "ChargeCategory", "ChargePeriodStart", "ChargePeriodEnd"}

// placesIn finds the columns of a file.
func placesIn(header []string) (map[string]int, error) {
	places := make(map[string]int, len(header))
	for i, name := range header {
		key := strings.ToLower(strings.TrimSpace(strings.TrimPrefix(name, "\ufeff")))
		if _, twice := places[key]; twice {
			return nil, fmt.Errorf("column %s is there twice", name)
		}
		places[key] = i
	}
	var lacks []string
	for _, name := range needed {
		if _, ok := places[strings.ToLower(name)]; !ok {
			lacks = append(lacks, name)
		}
	}
	if len(lacks) > 0 {
		return nil, fmt.Errorf("it is no bill in FOCUS 1.0 to 1.3: it lacks %s", strings.Join(lacks, ", "))
	}
	return places, nil
}

// fingerprint is a hash of rows that does not depend on their order: hashes of rows are added up.
type fingerprint [2]uint64

func (f *fingerprint) add(other fingerprint) {
	f[0] += other[0]
	f[1] += other[1]
}

func (r record) hash() fingerprint {
	h := sha256.New()
	for _, cell := range r.cells {
		h.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(cell))))
		h.Write([]byte(cell))
	}
	sum := h.Sum(nil)
	return fingerprint{binary.LittleEndian.Uint64(sum), binary.LittleEndian.Uint64(sum[8:])}
}
