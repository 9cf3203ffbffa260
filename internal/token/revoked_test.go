// SPDX-License-Identifier: Apache-2.0

package token

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRevoked(t *testing.T) {
	key := NewKey()
	lost, err := key.Token("node-1", Claims{Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "revoked")
	for text, want := range map[string]string{
		"# none\n\n": "",
		ID(lost):     "lost",
		"# two\n" + strings.ToUpper(ID(lost)) + "  node-1, stolen\n" + ID("another") + "\n": "lost",
		lost:                           "line 1",
		ID(lost) + "\n" + ID(lost)[2:]: "line 2",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		revoked, err := ReadRevoked(path)
		if failed := strings.HasPrefix(want, "line"); failed != (err != nil) || failed && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), lost)) {
			t.Errorf("%q: %v", text, err)
		}
		if revoked.Has(lost) != (want == "lost") || revoked.Has(key.For("node-1")) {
			t.Errorf("%q: revoked are %v", text, revoked)
		}
	}
	if _, err := ReadRevoked(path + "-not-there"); err == nil {
		t.Error("a list that is not there was read")
	}
	if strings.Contains(lost, ID(lost)) || len(ID(lost)) != 2*idBytes {
		t.Errorf("id %s", ID(lost))
	}
}
