// SPDX-License-Identifier: Apache-2.0

package token

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gpufleet/gpufleet/schema/wire"
)

var (
	noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	full = Claims{Scope: wire.Scope{Tenant: "acme", Residency: "eu"}, Since: noon.Add(-time.Hour), Expires: noon.Add(time.Hour)}
)

func make2(t *testing.T, k Key, node string, c Claims) string {
	t.Helper()
	token, err := k.Token(node, c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestClaims(t *testing.T) {
	key, other := NewKey(), NewKey()
	good := make2(t, key, "node-1", full)
	for name, c := range map[string]struct {
		node, token string
		now         time.Time
		want        Claims
		err         error
	}{
		"its own":             {"node-1", good, noon, full, nil},
		"a second before":     {"node-1", good, full.Expires.Add(-time.Second), full, nil},
		"expired":             {"node-1", good, full.Expires, Claims{}, ErrExpired},
		"of another node":     {"node-2", good, noon, Claims{}, ErrForeign},
		"of a longer node":    {"node-1x", good, noon, Claims{}, ErrForeign},
		"tenant alone":        {"node-1", make2(t, key, "node-1", Claims{Scope: wire.Scope{Tenant: "acme"}}), noon, Claims{Scope: wire.Scope{Tenant: "acme"}}, nil},
		"residency alone":     {"node-1", make2(t, key, "node-1", Claims{Scope: wire.Scope{Residency: "eu"}}), noon, Claims{Scope: wire.Scope{Residency: "eu"}}, nil},
		"under a foreign key": {"node-1", make2(t, other, "node-1", full), noon, Claims{}, ErrForeign},
		"no claims":           {"node-1", make2(t, key, "node-1", Claims{}), noon, Claims{}, nil},
		"claims added to a plain one": {
			"node-1", claimsPrefix + strings.TrimPrefix(key.For("node-1"), prefix), noon, Claims{}, ErrForeign,
		},
		"claims cut off": {"node-1", prefix + strings.TrimPrefix(good, claimsPrefix), noon, Claims{}, ErrForeign},
		"cut short":      {"node-1", good[:len(good)-4], noon, Claims{}, ErrForeign},
		"nothing":        {"node-1", claimsPrefix, noon, Claims{}, ErrForeign},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Verify([]Key{key}, c.node, c.token, c.now)
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestClaimsCannotBeChanged flips each bit of a token.
func TestClaimsCannotBeChanged(t *testing.T) {
	key := NewKey()
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(make2(t, key, "node-1", full), claimsPrefix))
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		for bit := range 8 {
			b[i] ^= 1 << bit
			if got, err := Verify([]Key{key}, "node-1", claimsPrefix+base64.RawURLEncoding.EncodeToString(b), noon); err == nil {
				t.Errorf("byte %d, bit %d: taken as %+v", i, bit, got)
			}
			b[i] ^= 1 << bit
		}
	}
}

func TestImpossibleClaims(t *testing.T) {
	for name, c := range map[string]Claims{
		"tenant":    {Scope: wire.Scope{Tenant: "A B"}},
		"residency": {Scope: wire.Scope{Residency: "eu'"}},
		"expiry":    {Expires: time.Unix(-1, 0)},
		"begin":     {Since: time.Unix(0, 0)},
	} {
		if token, err := NewKey().Token("node-1", c); err == nil || !strings.Contains(err.Error(), "node-1") {
			t.Errorf("%s: token %q, error %v", name, token, err)
		}
	}
}

// FuzzVerify: a token that is taken is the one that its claims make, and nothing else is taken.
func FuzzVerify(f *testing.F) {
	key := Key{1, 2, 3}
	for _, c := range []Claims{{}, full, {Scope: full.Scope}} {
		token, err := key.Token("node-1", c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add("node-1", token)
	}
	f.Add("node-1", claimsPrefix+"AAAA")
	f.Fuzz(func(t *testing.T, node, token string) {
		c, err := Verify([]Key{key}, node, token, noon)
		if err != nil {
			if c != (Claims{}) {
				t.Fatalf("claims %+v beside error %v", c, err)
			}
			return
		}
		if again := make2(t, key, node, c); again != token {
			t.Fatalf("%q claims %+v, which is %q", token, c, again)
		}
	})
}

// FuzzParseClaims reads what a holder of the key may have signed.
func FuzzParseClaims(f *testing.F) {
	f.Add(append(wire.AppendScope(nil, full.Scope), make([]byte, 16)...))
	f.Add([]byte{0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseClaims(b)
		if err != nil {
			return
		}
		token, err := Key{}.Token("n", c)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Verify([]Key{{}}, "n", token, time.Time{})
		if err != nil || got != c {
			t.Fatalf("%+v came back as %+v, %v", c, got, err)
		}
	})
}
