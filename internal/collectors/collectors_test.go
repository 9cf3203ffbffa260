// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParse(t *testing.T) {
	got, err := Parse("a:1, [::1]:2 ,dns:c.example:3")
	want := []Address{{"a", "1", false}, {"::1", "2", false}, {"c.example", "3", true}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, a := range want {
		if again, err := Parse(a.String()); err != nil || again[0] != a {
			t.Errorf("%s is read as %v, %v", a, again, err)
		}
	}
	for _, wrong := range []string{"", "a", ":1", "a:", "a:1,", "a:1,a:1", "dns:a", "a:1,,b:2"} {
		if got, err := Parse(wrong); err == nil {
			t.Errorf("%q is read as %v", wrong, got)
		}
	}
}

// FuzzParse: what is read of an address is read again of how it is written.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"a:1", "a:1, b:2", "dns:c.example:4490", "[::1]:2", "dns:[fe80::1%eth0]:1", ",,", "a:1,a:1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		all, err := Parse(text)
		if err != nil {
			return
		}
		written := make([]string, len(all))
		for i, a := range all {
			if a.Host == "" || a.Port == "" {
				t.Fatalf("%+v of %q", a, text)
			}
			written[i] = a.String()
		}
		again, err := Parse(strings.Join(written, ","))
		if err != nil || !slices.Equal(again, all) {
			t.Fatalf("%q: %+v, written %q, read as %+v, %v", text, all, written, again, err)
		}
	})
}
