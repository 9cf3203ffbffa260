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

	"github.com/gpufleet/gpufleet/collector/internal/admission"
	"github.com/gpufleet/gpufleet/collector/internal/foreign"
	"github.com/gpufleet/gpufleet/collector/trust"
	"github.com/gpufleet/gpufleet/internal/token"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// SourceHeader names who pushes.
const SourceHeader = "gpufleet-source"

// Errors of authorize.
var (
	errNoProof   = errors.New("no proof")
	errBadProof  = errors.New("not allowed")
	errBadSource = errors.New("not a source")
)

// authorize tells who pushes, and whose its rows are. A verified client certificate must name it, as source:NAME; where tokens are asked for,
// one of it must be sent as well: as a bearer token, or as the password of basic authentication, with the source as the
// user, for senders that cannot send headers of their own.
func (s *server) authorize(header func(string) []string, state *tls.ConnectionState, protocol string) (from foreign.Source, err error) {
	user, sent := credentialsIn(header("authorization"))
	from = foreign.Source{Name: cmp.Or(user, protocol), Protocol: protocol}
	switch named := header(SourceHeader); {
	case len(named) > 1, len(named) == 1 && user != "" && user != named[0]:
		return from, fmt.Errorf("header %s must name the source once, and as the user: %w", SourceHeader, errBadSource)
	case len(named) == 1:
		from.Name = named[0]
	}
	if err := foreign.CheckSource(from.Name); err != nil {
		return from, fmt.Errorf("header %s: %w: %w", SourceHeader, err, errBadSource)
	}
	if from.Scope, err = s.prove(wire.SourcePrefix+from.Name, sent, state); err != nil {
		return from, err
	}
	if err := s.cfg.Admits.Check(from.Scope); err != nil {
		return from, fmt.Errorf("source %s: %w: %w", from.Name, err, errBadProof)
	}
	return from, nil
}

// prove tells whose the rows of a source are, by what proves that it is one.
func (s *server) prove(subject, sent string, state *tls.ConnectionState) (wire.Scope, error) {
	certified, err := s.certified(subject, state)
	if err != nil {
		return wire.Scope{}, err
	}
	claims, err := s.claimed(subject, sent)
	if err != nil {
		return wire.Scope{}, err
	}
	scope, err := admission.Join(certified, claims)
	if err != nil {
		return wire.Scope{}, fmt.Errorf("%s %w: %w", subject, err, errBadProof)
	}
	return scope, nil
}

// certified is what a verified client certificate says.
func (s *server) certified(subject string, state *tls.ConnectionState) (wire.Scope, error) {
	if state == nil || len(state.VerifiedChains) == 0 {
		return wire.Scope{}, nil
	}
	chain := state.VerifiedChains[0]
	if err := s.cfg.Trust.Check(chain, s.cfg.now()); err != nil {
		return wire.Scope{}, fmt.Errorf("%w: %w", err, errNoProof)
	}
	id, err := admission.ParseCertificate(chain[0])
	if err != nil {
		return wire.Scope{}, fmt.Errorf("the client certificate of %s: %w: %w", subject, err, errBadProof)
	}
	if !slices.Contains(id.Names, subject) {
		return wire.Scope{}, fmt.Errorf("the client certificate is for %s, and not for %s: %w", strings.Join(id.Names, ", "), subject, errBadProof)
	}
	return id.Scope, nil
}

// claimed is what the token says; that of a source tells of all its rows, whatever their times.
func (s *server) claimed(subject, sent string) (wire.Scope, error) {
	if len(s.cfg.Trust.Keys()) == 0 {
		return wire.Scope{}, nil
	}
	if sent == "" {
		return wire.Scope{}, fmt.Errorf("%s sent no token: make one with `gpufleet token %s`, and have it sent as a bearer token: %w", subject, subject, errNoProof)
	}
	claims, err := s.cfg.Trust.Verify(subject, sent, s.cfg.now())
	switch {
	case errors.Is(err, token.ErrExpired), errors.Is(err, trust.ErrTokenRevoked):
		return wire.Scope{}, fmt.Errorf("%w: make another with `gpufleet token %s --expires …`: %w", err, subject, errBadProof)
	case err != nil:
		return wire.Scope{}, fmt.Errorf("the token is not one for %s: make one with `gpufleet token %s`: %w", subject, subject, errBadProof)
	case !claims.Since.IsZero():
		return wire.Scope{}, fmt.Errorf("the token of %s has --since, which is for agents: make one without: %w", subject, errBadProof)
	}
	return claims.Scope, nil
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
