// SPDX-License-Identifier: Apache-2.0

package health

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStates(t *testing.T) {
	const gib = 1 << 30
	for name, tt := range map[string]struct {
		got    Check
		want   State
		reason string
	}{
		"no error":             {Of("a", nil), OK, ""},
		"an error":             {Of("a", errors.New("it is away")), Failing, "it is away"},
		"nothing to warn of":   {Warn("a", ""), OK, ""},
		"something to warn of": {Warn("a", "soon"), Warning, "soon"},
		"no limit":             {Fill("a", "log", 5, 0, "help"), OK, ""},
		"half full":            {Fill("a", "log", 5, 10, "help"), OK, ""},
		"nearly full":          {Fill("a", "log", 80, 100, "help"), Warning, "log: 80 of 100 bytes are used (80 %): help"},
		"full":                 {Fill("a", "log", 99, 100, "help"), Failing, "99 of 100"},
		"more than full":       {Fill("a", "log", 200, 100, "help"), Failing, "200 of 100"},
		"a disk with room":     {disk("/d", 50*gib, 100*gib), OK, ""},
		"a disk with little":   {disk("/d", 5*gib, 100*gib), Warning, "(5.0 %) are free on the disk of /d"},
		"a disk without":       {disk("/d", gib, 100*gib), Failing, "(1.0 %)"},
		"a large disk":         {disk("/d", 100*gib, 10_000*gib), OK, ""},
		"a tiny disk":          {disk("/d", 8<<20, 20<<20), Failing, ""},
		"no folder":            {Disk(""), OK, ""},
		"a folder that is not": {Disk(filepath.Join(t.TempDir(), "gone")), Failing, "ask for the room on the disk of"},
	} {
		if tt.got.State != tt.want || !strings.Contains(tt.got.Reason, tt.reason) || (tt.got.Reason == "") != (tt.want == OK) {
			t.Errorf("%s: %+v, want %s with %q", name, tt.got, tt.want, tt.reason)
		}
	}
}

func TestOneFailureIsEnough(t *testing.T) {
	well, soon, not := Of("a", nil), Warn("b", "soon"), Of("c", errors.New("no"))
	if AnyFailing([]Check{well, soon}) || AnyFailing(nil) || !AnyFailing([]Check{well, not, soon}) {
		t.Error("a failure is not seen, or a warning is taken for one")
	}
}
