// SPDX-License-Identifier: Apache-2.0

package prices

import "testing"

// TestKnown: what comes with the program is believed by it, every row.
func TestKnown(t *testing.T) {
	lists, err := Known()
	if err != nil || len(lists) != 3 {
		t.Fatalf("%d lists, %v", len(lists), err)
	}
	for _, l := range lists {
		r := Check(l.Quotes, l.ReadAt)
		if len(r.Prices) == 0 || len(r.Prices) != len(l.Quotes) {
			t.Errorf("%s: %d of %d usable: %s", l.Name, len(r.Prices), len(l.Quotes), outcome(r))
		}
		for _, p := range r.Prices {
			if p.Basis != List || p.Currency != "USD" || p.ValidFrom.Year() < 2024 {
				t.Errorf("%s: %+v", l.Name, p)
			}
		}
	}
}
