// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// newYork is a fixed zone, so that the test needs no time zone database.
var newYork = time.FixedZone("EST", -5*60*60)

func TestLoggerWritesJSONInUTC(t *testing.T) {
	var out bytes.Buffer
	log, err := NewLogger(&out, "info", "json")
	if err != nil {
		t.Fatal(err)
	}
	record := slog.NewRecord(time.Date(2026, 3, 1, 20, 0, 0, 0, newYork), slog.LevelWarn, "collector is slow", 0)
	record.AddAttrs(slog.Time("since", time.Date(2026, 3, 1, 19, 0, 0, 0, newYork)), slog.Int("lane", 3))
	if err := log.Handler().Handle(t.Context(), record); err != nil {
		t.Fatal(err)
	}

	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("line %q: %v", out.String(), err)
	}
	want := map[string]any{
		"time": "2026-03-02T01:00:00Z", "level": "WARN", "msg": "collector is slow",
		"since": "2026-03-02T00:00:00Z", "lane": 3.0,
	}
	for key, value := range want {
		if line[key] != value {
			t.Errorf("%s = %v, want %v", key, line[key], value)
		}
	}
}

func TestLoggerKeepsItsLevel(t *testing.T) {
	var out bytes.Buffer
	log, err := NewLogger(&out, "WARN", "text")
	if err != nil {
		t.Fatal(err)
	}
	log.Info("hidden")
	log.Warn("shown")
	if got := out.String(); strings.Contains(got, "hidden") || !strings.Contains(got, "level=WARN msg=shown") {
		t.Errorf("log = %q, want the warning alone, as text", got)
	}
}

func TestLoggerRefusesWhatItDoesNotKnow(t *testing.T) {
	tests := []struct{ level, format, want string }{
		{"loud", "json", `log level "loud": want debug, info, warn or error`},
		{"", "json", `log level "": want debug, info, warn or error`},
		{"info", "xml", `log format "xml": want text or json`},
		{"info", "", `log format "": want text or json`},
	}
	for _, tt := range tests {
		log, err := NewLogger(&bytes.Buffer{}, tt.level, tt.format)
		if log != nil || err == nil || err.Error() != tt.want {
			t.Errorf("NewLogger(%q, %q) = %v, %v; want error %q", tt.level, tt.format, log, err, tt.want)
		}
	}
}
