// SPDX-License-Identifier: Apache-2.0

package frontdoor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip" // senders compress with it
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/gpufleet/gpufleet/collector/internal/foreign"
	"github.com/gpufleet/gpufleet/collector/internal/otlp"
)

func (s *server) grpcOptions() []grpc.ServerOption {
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxBodyBytes),
		grpc.MaxSendMsgSize(1 << 20),
		grpc.MaxConcurrentStreams(16), // per connection
		grpc.MaxHeaderListSize(16 << 10),
		grpc.ConnectionTimeout(20 * time.Second),
		grpc.WaitForHandlers(true),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleConnection, Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.InTapHandle(s.tap),
		grpc.ForceServerCodecV2(undecoded{encoding.GetCodecV2(proto.Name)}),
	}
	if s.cfg.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(s.cfg.TLS)))
	}
	return options
}

// register registers OTLP's service, whose requests come as bytes.
func (s *server) register(registrar grpc.ServiceRegistrar) {
	desc := collectormetrics.MetricsService_ServiceDesc
	desc.HandlerType = nil
	desc.Methods = []grpc.MethodDesc{{MethodName: "Export", Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		var body []byte
		if err := decode(&body); err != nil {
			return nil, err
		}
		return s.exported(ctx, body)
	}}}
	registrar.RegisterService(&desc, nil)
}

// undecoded is a codec that hands requests over as they come: gRPC's own would decode as many at the same time as there
// are.
type undecoded struct{ encoding.CodecV2 }

// Unmarshal implements encoding.CodecV2.
func (undecoded) Unmarshal(data mem.BufferSlice, into any) error {
	body, ok := into.(*[]byte)
	if !ok {
		return fmt.Errorf("a request is read into a %T", into)
	}
	*body = data.Materialize()
	return nil
}

// leaveKey is the key of the function that makes room for another body in the context of a call.
type leaveKey struct{}

// tap refuses whoever does not prove who they are, and what there is no room for, before anything of a message is read. A
// call that does not end is ended.
func (s *server) tap(call context.Context, info *tap.Info) (context.Context, error) {
	if _, err := s.authorize(info.Header.Get, connectionState(call), foreign.OTLP); err != nil {
		return call, grpcError(err)
	}
	leave, err := s.enter()
	if err != nil {
		return call, grpcError(err)
	}
	ctx, cancel := context.WithTimeout(call, maxCall)
	context.AfterFunc(ctx, leave)
	context.AfterFunc(call, cancel)
	return context.WithValue(ctx, leaveKey{}, leave), nil
}

// connectionState is that of the peer's TLS; nil without TLS.
func connectionState(ctx context.Context) *tls.ConnectionState {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return nil
	}
	return &info.State
}

// exported takes a request. One that makes us panic ends, and no other does.
func (s *server) exported(ctx context.Context, body []byte) (answer *collectormetrics.ExportMetricsServiceResponse, err error) {
	defer func() {
		if r := recover(); r != nil {
			s.cfg.Logger.Error("request panicked", "protocol", foreign.OTLP, "panic", r, "stack", string(debug.Stack()))
			answer, err = nil, status.Error(codes.Internal, "the request could not be dealt with")
		}
	}()
	md, _ := metadata.FromIncomingContext(ctx)
	from, err := s.authorize(md.Get, connectionState(ctx), foreign.OTLP)
	if err != nil {
		return nil, grpcError(err)
	}
	sorted, err := s.sort(ctx, from, decodeOTLP(body, otlp.Protobuf))
	if leave, ok := ctx.Value(leaveKey{}).(func()); ok {
		leave()
	}
	if err != nil {
		return nil, grpcError(err)
	}
	outcome, err := s.cfg.Door.Take(ctx, sorted)
	if err != nil {
		return nil, grpcError(err)
	}
	return otlp.Answer(outcome), nil
}

// grpcError is an error as senders understand it. All that they may push again has a delay.
func grpcError(err error) error {
	code := codes.Unavailable
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errNoProof):
		return status.Error(codes.Unauthenticated, err.Error())
	case errors.Is(err, errBadProof):
		return status.Error(codes.PermissionDenied, err.Error())
	case errors.Is(err, errBadSource), errors.Is(err, errBody):
		return status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	case errors.Is(err, foreign.ErrBusy):
		code = codes.ResourceExhausted
	}
	plain := status.New(code, err.Error())
	detailed, detailErr := plain.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)})
	if detailErr != nil {
		return plain.Err()
	}
	return detailed.Err()
}
