// SPDX-License-Identifier: Apache-2.0

package token

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTokenIsForOneNodeUnderOneKey(t *testing.T) {
	a, b := NewKey(), NewKey()
	good := a.For("node-1")
	tests := []struct {
		name, node, token string
		keys              []Key
		want              bool
	}{
		{"its own node", "node-1", good, []Key{a}, true},
		{"an older key is still accepted", "node-1", good, []Key{b, a}, true},
		{"another node", "node-2", good, []Key{a}, false},
		{"another key", "node-1", good, []Key{b}, false},
		{"no keys", "node-1", good, nil, false},
		{"empty", "node-1", "", []Key{a}, false},
		{"without its prefix", "node-1", strings.TrimPrefix(good, prefix), []Key{a}, false},
		{"cut short", "node-1", good[:len(good)-2], []Key{a}, false},
		{"not base64", "node-1", prefix + "!!!", []Key{a}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			claims, err := Verify(tt.keys, tt.node, tt.token, time.Now())
			if (err == nil) != tt.want || err != nil && !errors.Is(err, ErrForeign) || claims != (Claims{}) {
				t.Errorf("Verify = %v, %v, want %t", claims, err, tt.want)
			}
		})
	}
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet.key")
	key := NewKey()
	if err := WriteKey(path, key); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: mode %v, %v; want 0600", info.Mode(), err)
	}
	if err := WriteKey(path, NewKey()); err == nil {
		t.Error("an existing key file was written over")
	}
	keys, err := ReadKeys(path)
	if err != nil || len(keys) != 1 || keys[0] != key {
		t.Errorf("read %d keys, %v", len(keys), err)
	}
}

func TestKeyFileErrorsNameTheLineAndNotTheKey(t *testing.T) {
	secret := strings.Repeat("ab", keyBytes-1)
	for name, content := range map[string]string{"short key": "# comment\n" + secret + "\n", "not hex": strings.Repeat("zz", keyBytes), "empty": "# nothing\n"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keys")
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := ReadKeys(path)
			if err == nil {
				t.Fatal("accepted")
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error shows the key: %v", err)
			}
		})
	}
}

func TestKeyIsNeverPrinted(t *testing.T) {
	key := NewKey()
	if got := fmt.Sprintf("%v %s %#v", key, key, key); got != "(secret) (secret) (secret)" {
		t.Errorf("printed as %q", got)
	}
}
