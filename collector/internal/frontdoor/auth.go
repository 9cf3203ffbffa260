// SPDX-License-Identifier: Apache-2.0

package frontdoor

import (
	"cmp"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gpufleet/gpufleet/collector/internal/foreign"
	"github.com/gpufleet/gpufleet/internal/token"
)

// SourceHeader names who pushes.
const SourceHeader = "gpufleet-source"

// tokenPrefix comes before the name of a source in what its token is of: no node has such a name, so that a token of an
// agent is none of a source.
const tokenPrefix = "source:"

// Errors of authorize.
var (
	errNoProof   = errors.New("no proof")
	errBadProof  = errors.New("not allowed")
	errBadSource = errors.New("not a source")
)

// authorize tells who pushes. A verified client certificate must name it, as source:NAME; where tokens are asked for,
// one of it must be sent as well: as a bearer token, or as the password of basic authentication, with the source as the
// user, for senders that cannot send headers of their own.
func (s *server) authorize(header func(string) []string, state *tls.ConnectionState, protocol string) (foreign.Source, error) {
	user, sent := credentialsIn(header("authorization"))
	from := foreign.Source{Name: cmp.Or(user, protocol), Protocol: protocol}
	switch named := header(SourceHeader); {
	case len(named) > 1, len(named) == 1 && user != "" && user != named[0]:
		return from, fmt.Errorf("header %s must name the source once, and as the user: %w", SourceHeader, errBadSource)
	case len(named) == 1:
		from.Name = named[0]
	}
	if err := foreign.CheckSource(from.Name); err != nil {
		return from, fmt.Errorf("header %s: %w: %w", SourceHeader, err, errBadSource)
	}
	subject := tokenPrefix + from.Name
	if state != nil && len(state.VerifiedChains) > 0 {
		leaf := state.VerifiedChains[0][0]
		if names := append(slices.Clone(leaf.DNSNames), leaf.Subject.CommonName); !slices.Contains(names, subject) {
			return from, fmt.Errorf("the client certificate is for %s, and not for %s: %w", strings.Join(names, ", "), subject, errBadProof)
		}
	}
	switch {
	case len(s.cfg.Keys) == 0 || token.Verify(s.cfg.Keys, subject, sent):
		return from, nil
	case sent == "":
		return from, fmt.Errorf("source %s sent no token: make one with `gpufleet token %s`, and have it sent as a bearer token: %w", from.Name, subject, errNoProof)
	default:
		return from, fmt.Errorf("the token is not one for source %s: make one with `gpufleet token %s`: %w", from.Name, subject, errBadProof)
	}
}

// credentialsIn are the user, of basic authentication alone, and the token that was sent; "" if there is none.
func credentialsIn(headers []string) (user, sent string) {
	for _, value := range headers {
		kind, rest, _ := strings.Cut(value, " ")
		switch strings.ToLower(kind) {
		case "bearer":
			return "", rest
		case "basic":
			plain, err := base64.StdEncoding.DecodeString(rest)
			if err != nil {
				return "", "?" // was sent, and is none
			}
			user, sent, _ = strings.Cut(string(plain), ":")
			return user, sent
		}
	}
	return "", ""
}
