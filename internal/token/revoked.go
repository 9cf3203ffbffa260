// SPDX-License-Identifier: Apache-2.0

package token

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
)

// idBytes of a hash are enough to tell tokens apart, and tell nothing of them.
const idBytes = 16

// ID names a token where the token itself must not be: in a list of revoked ones. There is one way to write a token, so that
// it has one id.
func ID(token string) string {
	sum := sha256.Sum256([]byte("gpufleet token id v1\x00" + token))
	return hex.EncodeToString(sum[:idBytes])
}

// IsOne tells whether a text looks like a token.
func IsOne(text string) bool {
	return (strings.HasPrefix(text, prefix) || strings.HasPrefix(text, claimsPrefix)) && !strings.ContainsAny(text, " \t\r\n")
}

// Revoked are the ids of tokens that count no more. The zero value revokes none.
type Revoked map[string]bool

// Has tells whether a token is revoked.
func (r Revoked) Has(token string) bool { return len(r) > 0 && r[ID(token)] }

// ReadRevoked reads a list: one id per line, and behind it whatever people want to note. Blank lines and lines after # are
// skipped.
func ReadRevoked(path string) (Revoked, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read revoked tokens: %w", err)
	}
	revoked := Revoked{}
	for n, line := range strings.Split(string(text), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0][0] == '#' {
			continue
		}
		id := strings.ToLower(fields[0])
		if raw, err := hex.DecodeString(id); err != nil || len(raw) != idBytes { // may be a token: it is not repeated
			return nil, fmt.Errorf("read revoked tokens: %s line %d: want an id of %d hex digits, as `gpufleet token --id` tells it", path, n+1, 2*idBytes)
		}
		revoked[id] = true
	}
	return revoked, nil
}
