// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/gpufleet/gpufleet/collector/internal/admission"
	"github.com/gpufleet/gpufleet/collector/trust"
	"github.com/gpufleet/gpufleet/internal/token"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// proof is what a stream has proved.
type proof struct {
	node  string
	scope wire.Scope
	since time.Time // rows before it are not the tenant's; zero: all are
	until time.Time // it proves nothing from then on; zero: that is not known before
}

// authorize tells which node the peer speaks for, and whose it is. A verified client certificate must name the node;
// where tokens are asked for, one for it must be sent as well. What both say must agree, with each other and with what the
// agent takes itself for.
func (r *Receiver) authorize(ctx context.Context) (proof, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	named := md.Get(wire.NodeHeader)
	if len(named) != 1 || wire.CheckNodeName(named[0]) != nil {
		return proof{}, refuse(codes.Unauthenticated, "no_node", "header %s must name the node, once", wire.NodeHeader)
	}
	if strings.HasPrefix(named[0], wire.SourcePrefix) {
		return proof{}, refuse(codes.PermissionDenied, "source", "%s is a source that pushes, and no node: its proof opens no stream of an agent", named[0])
	}
	p := proof{node: named[0]}
	certified, err := r.certificate(ctx, &p)
	if err != nil {
		return proof{}, err
	}
	claimed, err := r.token(md, &p)
	if err != nil {
		return proof{}, err
	}
	if err := p.join(certified, claimed.Scope); err != nil {
		return proof{}, err
	}
	p.since = claimed.Since
	p.ends(claimed.Expires)
	if err := p.says(md); err != nil {
		return proof{}, err
	}
	return p, r.mayStore(p)
}

// ends notes that the proof lasts no longer than until then.
func (p *proof) ends(at time.Time) {
	if !at.IsZero() && (p.until.IsZero() || at.Before(p.until)) {
		p.until = at
	}
}

// certificate holds the peer's certificate, if it has shown one, against the node's name.
func (r *Receiver) certificate(ctx context.Context, p *proof) (wire.Scope, error) {
	chain := verifiedChain(ctx)
	if chain == nil {
		return wire.Scope{}, nil
	}
	if err := r.cfg.Trust.Check(chain, r.cfg.now()); err != nil {
		return wire.Scope{}, distrust(p.node, err)
	}
	id, err := admission.ParseCertificate(chain[0])
	if err != nil {
		return wire.Scope{}, refuse(codes.PermissionDenied, "certificate_malformed", "the client certificate of node %s: %v", p.node, err)
	}
	if !slices.Contains(id.Names, p.node) {
		return wire.Scope{}, refuse(codes.PermissionDenied, "certificate_of_another", "the client certificate is for %q, not for node %s: give the agent one with that name, or --node the certificate's name",
			strings.Join(id.Names, ", "), p.node)
	}
	for _, c := range chain {
		p.ends(c.NotAfter)
	}
	return id.Scope, nil
}

// distrust is the answer to a certificate that counted when its connection was made, and does not now.
func distrust(node string, err error) error {
	reason := "certificate_untrusted"
	switch {
	case errors.Is(err, trust.ErrExpired):
		reason = "certificate_expired"
	case errors.Is(err, trust.ErrRevoked):
		reason = "certificate_revoked"
	}
	return refuse(codes.Unauthenticated, reason, "node %s: %v: give its agent a new one; it reads the file anew for each connection", node, err)
}

// verifiedChain is the peer's certificate and those up to an authority; nil if it has shown none.
func verifiedChain(ctx context.Context) []*x509.Certificate {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return nil
	}
	return info.State.VerifiedChains[0]
}

// token reads what the token of the node claims.
func (r *Receiver) token(md metadata.MD, p *proof) (token.Claims, error) {
	if len(r.cfg.Trust.Keys()) == 0 {
		return token.Claims{}, nil
	}
	for _, header := range md.Get("authorization") {
		bearer, ok := strings.CutPrefix(header, "Bearer ")
		if !ok {
			continue
		}
		claims, err := r.cfg.Trust.Verify(p.node, bearer, r.cfg.now())
		switch {
		case err == nil:
			return claims, nil
		case errors.Is(err, token.ErrExpired):
			return claims, refuse(codes.PermissionDenied, "token_expired", "the %v: make node %s another with `gpufleet token %s`", err, p.node, p.node)
		case errors.Is(err, trust.ErrTokenRevoked):
			return claims, refuse(codes.PermissionDenied, "token_revoked", "the %v: make node %s another with `gpufleet token %s --expires …`", err, p.node, p.node)
		case errors.Is(err, token.ErrForeign):
			return claims, refuse(codes.PermissionDenied, "token_of_another", "the token is not one for node %s: make one with `gpufleet token %s`", p.node, p.node)
		default:
			return claims, refuse(codes.PermissionDenied, "token_malformed", "the token of node %s: %v", p.node, err)
		}
	}
	return token.Claims{}, refuse(codes.Unauthenticated, "no_token", "node %s sent no token: make one with `gpufleet token %s` and give it to its agent", p.node, p.node)
}

// join puts together what certificate and token say.
func (p *proof) join(certified, claimed wire.Scope) error {
	joined, err := admission.Join(certified, claimed)
	if c, ok := errors.AsType[admission.Contradiction](err); ok {
		return refuse(codes.PermissionDenied, c.What+"_contradiction", "node %s %v: make the token with `gpufleet token %s --%s %s`", p.node, c, p.node, c.What, c.Certified)
	}
	p.scope = joined
	return err
}

// says compares what the agent takes its scope for. It never counts for more than that.
func (p *proof) says(md metadata.MD) error {
	for _, one := range []struct{ what, header, proved string }{
		{"tenant", wire.TenantHeader, p.scope.Tenant}, {"residency", wire.ResidencyHeader, p.scope.Residency},
	} {
		for _, said := range md.Get(one.header) {
			if said == one.proved {
				continue
			}
			proves := one.proved
			if proves == "" {
				proves = "none"
			}
			return refuse(codes.PermissionDenied, one.what+"_contradiction", "node %s says that its %s is %.80q and proves %s: mend --%s of its agent, or make its token with `gpufleet token %s --%s …`",
				p.node, one.what, said, proves, one.what, p.node, one.what)
		}
	}
	return nil
}

// mayStore refuses what this collector's ClickHouse may not hold. The agent keeps it.
func (r *Receiver) mayStore(p proof) error {
	if zone, ok := r.cfg.Admits.Zone(p.scope); !ok {
		return refuse(codes.PermissionDenied, "foreign_residency", "%s, and this collector stores rows of %s alone: send node %s to a collector of its zone, or mend its token with `gpufleet token %s --residency …`; the agent keeps its rows",
			zone, strings.Join(r.cfg.Admits.Residencies, ", "), p.node, p.node)
	}
	if tenant, ok := r.cfg.Admits.Tenant(p.scope); !ok {
		return refuse(codes.PermissionDenied, "foreign_tenant", "%s, and this collector stores rows of %s alone: send node %s to a collector of its tenant, or mend its token with `gpufleet token %s --tenant …`; the agent keeps its rows",
			tenant, strings.Join(r.cfg.Admits.Tenants, ", "), p.node, p.node)
	}
	return nil
}
