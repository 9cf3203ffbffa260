// SPDX-License-Identifier: Apache-2.0

package xid_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gpufleet/gpufleet/schema/xid"
)

const goodOverrides = `# ours
xid:
  94: {severity: info, action: none, note: Our trainer restarts by itself.}
  13:
    class: engine
  "999":
    severity: critical
    action: inspect_hardware
  149: {action: watch}
  31: {note: "näher ansehen"}
sxid:
  20009: {severity: critical, action: inspect_hardware}
`

func TestOverrides(t *testing.T) {
	path := filepath.Join(t.TempDir(), "overrides.yaml")
	if err := os.WriteFile(path, []byte(goodOverrides), 0o600); err != nil {
		t.Fatal(err)
	}
	var o xid.Overrides
	if e := o.Lookup(94, 580); o.Len() != 0 || e != xid.Lookup(94, 580) {
		t.Errorf("without a file: %+v", e)
	}
	if err := o.Load(path); err != nil || o.Len() != 6 {
		t.Fatalf("%d codes: %v", o.Len(), err)
	}

	want := xid.Lookup(94, 580)
	want.Severity, want.Action, want.Note, want.Overridden, want.DriverDecides = xid.Info, xid.NoAction, "Our trainer restarts by itself.", true, false
	if diff := cmp.Diff(want, o.Lookup(94, 580)); diff != "" {
		t.Errorf("94 (-want +got):\n%s", diff)
	}
	if e := o.Lookup(13, 580); e.Class != xid.Engine || e.Severity != xid.Warning || !e.Overridden {
		t.Errorf("13: %+v", e)
	}
	if e := o.Lookup(999, 580); e.Known || e.Action != xid.InspectHardware || !e.Overridden {
		t.Errorf("999: %+v", e)
	}
	if e := o.Lookup(31, 580); e.Overridden || e.Note != "näher ansehen" {
		t.Errorf("31: %+v", e)
	}
	if e := o.LookupSwitch(20009, nil); e.Severity != xid.Critical || e.Action != xid.InspectHardware {
		t.Errorf("20009: %+v", e)
	}
	n, _ := xid.ParseNVLink5(149, "NETIR_LINK_DOWN Fatal XC0 i0 Link 01 (0x02100011 0x00000000)")
	if v := o.Decode(n, 580); !v.Decoded || v.Action != xid.Watch || v.Severity != xid.Critical {
		t.Errorf("149: %+v", v)
	}
	if e := o.Lookup(79, 580); e != xid.Lookup(79, 580) {
		t.Errorf("79: %+v", e)
	}
	for _, e := range o.All(580) {
		if e != o.Lookup(e.Code, 580) && e != o.LookupSwitch(e.Code, nil) {
			t.Errorf("list: %+v", e)
		}
	}
}

