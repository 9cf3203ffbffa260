// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/collector/quarantine"
)

func TestExamine(t *testing.T) {
	s := newSite(t)
	for name, c := range map[string]struct {
		change func(*quarantine.Entry, *quarantine.Data)
		rows   int
		bad    string // "": nothing
	}{
		"whole":          {func(*quarantine.Entry, *quarantine.Data) {}, 3, ""},
		"another's":      {func(e *quarantine.Entry, _ *quarantine.Data) { e.Node++ }, 3, "the batch says that it is"},
		"of no table":    {func(e *quarantine.Entry, _ *quarantine.Data) { e.Table = "gpu_dreams" }, 0, "no table gpu_dreams"},
		"damaged":        {func(_ *quarantine.Entry, d *quarantine.Data) { d.Body[len(d.Body)/2] ^= 1 }, 0, "checksum"},
		"without a body": {func(_ *quarantine.Entry, d *quarantine.Data) { d.Body = nil }, 0, "checksum"},
	} {
		e, d := s.batch("anna", 1)
		c.change(&e, &d)
		path, err := s.kept.Put(e, d)
		if err != nil {
			t.Fatal(err)
		}
		files, err := List([]string{path})
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		got := Examine(files[0])
		if got.Rows != c.rows || (got.Bad == nil) != (c.bad == "") || got.Bad != nil && !strings.Contains(got.Bad.Error(), c.bad) {
			t.Errorf("%s: %+v", name, got)
		}
		if age := time.Since(got.Oldest); got.Rows > 0 && (age < 2*time.Hour || age > 4*time.Hour || got.Columns < 3) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestFilter(t *testing.T) {
	now := time.Now()
	files := []File{
		{Path: "a", Entry: quarantine.Entry{Table: "gpu_samples", NodeName: "anna", Node: 7, Reason: "Too old", ReceivedAt: now.Add(-time.Hour)}},
		{Path: "b", Entry: quarantine.Entry{Table: "gpu_events", Node: 8, Reason: "checksum", ReceivedAt: now}},
	}
	for name, c := range map[string]struct {
		filter Filter
		want   string
	}{
		"all":      {Filter{}, "ab"},
		"reason":   {Filter{Reason: "too"}, "a"},
		"name":     {Filter{Node: "anna"}, "a"},
		"id":       {Filter{Node: "0000000000000007"}, "a"},
		"id alone": {Filter{Node: "0000000000000008"}, "b"},
		"table":    {Filter{Table: "gpu_events"}, "b"},
		"age":      {Filter{Older: time.Hour}, "a"},
		"both":     {Filter{Reason: "checksum", Table: "gpu_samples"}, ""},
	} {
		var got strings.Builder
		for _, f := range c.filter.Of(files, now) {
			got.WriteString(f.Path)
		}
		if got.String() != c.want {
			t.Errorf("%s: %q, want %q", name, got.String(), c.want)
		}
	}
}
