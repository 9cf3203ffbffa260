// SPDX-License-Identifier: Apache-2.0

// Package bills reads what providers charge, as FOCUS 1.0 to 1.3 has it, and stores it so that the last import of a month
// counts. No row is lost without a word: one that cannot count is in quarantine with its reasons, and what is odd about one
// that counts is noted by name, so that the sum is that of the invoice. It starts no goroutines.
//
// Money is decimal here as everywhere. A Parquet file that has it as binary fractions is read as the shortest decimals that
// these stand for.
package bills

import (
	"fmt"
	"time"

	"github.com/shopspring/decimal"
)

// Reason is why a row cannot count.
type Reason string

// The reasons.
const (
	NoCost          Reason = "no_cost"          // neither an effective nor a billed one
	BadNumber       Reason = "bad_number"       // what should be one is none, or larger than any bill
	TooFine         Reason = "too_many_digits"  // to store it were to round it
	UnknownCurrency Reason = "unknown_currency" // no ISO 4217 code
	BadPeriod       Reason = "bad_period"       // no time, or one that ends before it begins
	NoProvider      Reason = "no_provider"      // nobody charges it
	RowTwice        Reason = "row_twice"        // as in another file of the same import: the month is there twice
)

// Note is what is odd about a row that counts.
type Note string

// The notes.
const (
	Credit            Note = "credit"            // money back
	Correction        Note = "correction"        // of an earlier bill
	NegativeUsage     Note = "negative_usage"    // usage below 0 that is not called a correction
	EffectiveZero     Note = "effective_zero"    // amortised it costs nothing, and yet it is invoiced, without a commitment: the invoice counts
	EffectiveMissing  Note = "effective_missing" // there is no amortised cost: the invoice counts
	UnusedCommitment  Note = "unused_commitment" // paid for, and nobody had it
	UnknownCategory   Note = "unknown_category"  // none of FOCUS
	OutsideMonth      Note = "outside_month"     // charged for a time that the bill is not of
	NoZone            Note = "no_zone"           // of a machine
	ZoneIsRegion      Note = "zone_is_region"    // a region stands where the zone should
	NoAccount         Note = "no_account"        // nobody is billed
	UnknownMachine    Note = "unknown_machine"   // the type of machine is not in the catalogue, or not told
	BinaryFraction    Note = "binary_fraction"   // the file has money as binary fractions
	UnknownTimeOfUnit Note = "unknown_unit"      // of a machine, in a unit that hours do not follow from
)

// Finding is a reason, with the values.
type Finding struct {
	Reason Reason
	Detail string
}

// Charge is a row of a bill.
type Charge struct {
	Provider, Account, Currency string
	MonthStart, MonthEnd        time.Time
	From, To                    time.Time
	Category                    string
	InstanceID, InstanceType    string
	GPUs                        int
	OfMachine                   bool
	MachineHours, GPUHours      *decimal.Decimal
	Cost                        *decimal.Decimal
	Amounts                     map[string]*decimal.Decimal // by our columns
	Texts                       map[string]string           // by our columns; without those that are not told
	Notes                       []Note
	Reasons                     []Finding // none: it counts
	Source                      string
	Line                        int
	fingerprint                 fingerprint
}

// Month is what has one bill: an account's month.
type Month struct {
	Provider, Account string
	Start             time.Time
}

func (c *Charge) month() Month { return Month{c.Provider, c.Account, c.MonthStart} }

func (c *Charge) against(reason Reason, format string, args ...any) {
	c.Reasons = append(c.Reasons, Finding{reason, fmt.Sprintf(format, args...)})
}

func (c *Charge) note(n Note) { c.Notes = append(c.Notes, n) }

// String says which month it is.
func (m Month) String() string {
	return fmt.Sprintf("%s %s, account %s", m.Provider, m.Start.Format("2006-01"), m.Account)
}
