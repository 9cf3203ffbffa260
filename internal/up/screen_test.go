// SPDX-License-Identifier: Apache-2.0

package up

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gpufleet/gpufleet/agent"
)

func places() []place {
	hot, cool := int16(3), int16(40)
	return []place{
		{Provider: "aws", Region: "us-east-1", GPUs: 10, Busy: new(0.5), PowerWatts: new(5000.0), Margin: &cool, Faults: 1, RowsPerSec: 10, Freshness: new(1.5)},
		{Provider: "oci", Region: "uk-london-1", GPUs: 30, Silent: 2, Busy: new(0.9), PowerWatts: new(20000.0), Margin: &hot, RowsPerSec: 30, Freshness: new(2.5)},
		{Provider: "gcp", Region: "us-central1", GPUs: 0, Margin: nil},
	}
}

func TestTotalIsWeightedByGPUs(t *testing.T) {
	all := total(places())
	if all.GPUs != 40 || *all.Busy != 0.8 || *all.PowerWatts != 25000 || all.Faults != 1 || *all.Freshness != 2.5 {
		t.Errorf("total %+v", all)
	}
	if all.Margin == nil || *all.Margin != 3 {
		t.Errorf("hottest margin %v, want 3", all.Margin)
	}
	if empty := total(nil); empty.Busy != nil || empty.Margin != nil {
		t.Errorf("total of nothing %+v", empty)
	}
}

// on is a screen on a terminal of a size.
func on(out io.Writer, width, height int) *screen {
	return newScreen(Config{Out: out, TerminalSize: func() (int, int) { return width, height }})
}

func TestTerminalIsRedrawnInPlace(t *testing.T) {
	var out bytes.Buffer
	s := on(&out, 80, 24)
	v := view{places: places(), stats: agent.Stats{Ticks: 7, MissedTicks: 2, BatchesWaiting: 1}, known: true, running: time.Minute, readers: "simulated"}
	s.show(v)
	first := out.String()
	if strings.Contains(first, "\x1b") {
		t.Errorf("the first table erases something: %q", first)
	}
	for _, want := range []string{"us-east-1", "50.0 %", "3 °C", "–", "25.0 kW", "1m0s, simulated; 7 ticks (2 missed, 0 late), 1 batch waiting\n"} {
		if !strings.Contains(first, want) {
			t.Errorf("table lacks %q:\n%s", want, first)
		}
	}
	out.Reset()
	s.show(v)
	if out.String() != "\r\x1b[6A"+strings.ReplaceAll(first, "\n", "\x1b[K\n") {
		t.Errorf("the second table does not replace the first: %q", out.String())
	}
	out.Reset()
	s.say("killing the collector")
	s.say("again")
	if out.String() != "\r\x1b[6A\x1b[Jkilling the collector\nagain\n" {
		t.Errorf("a line is printed without erasing the table's 6 lines, once: %q", out.String())
	}
}

// TestTableFitsTheTerminal: a line that wraps, or leaves at the top, is not erased when the table is redrawn.
func TestTableFitsTheTerminal(t *testing.T) {
	var many []place
	for i := range 40 {
		many = append(many, place{
			Provider: "coreweave", Region: fmt.Sprintf("northamerica-northeast%d", i), GPUs: 12_345, Busy: new(1.0),
			PowerWatts: new(7.6543e6), Margin: new(int16(-10)), Faults: 12_345, RowsPerSec: 123_456, Freshness: new(123.4),
		})
	}
	v := view{places: many, known: true, stats: agent.Stats{Ticks: 1e9, MissedTicks: 1e6, LateTicks: 1e6}, running: 100 * time.Hour, readers: "recorded on 2026-07-14"}
	for _, size := range [][2]int{{200, 60}, {160, 40}, {80, 24}, {40, 10}, {10, 5}, {3, 2}} {
		var out bytes.Buffer
		on(&out, size[0], size[1]).show(v)
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		for _, line := range lines {
			if n := utf8.RuneCountInString(line); n > size[0] {
				t.Errorf("%d columns: a line of %d characters: %s", size[0], n, line)
			}
		}
		if size[1] >= 5 && (len(lines) > size[1]-1 || !strings.HasPrefix(lines[len(lines)-2], "all")) {
			t.Errorf("%d lines on a terminal of %d, or no sum:\n%s", len(lines), size[1], out.String())
		}
		if more := "… and 21 regions more"; size[1] == 24 && lines[len(lines)-3] != more {
			t.Errorf("want %q:\n%s", more, out.String())
		}
	}
	usual := strings.Join(table(view{places: []place{{Provider: "aws", Region: "ap-northeast-12", GPUs: 99_999, Busy: new(1.0), PowerWatts: new(99_900.0), Freshness: new(9.9)}}}, 80), "\n")
	if !strings.Contains(usual, "ap-northeast-12") || !strings.Contains(usual, "9.9 s") {
		t.Errorf("80 columns do not hold a usual region:\n%s", usual)
	}
}