// TestBadOverridesChangeNothing: every mistake is named with its line, and what was in force stays.
func TestBadOverridesChangeNothing(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"not YAML", "xid:\n  94: {severity: info\n", []string{"f.yaml:", "not YAML"}},
		{"a tab", "xid:\n\t94: {}\n", []string{"f.yaml:2: not YAML"}},
		{"a list", "- 94\n", []string{"f.yaml:1: the file: want names with values"}},
		{"an unknown kind", "xids: {}\n", []string{`f.yaml:1: "xids": want xid or sxid`}},
		{"no code", "xid:\n  ninety: {severity: info}\n", []string{`f.yaml:2: xid "ninety": want a code from 1 to 9999`}},
		{"an SXID among XIDs", "xid:\n  11012: {severity: info}\n", []string{`f.yaml:2: xid "11012": want a code from 1 to 9999`}},
		{"an XID among SXIDs", "sxid:\n  79: {severity: info}\n", []string{`f.yaml:2: sxid "79": want a code from 10000 to 99999`}},
		{"zero", "xid:\n  0: {severity: info}\n", []string{"f.yaml:2"}},
		{"twice", "xid:\n  94: {severity: info}\n  94: {severity: info}\n", []string{`f.yaml:3: "94" is there already`}},
		{"twice in other digits", "xid:\n  94: {severity: info}\n  094: {severity: info}\n", []string{"f.yaml:3: xid 94 is there already, at line 2"}},
		{
			"several mistakes", "xid:\n  94:\n    severity: fatal\n    action: reset\n    klass: x\n",
			[]string{`f.yaml:3: severity "fatal": want info, warning, critical`, `f.yaml:4: action "reset": want none, watch,`, `f.yaml:5: "klass": want severity`},
		},
		{"nothing said", "xid:\n  94:\n", []string{"f.yaml:2: code 94: want at least one"}},
		{"a value that is none", "xid:\n  94: {severity: [info]}\n", []string{"f.yaml:2: severity: want a text"}},
		{"no value", "xid:\n  94: {severity: }\n", []string{"f.yaml:2: severity: want a text"}},
		{"decode", "xid:\n  94: {action: decode}\n", []string{"f.yaml:2: action decode: only lines of XID 144 to 150"}},
		{"a note of two lines", "xid:\n  94: {note: \"a\\nb\"}\n", []string{"f.yaml:2: note: want one line"}},
		{"a long note", "xid:\n  94: {note: " + strings.Repeat("x", 501) + "}\n", []string{"f.yaml:2: note: want one line of at most 500"}},
		{"an alias", "xid: &a\n  94: {severity: info}\nsxid: *a\n", []string{"f.yaml:1: xid: anchors and aliases", "f.yaml:3: sxid: anchors and aliases"}},
		{"a merge", "xid:\n  <<: {94: {severity: info}}\n", []string{`f.yaml:2: xid "<<"`}},
		{"a key that is a list", "xid:\n  [94]: {severity: info}\n", []string{"f.yaml:2: xid: want a name or a code"}},
		{"two documents", "xid:\n  94: {severity: info}\n---\nxid: {}\n", []string{"a second document"}},
		{"too large", strings.Repeat("#", xid.MaxOverridesBytes+1), []string{"f.yaml has more than 1048576 bytes"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var o xid.Overrides
			if err := o.Read(strings.NewReader("xid: {13: {severity: critical}}"), "old"); err != nil {
				t.Fatal(err)
			}
			err := o.Read(strings.NewReader(tt.text), "f.yaml")
			if err == nil {
				t.Fatal("was taken")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v\nlacks %s", err, want)
				}
			}
			if o.Len() != 1 || o.Lookup(13, 0).Severity != xid.Critical {
				t.Error("the old ones are gone")
			}
		})
	}
}

func TestManyMistakesAreCutOff(t *testing.T) {
	var text strings.Builder
	text.WriteString("xid:\n")
	for i := range 500 {
		fmt.Fprintf(&text, "  x%d: {}\n", i)
	}
	var o xid.Overrides
	err := o.Read(strings.NewReader(text.String()), "f.yaml")
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 21 || !strings.Contains(lines[20], "more mistakes") {
		t.Errorf("%d lines: %v", len(lines), err)
	}
}

func TestEmptyOverrides(t *testing.T) {
	for _, text := range []string{"", "\n# nothing yet\n", "xid:\nsxid: {}\n", "{}"} {
		var o xid.Overrides
		if err := o.Read(strings.NewReader(text), "f.yaml"); err != nil || o.Len() != 0 {
			t.Errorf("%q: %v", text, err)
		}
	}
	var o xid.Overrides
	if err := o.Load(filepath.Join(t.TempDir(), "none.yaml")); err == nil || !strings.Contains(err.Error(), "read overrides of the XID catalogue: open ") {
		t.Error(err)
	}
}

// FuzzOverrides: each mistake names its place, and what is taken holds words of the closed sets alone.
func FuzzOverrides(f *testing.F) {
	f.Add(goodOverrides)
	f.Add("xid:\n  94: {severity: fatal}\n")
	f.Add("xid: &a {94: {note: x}}\nsxid: *a\n---\n")
	f.Fuzz(func(t *testing.T, text string) {
		var o xid.Overrides
		if err := o.Read(strings.NewReader(text), "f.yaml"); err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "f.yaml:") && !strings.HasPrefix(line, "read overrides") {
					t.Fatalf("a mistake without a place: %q in %v", line, err)
				}
			}
			if o.Len() != 0 {
				t.Fatal("a bad file is in force")
			}
			return
		}
		for _, e := range o.All(580) {
			if !has(xid.Severities(), string(e.Severity)) || !has(xid.Classes(), string(e.Class)) || !has(xid.Actions(), string(e.Action)) || strings.Contains(e.Note, "\n") {
				t.Fatalf("%+v", e)
			}
		}
	})
}
