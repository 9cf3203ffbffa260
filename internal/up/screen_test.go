// SPDX-License-Identifier: Apache-2.0

package up

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent"
)

func places() []place {
	hot, cool := int16(3), int16(40)
	return []place{
		{Provider: "aws", Region: "us-east-1", GPUs: 10, Busy: new(0.5), PowerWatts: new(5000.0), Margin: &cool, Faults: 1, RowsPerSec: 10, Freshness: 1.5},
		{Provider: "oci", Region: "uk-london-1", GPUs: 30, Busy: new(0.9), PowerWatts: new(20000.0), Margin: &hot, RowsPerSec: 30, Freshness: 2.5},
		{Provider: "gcp", Region: "us-central1", GPUs: 0, Margin: nil},
	}
}

func TestTotalIsWeightedByGPUs(t *testing.T) {
	all := total(places())
	if all.GPUs != 40 || *all.Busy != 0.8 || *all.PowerWatts != 25000 || all.Faults != 1 || all.Freshness != 2.5 {
		t.Errorf("total %+v", all)
	}
	if all.Margin == nil || *all.Margin != 3 {
		t.Errorf("hottest margin %v, want 3", all.Margin)
	}
	if empty := total(nil); empty.Busy != nil || empty.Margin != nil {
		t.Errorf("total of nothing %+v", empty)
	}
}

func TestTerminalIsRedrawnInPlace(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(Config{Out: &out, Terminal: true})
	s.show(places(), agent.Stats{Ticks: 7, MissedTicks: 2}, true, time.Minute)
	first := out.String()
	if strings.Contains(first, "\x1b") {
		t.Errorf("the first table erases something: %q", first)
	}
	for _, want := range []string{"us-east-1", "50.0 %", "3 °C", "–", "2 missed"} {
		if !strings.Contains(first, want) {
			t.Errorf("table lacks %q:\n%s", want, first)
		}
	}
	out.Reset()
	s.say("killing the collector")
	if !strings.HasPrefix(out.String(), "\r\x1b[6A\x1b[J") {
		t.Errorf("a line is printed without erasing the table's 6 lines: %q", out.String())
	}
}

func TestElsewhereItIsOneLine(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(Config{Out: &out})
	s.show(places(), agent.Stats{}, false, time.Minute)
	if got := strings.Count(out.String(), "\n"); got != 1 || strings.Contains(out.String(), "ticks") {
		t.Errorf("%d lines, or ticks of agents that cannot be asked: %q", got, out.String())
	}
}

func TestJSONIsOneLineAndNothingElse(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(Config{Out: &out, JSON: true})
	s.say("starting")
	s.show(places(), agent.Stats{}, true, time.Minute)
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
