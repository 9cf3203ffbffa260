// SPDX-License-Identifier: Apache-2.0

package docpage

import (
	"strings"
	"testing"
)

func TestWithTable(t *testing.T) {
	const page = "before\n<!-- a -->\nold\n<!-- /a -->\nbetween\n<!-- b -->\n<!-- /b -->\nafter\n"
	got, err := WithTable(page, "a", "\nnew\n")
	if want := strings.Replace(page, "\nold\n", "\n\nnew\n\n", 1); err != nil || got != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	if again, err := WithTable(got, "a", "new"); err != nil || again != got {
		t.Errorf("a second time %q, %v", again, err)
	}
}

func TestWithTableNeedsItsPlace(t *testing.T) {
	for _, page := range []string{"", "<!-- a -->\n", "<!-- /a -->\n", "<!-- /a -->\n<!-- a -->\n", "<!-- b -->\n<!-- /a -->\n"} {
		if got, err := WithTable(page, "a", "new"); err == nil || !strings.Contains(err.Error(), "<!-- /a -->") {
			t.Errorf("%q became %q, %v", page, got, err)
		}
	}
}
