// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"testing"
	"time"
)

func TestLoad(t *testing.T) {
	l, now := NewLoad(), time.Unix(1000, 0)
	if l.Tables() != nil || l.Nodes() != 0 || l.Oldest(now) != 0 {
		t.Error("a load of nothing")
	}
	l.serve([]map[uint8]*share{newShares(1 << 20)})
	if got := l.Tables(); len(got) < 8 || got[0].Table != "gpu_samples" || got[0].LimitBytes < got[1].LimitBytes {
		t.Errorf("tables %+v", got)
	}
	first, second := l.opened(7), l.opened(7)
	other := l.opened(8)
	first()
	if l.Nodes() != 2 {
		t.Errorf("%d nodes, want 2: one has two streams, of which one ended", l.Nodes())
	}
	second()
	other()
	if l.Nodes() != 0 {
		t.Errorf("%d nodes after all streams ended", l.Nodes())
	}
	l.took(990)
	l.took(990)
	l.took(995)
	l.left(990)
	if got := l.Oldest(now); got != 10*time.Second {
		t.Errorf("oldest %s, want 10s: one of two is left", got)
	}
	l.left(990)
	if got := l.Oldest(now); got != 5*time.Second {
		t.Errorf("oldest %s, want 5s", got)
	}
	if got := l.Oldest(time.Unix(900, 0)); got != 0 {
		t.Errorf("oldest %s by a clock that was set back", got)
	}
	l.left(995)
	if len(l.admitted) != 0 {
		t.Errorf("left behind: %v", l.admitted)
	}
}
