// SPDX-License-Identifier: Apache-2.0

package prices

import (
	"embed"
	"fmt"
	"strings"
	"time"
)

//go:embed known/*.csv
var knownFiles embed.FS

// Sheet is what was read of one file.
type Sheet struct {
	Name   string // of the file
	ReadAt time.Time
	Quotes []Quote
}

// Known reads the price lists that come with the program: what was public at a day, so that costs can be seen before a
// feed is read. Each says where its figures are from; its name ends in its day: aws-2026-07-20.csv.
func Known() ([]Sheet, error) {
	entries, err := knownFiles.ReadDir("known")
	if err != nil {
		return nil, fmt.Errorf("list the known prices: %w", err)
	}
	lists := make([]Sheet, len(entries))
	for i, entry := range entries {
		lists[i].Name = entry.Name()
		_, day, _ := strings.Cut(strings.TrimSuffix(entry.Name(), ".csv"), "-")
		if lists[i].ReadAt, err = time.Parse(time.DateOnly, day); err != nil {
			return nil, fmt.Errorf("day of the known prices %s: %w", entry.Name(), err)
		}
		if lists[i].Quotes, err = readKnown(entry.Name()); err != nil {
			return nil, err
		}
	}
	return lists, nil
}

func readKnown(name string) ([]Quote, error) {
	file, err := knownFiles.Open("known/" + name)
	if err != nil {
		return nil, fmt.Errorf("open the known prices: %w", err)
	}
	defer file.Close() //nolint:errcheck // it is part of the program
	return ReadCSV(file, name, Defaults{})
}
