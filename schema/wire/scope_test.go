// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestCheckScopeName(t *testing.T) {
	for name, ok := range map[string]bool{
		"eu": true, "acme-1.prod_x": true, strings.Repeat("a", 63): true, "7": true,
		"": false, "ACME": false, "a'b": false, "a b": false, "a/b": false, "-a": false, "a-": false, "ä": false, "a\n": false, strings.Repeat("a", 64): false,
	} {
		if err := wire.CheckScopeName(name); (err == nil) != ok {
			t.Errorf("CheckScopeName(%q) = %v", name, err)
		}
	}
}

// FuzzParseScope: what is read is valid, and encodes to the bytes that were read.
func FuzzParseScope(f *testing.F) {
	for _, s := range []wire.Scope{{}, {Tenant: "acme"}, {Residency: "eu"}, {Tenant: "acme", Residency: "eu"}} {
		f.Add(append(wire.AppendScope(nil, s), "rest"...))
	}
	f.Add([]byte{5, 'a'})
	f.Add([]byte{1, '\'', 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, rest, err := wire.ParseScope(b)
		if err != nil {
			if !errors.Is(err, wire.ErrMalformed) {
				t.Fatalf("error %v is no ErrMalformed", err)
			}
			return
		}
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
		if again := append(wire.AppendScope(nil, s), rest...); !bytes.Equal(again, b) {
			t.Fatalf("%q encodes to %q", b, again)
		}
	})
}
