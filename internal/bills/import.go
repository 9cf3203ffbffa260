// SPDX-License-Identifier: Apache-2.0

package bills

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/shopspring/decimal"
)

// Summary is what the bill of a month has.
type Summary struct {
	Month       Month
	Rows        int
	Quarantined int
	Machines    int // rows of machines
	Notes       map[Note]int
	Reasons     map[Reason]int
	Cost        map[string]decimal.Decimal // by currency
	Billed      map[string]decimal.Decimal
	Source      string // the first file
	fingerprint fingerprint
}

// Fingerprint is a hash over the rows of a month, in any order.
func (s Summary) Fingerprint() string {
	return fmt.Sprintf("%016x%016x-%d", s.fingerprint[0], s.fingerprint[1], s.Rows+s.Quarantined)
}

// total is the sum of a month that has one currency; nil if it has several, which are never added.
func total(sums map[string]decimal.Decimal) *decimal.Decimal {
	all := slices.Collect(maps.Values(sums))
	if len(all) != 1 {
		return nil
	}
	return &all[0]
}

// files reads several files as one import. A row that an earlier file has, too, is in quarantine: they overlap. Equal rows
// of one file are two charges.
type files struct {
	paths []string
	seen  map[fingerprint]int // in which file first; nil for one file
}

func newFiles(paths []string) *files {
	f := &files{paths: paths}
	if len(paths) > 1 {
		f.seen = make(map[fingerprint]int)
	}
	return f
}

func (f *files) each(ctx context.Context, row func(Charge) error) error {
	clear(f.seen)
	for i, path := range f.paths {
		err := Read(ctx, path, func(c Charge) error {
			if f.seen != nil {
				if first, ok := f.seen[c.fingerprint]; ok && first != i {
					c.against(RowTwice, "file %s has the same row", filepath.Base(f.paths[first]))
				} else if !ok {
					f.seen[c.fingerprint] = i
				}
			}
			return row(c)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Scan reads files and says what they have, by month, without storing anything. Progress is told how many rows were read,
// now and then; it may be nil.
func Scan(ctx context.Context, paths []string, progress func(rows int)) ([]Summary, error) {
	months := make(map[Month]*Summary)
	read := 0
	err := newFiles(paths).each(ctx, func(c Charge) error {
		if read++; progress != nil && read%tellEvery == 0 {
			progress(read)
		}
		s, ok := months[c.month()]
		if !ok {
			s = &Summary{
				Month: c.month(), Source: c.Source, Notes: make(map[Note]int), Reasons: make(map[Reason]int),
				Cost: make(map[string]decimal.Decimal), Billed: make(map[string]decimal.Decimal),
			}
			months[c.month()] = s
		}
		s.count(c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	list := make([]Summary, 0, len(months))
	for _, s := range months {
		list = append(list, *s)
	}
	slices.SortFunc(list, func(a, b Summary) int {
		return cmp.Or(cmp.Compare(a.Month.Provider, b.Month.Provider), cmp.Compare(a.Month.Account, b.Month.Account), a.Month.Start.Compare(b.Month.Start))
	})
	return list, nil
}

// tellEvery is how many rows go by between two words about progress.
const tellEvery = 250_000

func (s *Summary) count(c Charge) {
	s.fingerprint.add(c.fingerprint)
	if len(c.Reasons) > 0 {
		s.Quarantined++
		s.Reasons[c.Reasons[0].Reason]++
		return
	}
	s.Rows++
	if c.OfMachine {
		s.Machines++
	}
	for _, n := range c.Notes {
		s.Notes[n]++
	}
	s.Cost[c.Currency] = s.Cost[c.Currency].Add(*c.Cost)
	if billed := c.Amounts["billed_cost"]; billed != nil {
		s.Billed[c.Currency] = s.Billed[c.Currency].Add(*billed)
	}
}

// Currencies are those of the month, sorted.
func (s Summary) Currencies() []string { return slices.Sorted(maps.Keys(s.Cost)) }
