// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/gpufleet/gpufleet/internal/token"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// authorize tells which node the peer speaks for. A verified client certificate must name it; where
// tokens are asked for, one for it must be sent as well.
func (r *Receiver) authorize(ctx context.Context) (node string, err error) {
	md, _ := metadata.FromIncomingContext(ctx)
	named := md.Get(wire.NodeHeader)
	if len(named) != 1 || wire.CheckNodeName(named[0]) != nil {
		return "", status.Errorf(codes.Unauthenticated, "header %s must name the node, once", wire.NodeHeader)
	}
	node = named[0]
	if names, ok := certified(ctx); ok && !slices.Contains(names, node) {
		return "", status.Errorf(codes.PermissionDenied, "the client certificate is for %s, not for node %s", strings.Join(names, ", "), node)
	}
	if len(r.cfg.Keys) == 0 {
		return node, nil
	}
	for _, header := range md.Get("authorization") {
		if bearer, ok := strings.CutPrefix(header, "Bearer "); ok {
			if token.Verify(r.cfg.Keys, node, bearer) {
				return node, nil
			}
			return "", status.Errorf(codes.PermissionDenied, "the token is not one for node %s: make one with `gpufleet token %s`", node, node)
		}
	}
	return "", status.Errorf(codes.Unauthenticated, "node %s sent no token: make one with `gpufleet token %s` and give it to its agent", node, node)
}

// certified lists the names in the peer's verified certificate.
func certified(ctx context.Context) ([]string, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, false
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return nil, false
	}
	leaf := info.State.VerifiedChains[0][0]
	return append(slices.Clone(leaf.DNSNames), leaf.Subject.CommonName), true
}
