// SPDX-License-Identifier: Apache-2.0

package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gpufleet/gpufleet/schema/wire"
)

// Claims are what a token says of its node besides the name. The zero value says nothing.
type Claims struct {
	wire.Scope
	Since   time.Time // the node is the tenant's since then: older rows are not; zero: it always was
	Expires time.Time // the token is worth nothing from then on; zero: it never expires
}

// Errors of Verify.
var (
	// ErrForeign means that nobody who has one of the keys made the token for the node.
	ErrForeign = errors.New("not a token for this node under a key of this fleet")
	// ErrExpired means that it was one.
	ErrExpired = errors.New("token has expired")
)

// Token is the token of a node with claims. Without any it is For(node), which collectors of earlier versions know, too.
//
// Its bytes, after its prefix and in base64, little endian:
//
//	┌───────────────────────┬───────────────────┬───────────────────┬──────────────────────────────────┐
//	│ wire.AppendScope      │ since             │ expires           │ HMAC-SHA-256 under the fleet key │
//	│                       │ int64 Unix seconds│ int64 Unix seconds│ of context, all before, node     │
//	└───────────────────────┴───────────────────┴───────────────────┴──────────────────────────────────┘
//
// 0 seconds stand for none.
func (k Key) Token(node string, c Claims) (string, error) {
	if c == (Claims{}) {
		return k.For(node), nil
	}
	if err := c.Check(); err != nil {
		return "", fmt.Errorf("token of node %s: %w", node, err)
	}
	for _, t := range []time.Time{c.Since, c.Expires} {
		if !t.IsZero() && (t.Unix() <= 0 || t.Unix() > maxSeconds) {
			return "", fmt.Errorf("token of node %s: time %s is not between the years 1970 and 9999", node, t)
		}
	}
	b := wire.AppendScope(nil, c.Scope)
	b = binary.LittleEndian.AppendUint64(b, uint64(seconds(c.Since)))
	b = binary.LittleEndian.AppendUint64(b, uint64(seconds(c.Expires)))
	return claimsPrefix + base64.RawURLEncoding.EncodeToString(append(b, k.sumClaims(b, node)...)), nil
}

// maxSeconds is the end of the year 9999.
const maxSeconds = 253402300799

func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func at(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

// sumClaims cannot be mistaken for that of other claims and another node: what is before the node says how long it is.
func (k Key) sumClaims(claims []byte, node string) []byte {
	mac := hmac.New(sha256.New, k[:])
	mac.Write([]byte(claimsContext))
	mac.Write(claims)
	mac.Write([]byte(node))
	return mac.Sum(nil)
}

// Verify gives what the token of a node claims, if it was made under one of the keys and has not expired.
func Verify(keys []Key, node, token string, now time.Time) (Claims, error) {
	encoded, ok := strings.CutPrefix(token, claimsPrefix)
	if !ok {
		return Claims{}, verifyPlain(keys, node, token)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(b) < sha256.Size || base64.RawURLEncoding.EncodeToString(b) != encoded { // it skips line ends
		return Claims{}, ErrForeign
	}
	claims, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	found := false
	for _, k := range keys {
		found = hmac.Equal(sum, k.sumClaims(claims, node)) || found
	}
	if !found { // before anything in it is read
		return Claims{}, ErrForeign
	}
	c, err := parseClaims(claims)
	if err != nil {
		return Claims{}, err
	}
	if !c.Expires.IsZero() && !now.Before(c.Expires) {
		return Claims{}, fmt.Errorf("%w at %s", ErrExpired, c.Expires.Format(time.RFC3339))
	}
	return c, nil
}

// parseClaims reads what was signed. It may be of a later version.
func parseClaims(b []byte) (Claims, error) {
	scope, rest, err := wire.ParseScope(b)
	if err != nil {
		return Claims{}, fmt.Errorf("claims of the token: %w", err)
	}
	if len(rest) != 16 {
		return Claims{}, fmt.Errorf("claims of the token: %d bytes of times, want 16: upgrade collectors before tokens: %w", len(rest), wire.ErrMalformed)
	}
	since, expires := int64(binary.LittleEndian.Uint64(rest)), int64(binary.LittleEndian.Uint64(rest[8:]))
	if since < 0 || expires < 0 || since > maxSeconds || expires > maxSeconds {
		return Claims{}, fmt.Errorf("claims of the token: a time that is not between the years 1970 and 9999: %w", wire.ErrMalformed)
	}
	return Claims{Scope: scope, Since: at(since), Expires: at(expires)}, nil
}
