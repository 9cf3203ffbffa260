// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"
)

// moment is a time that is given as how long ago it was, or as itself.
type moment struct {
	text string
	past bool // it is so long ago
	ago  time.Duration
	at   time.Time
}

// momentLayouts are those in which a time can be given. Without a zone it is UTC, as in all that is printed.
var momentLayouts = []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"}

// ago is a moment so long ago.
func ago(d time.Duration) moment { return moment{text: d.String(), past: true, ago: d} }

// Set implements pflag.Value.
func (m *moment) Set(text string) error {
	if text == "now" {
		*m = moment{text: text, past: true}
		return nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		if d < 0 {
			return fmt.Errorf("%s is in the future: give how long ago, such as 24h", text)
		}
		*m = ago(d)
		return nil
	}
	for _, layout := range momentLayouts {
		if at, err := time.Parse(layout, text); err == nil {
			*m = moment{text: text, at: at}
			return nil
		}
	}
	return fmt.Errorf("%q is no time: give how long ago, such as 24h, a time, such as 2026-03-01T12:00:00Z, or now", text)
}

// String implements pflag.Value.
func (m *moment) String() string { return m.text }

// Type implements pflag.Value.
func (m *moment) Type() string { return "time" }

// time is the moment, as seen from now; zero if none was given.
func (m *moment) time(now time.Time) time.Time {
	if m.past {
		return now.Add(-m.ago)
	}
	return m.at
}
