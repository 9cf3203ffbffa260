// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"
	"time"
)

func TestMoment(t *testing.T) {
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"24h": now.Add(-24 * time.Hour), "0s": now, "now": now, "90m": now.Add(-90 * time.Minute), "2026-03-01T12:00:00Z": now.Add(-24 * time.Hour),
		"2026-03-01T13:00:00+01:00": now.Add(-24 * time.Hour), "2026-03-01 12:00": now.Add(-24 * time.Hour), "2026-03-01": now.Add(-36 * time.Hour),
	} {
		var m moment
		if err := m.Set(text); err != nil || !m.time(now).Equal(want) || m.String() == "" {
			t.Errorf("%s: %s, %v, want %s", text, m.time(now), err, want)
		}
	}
	for _, text := range []string{"", "-1h", "24", "06:15", "yesterday", "2026-13-01"} {
		var m moment
		if m.Set(text) == nil {
			t.Errorf("%q is taken for %s", text, m.time(now))
		}
	}
	var none moment
	if !none.time(now).IsZero() {
		t.Error("a moment that was not given is one")
	}
}
