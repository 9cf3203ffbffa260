// SPDX-License-Identifier: Apache-2.0

package schema_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/gpufleet/gpufleet/schema"
)

// unitRule ties a unit to the word for it in names, and to the narrowest types that hold what is
// measured in it.
type unitRule struct {
	unit  string
	word  string
	types []schema.Type
}

var (
	wide   = []schema.Type{schema.Uint64}
	middle = []schema.Type{schema.Uint32, schema.Uint64}
	narrow = []schema.Type{schema.Uint16, schema.Uint32, schema.Uint64}
	signed = []schema.Type{schema.Int16, schema.Int32, schema.Int64}
)

var unitRules = []unitRule{
	{"‰", "permille", narrow},  // to 1000
	{"Cel", "celsius", signed}, // a margin may be below 0
	{"W", "watts", narrow},     // a module draws under 65 kW
	{"mW", "milliwatts", middle},
	{"mW/s", "milliwatts_per_second", middle},
	{"mJ", "millijoules", wide}, // 1 kW for 50 days is over 32 bits
	{"MHz", "megahertz", narrow},
	{"By", "bytes", wide},
	{"MiBy/s", "mebibytes_per_second", middle}, // NVLink is over 65 GiB/s
	{"MBy/s", "megabytes_per_second", middle},
	{"us", "microseconds", wide}, // 32 bits are 71 minutes
	{"ms", "milliseconds", middle},
	{"Gbit/s", "gigabits_per_second", nil},
	{"s", "seconds", nil}, // views only, from here on
	{"h", "hours", nil},
	{"J", "joules", nil},
	{"W/s", "watts_per_second", nil},
	{"By/s", "bytes_per_second", nil},
}

func TestMetricsAreExplained(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range schema.Metrics() {
		if seen[m.Name] {
			t.Errorf("metric %s occurs twice", m.Name)
		}
		seen[m.Name] = true
		if m.Unit == "" || len(m.Sources) == 0 {
			t.Errorf("metric %s: unit %q, %d sources: every metric has both", m.Name, m.Unit, len(m.Sources))
		}
		for _, s := range m.Sources {
			if s.Name == "" || (s.Kind == schema.FromProfile) != (s.ID != 0) && s.Kind != schema.FromRing {
				t.Errorf("metric %s: source %+v", m.Name, s)
			}
		}
		if m.OTel != "" && !regexp.MustCompile(`^hw(\.[a-z]+)+$`).MatchString(m.OTel) {
			t.Errorf("metric %s: OpenTelemetry name %q", m.Name, m.OTel)
		}
		if m.Kind == schema.Counter && m.Type != schema.Uint32 && m.Type != schema.Uint64 {
			t.Errorf("counter %s has increments of type %s: too narrow", m.Name, m.Type.ClickHouseType())
		}
		wantSentence(t, "metric "+m.Name, m.Meaning)
		wantTypeOfUnit(t, m.Name, m.Unit, m.Type)
	}
}

func wantTypeOfUnit(t *testing.T, name, unit string, got schema.Type) {
	t.Helper()
	i := slices.IndexFunc(unitRules, func(r unitRule) bool { return r.unit == unit })
	if i < 0 || slices.Contains(unitRules[i].types, got) {
		return
	}
	t.Errorf("%s in %q is of type %s, too narrow", name, unit, got.ClickHouseType())
}

func wantSentence(t *testing.T, what, meaning string) {
	t.Helper()
	first := []rune(meaning + " ")[0]
	if !strings.HasSuffix(meaning, ".") || !unicode.IsUpper(first) && !unicode.IsDigit(first) {
		t.Errorf("%s: meaning %q is no sentence", what, meaning)
	}
}

func TestColumnsAreNamedByTheirUnits(t *testing.T) {
	for _, table := range schema.StoredTables() {
		seen := map[string]bool{}
		for _, c := range table.Columns {
			wantColumnName(t, table.Name, c.Name, c.Unit, seen)
			wantSentence(t, table.Name+"."+c.Name, c.Meaning)
		}
		wantSentence(t, table.Name, table.Meaning)
	}
	for _, view := range schema.Views() {
		seen := map[string]bool{}
		for _, c := range view.Columns {
			unit := c.Unit
			if strings.HasSuffix(c.Name, "_ratio") {
				unit = "ratio"
				if c.Unit != "1" {
					t.Errorf("%s.%s is a ratio in %q, want 1", view.Name, c.Name, c.Unit)
				}
			}
			wantColumnName(t, view.Name, c.Name, unit, seen)
			wantSentence(t, view.Name+"."+c.Name, c.Meaning)
			if strings.Contains(c.Name, "permille") || strings.Contains(c.Name, "milliwatts") || strings.Contains(c.Name, "microseconds") {
				t.Errorf("%s.%s is in a unit that is not plain", view.Name, c.Name)
			}
		}
		wantSentence(t, view.Name, view.Meaning)
	}
}

var snakeCase = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)

// wantColumnName fails unless the name has the word of its unit, and no other unit's.
func wantColumnName(t *testing.T, table, name, unit string, seen map[string]bool) {
	t.Helper()
	if !snakeCase.MatchString(name) || seen[name] {
		t.Errorf("%s.%s is not in snake_case, or occurs twice", table, name)
	}
	seen[name] = true
	found := unitInName(name)
	known := slices.ContainsFunc(unitRules, func(r unitRule) bool { return r.unit == unit })
	switch {
	case known && found != unit:
		t.Errorf("%s.%s is in %q, and its name says %q", table, name, unit, found)
	case !known && found != "":
		t.Errorf("%s.%s says %q, and its unit is %q", table, name, found, unit)
	case !known && unit != "" && unit != "1" && unit != "ratio" && !strings.HasPrefix(unit, "{"):
		t.Errorf("%s.%s is in %q, which has no rule", table, name, unit)
	}
}

// unitInName finds the unit whose word stands in a name; the longest word counts.
func unitInName(name string) string {
	unit, length := "", 0
	for _, r := range unitRules {
		if strings.Contains("_"+name+"_", "_"+r.word+"_") && len(r.word) > length {
			unit, length = r.unit, len(r.word)
		}
	}
	return unit
}

func TestEventKindsAreExplained(t *testing.T) {
	sources := []string{schema.SourceAgent, schema.SourceDriver, schema.SourceKernel, schema.SourceCounter, schema.SourceCloud, schema.SourceNetwork}
	seen := map[string]bool{}
	for _, k := range schema.EventKinds() {
		if seen[k.Name] || !snakeCase.MatchString(k.Name) {
			t.Errorf("event kind %s is not in snake_case, or occurs twice", k.Name)
		}
		seen[k.Name] = true
		if !slices.Contains(sources, k.Source) {
			t.Errorf("event kind %s comes from %q", k.Name, k.Source)
		}
		wantSentence(t, "event kind "+k.Name, k.Meaning)
	}
}
