// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/schema"
)

// lives plays lives of an agent: after each row of the first GPU's health with one pending state, its name is noted
// that the event had, or "" if there was none.
type lives struct {
	*watched
	file   string
	second int64
}

// live runs one life of the agent, in which the state has these values.
func (l *lives) live(t *testing.T, boot string, values ...int64) (names []string) {
	t.Helper()
	l.start(t, boot, l.file)
	ctx, cancel := context.WithCancel(t.Context())
	kept := make(chan error, 1)
	go func() { kept <- l.Keep(ctx) }()
	for _, v := range values {
		l.second += 60
		before := len(l.out.all())
		l.row(schema.HealthID, l.second, map[string]batch.Cell{"row_remap_pending": batch.Number(v)})
		name := ""
		if all := l.out.all(); len(all) > before {
			name = all[before].Fault.Name
		}
		names = append(names, name)
	}
	wait(2 * saveAfter)
	cancel()
	if err := <-kept; err != nil {
		t.Error(err)
	}
	return names
}

// TestAStateThatBeginsAnewIsAnotherFault, and one that lasts is the same, over restarts too.
func TestAStateThatBeginsAnewIsAnotherFault(t *testing.T) {
	type life struct {
		boot   string
		values []int64
		told   string // a letter for each value: the same letter is the same fault, - is none
	}
	tests := []struct {
		name  string
		file  bool
		lives []life
	}{
		{"within a life", true, []life{{"b", []int64{0, 1, 1, 0, 1, 2, 1}, "-A--BCD"}}},
		{"it lasts over a restart", true, []life{{"b", []int64{0, 1}, "-A"}, {"b", []int64{1, 1}, "--"}, {"b", []int64{0, 1}, "-B"}}},
		{"it began while nobody looked", true, []life{{"b", []int64{0}, "-"}, {"b", []int64{1}, "A"}, {"b", []int64{0, 1}, "-B"}}},
		{"it ended and began while nobody looked", true, []life{{"b", []int64{1, 0, 1}, "A-B"}, {"b", []int64{0}, "-"}, {"b", []int64{1}, "C"}}},
		{"another boot", true, []life{{"b", []int64{1}, "A"}, {"c", []int64{1}, "B"}}},
		{"nothing is kept", false, []life{{"b", []int64{1, 0, 1}, "A-B"}, {"b", []int64{1, 1}, "A-"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &lives{watched: newWatched(t)}
				if tt.file {
					l.file = filepath.Join(t.TempDir(), "states.json")
				}
				letters := map[string]string{"": "-"}
				for i, life := range tt.lives {
					var told strings.Builder
					for _, name := range l.live(t, life.boot, life.values...) {
						if letters[name] == "" {
							letters[name] = string(rune('A' + len(letters) - 1))
						}
						told.WriteString(letters[name])
					}
					if told.String() != life.told {
						t.Errorf("life %d told %s, want %s", i, told.String(), life.told)
					}
				}
			})
		})
	}
}

// TestWhatChangesAtTheEndIsKept, and nothing is where nothing has changed.
func TestWhatChangesAtTheEndIsKept(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, changed := range []bool{true, false} {
		w, file := newWatched(t), filepath.Join(t.TempDir(), "states.json")
		w.start(t, "b", file)
		if changed {
			w.row(schema.HealthID, 60, map[string]batch.Cell{"row_remap_pending": batch.Number(1)})
		}
		if err := w.Keep(ctx); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(file); strings.Contains(string(text), "row_remap_pending") != changed || (err == nil) != changed {
			t.Errorf("a state changed: %t, and the file holds %q, %v", changed, text, err)
		}
	}
}

// TestAFileOfStatesThatMakesNoSense is set aside: the agent starts all the same.
func TestAFileOfStatesThatMakesNoSense(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON": "\x00\x00", "another version": `{"version":9,"boot_id":"b","states":[]}`, "cut short": `{"version":1,"boot_id":"b","sta`,
		"no number": `{"version":1,"boot_id":"b","states":[{"gpu_id":"x"}]}`, "too large": strings.Repeat(" ", maxStatesFile+1) + "{}",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &lives{watched: newWatched(t), file: filepath.Join(t.TempDir(), "states.json")}
				if err := os.WriteFile(l.file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				if got := l.live(t, "b", 1); got[0] == "" {
					t.Error("a state that lasts was not told")
				}
				if aside, err := os.ReadFile(l.file + ".damaged"); err != nil || string(aside) != text {
					t.Errorf("the file was not set aside: %v", err)
				}
				if got := l.live(t, "b", 1); got[0] != "" {
					t.Errorf("told again: %q; the file is not written anew", got)
				}
			})
		})
	}
}

func FuzzParseStates(f *testing.F) {
	f.Add([]byte(`{"version":1,"boot_id":"b","states":[{"gpu_id":"11495104353665842533","kind":"row_remap_pending","value":1,"since_milliseconds":1790000000000}]}`))
	f.Add([]byte(`{"version":1,"states":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if got, err := parseStates(text); err == nil && (got.Version != statesVersion || len(got.States) > maxStates) {
			t.Errorf("accepted %+v", got)
		}
	})
}