func TestFiguresOfOneGPU(t *testing.T) {
	one := view{places: []place{{Provider: "unknown", GPUs: 1, Busy: new(0.0), PowerWatts: new(69.6), RowsPerSec: 0.5, Freshness: new(1.0)}}, running: time.Second}
	if got := summary(one); got != "1 GPU, busy 0.0 %, power 70 W, smallest margin –, 0 faults in 10 minutes, 0.5 rows/s, age 1.0 s; 1s" {
		t.Error(got)
	}
	if got := strings.Join(table(one, 80), "\n"); !strings.Contains(got, "70 W") || !strings.Contains(got, " 0.5 ") {
		t.Error(got)
	}
}

func TestBeforeTheFirstRows(t *testing.T) {
	v := view{running: 3 * time.Second, readers: "simulated"}
	if got := strings.Join(table(v, 80), "\n"); got != "no rows yet\n3s, simulated" {
		t.Errorf("on a terminal %q", got)
	}
	if got := summary(v); got != "no rows yet; 3s, simulated" {
		t.Errorf("elsewhere %q", got)
	}
}

func TestElsewhereItIsOneLine(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(Config{Out: &out})
	s.show(view{places: places(), running: time.Minute})
	if got := strings.Count(out.String(), "\n"); got != 1 || strings.Contains(out.String(), "ticks") || strings.Contains(out.String(), "\x1b") {
		t.Errorf("%d lines, or ticks of agents that cannot be asked: %q", got, out.String())
	}
}

func TestJSONIsOneLineAndNothingElse(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(Config{Out: &out, JSON: true})
	s.say("starting")
	s.show(view{places: places()})
	if out.Len() != 0 {
		t.Errorf("said %q", out.String())
	}
	if err := (Result{Rows: 5, Lost: 1}).Print(&out, true); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"rows":5`, `"lost":1,"duplicated":0`, `"freshness_p99_ms":0`, `"missed_ticks":0`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("result lacks %s: %s", want, out.String())
		}
	}
	if (Result{Lost: 1}).OK() || (Result{DuplicatedRows: 1}).OK() || !(Result{MissedTicks: 1}).OK() {
		t.Error("OK is about lost and doubled rows")
	}
}

func TestConfigThatCannotBeHonouredIsRefused(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"negative nodes":       func(c *Config) { c.Nodes = -1 },
		"recording with nodes": func(c *Config) { c.Nodes, c.Replay = 3, "h100" },
		"negative time":        func(c *Config) { c.For = -time.Second },
		"flush of nothing":     func(c *Config) { c.Flush = 0 },
		"no directory":         func(c *Config) { c.DataDir = "" },
		"too many shards":      func(c *Config) { c.Shards = 9 },
		"shards of a server":   func(c *Config) { c.Shards, c.ClickHouse.Address = 2, "127.0.0.1:8123" },
	} {
		t.Run(name, func(t *testing.T) {
			c := DefaultConfig()
			change(&c)
			if c.Validate() == nil {
				t.Error("accepted")
			}
		})
	}
}
