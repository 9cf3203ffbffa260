// SPDX-License-Identifier: Apache-2.0

// Package token makes and checks the bearer tokens by which agents prove which node they are, whose it is, and where
// its rows may lie. A token is an HMAC of the node's name, and of what it claims, under the fleet key: a collector needs
// no list of nodes, and a token is worth nothing for another node or with other claims.
package token

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
)

const (
	prefix        = "gft1." // without claims
	context       = "gpufleet agent v1\x00"
	claimsPrefix  = "gft2."
	claimsContext = "gpufleet agent v2\x00"
	keyBytes      = 32
)

// Key is a fleet key: 32 random bytes.
type Key [keyBytes]byte

// NewKey makes a fleet key.
func NewKey() Key {
	var k Key
	rand.Read(k[:])
	return k
}

// GoString keeps the key out of messages, too.
func (k Key) GoString() string { return "(secret)" }

// LogValue keeps the key out of logs.
func (k Key) LogValue() string { return "(secret)" }

// String keeps the key out of messages.
func (k Key) String() string { return "(secret)" }

// ReadKeys reads the fleet keys of a file: one per line in hex, the first is used to make tokens, all
// are accepted, so that keys can be changed without a gap. Blank lines and lines after # are skipped.
func ReadKeys(path string) ([]Key, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read fleet keys: %w", err)
	}
	var keys []Key
	for n, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		raw, err := hex.DecodeString(line)
		if err != nil || len(raw) != keyBytes {
			return nil, fmt.Errorf("read fleet keys: %s line %d: want %d hex digits", path, n+1, 2*keyBytes)
		}
		keys = append(keys, Key(raw))
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("read fleet keys: %s holds none", path)
	}
	return keys, nil
}

// WriteKey writes a new key file that only its owner can read. An existing one is not touched.
func WriteKey(path string, k Key) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write fleet key: %w", err)
	}
	_, err = fmt.Fprintf(f, "# gpufleet fleet key: whoever has it can speak for every node\n%s\n", hex.EncodeToString(k[:]))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write fleet key: %w", err)
	}
	return nil
}

// For is the token of a node that claims nothing.
func (k Key) For(node string) string {
	return prefix + base64.RawURLEncoding.EncodeToString(k.sum(node))
}

func (k Key) sum(node string) []byte {
	mac := hmac.New(sha256.New, k[:])
	mac.Write([]byte(context + node))
	return mac.Sum(nil)
}

// verifyPlain holds a token without claims against the keys.
func verifyPlain(keys []Key, node, token string) error {
	found := false
	for _, k := range keys {
		found = hmac.Equal([]byte(token), []byte(k.For(node))) || found
	}
	if !found {
		return ErrForeign
	}
	return nil
}
