// SPDX-License-Identifier: Apache-2.0

package frontdoor

import (
	"context"
	"crypto/tls"
	"errors"
	"runtime/debug"
	"time"

	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip" // senders compress with it
	"google.golang.org/grpc/keepalive"
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
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.InTapHandle(s.tap),
		grpc.UnaryInterceptor(s.recovered),
	}
	if s.cfg.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(s.cfg.TLS)))
	}
	return options
}

func (s *server) register(registrar grpc.ServiceRegistrar) {
	collectormetrics.RegisterMetricsServiceServer(registrar, &metricsService{server: s})
}

// tap refuses whoever does not prove who they are before anything of a message is read.
func (s *server) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	_, err := s.authorize(info.Header.Get, connectionState(ctx), foreign.OTLP)
	return ctx, grpcError(err)
}

// recovered ends a request that made us panic, and no other.
func (s *server) recovered(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (answer any, err error) {
	defer func() {
		if r := recover(); r != nil {
			s.cfg.Logger.Error("request panicked", "method", info.FullMethod, "panic", r, "stack", string(debug.Stack()))
			err = status.Error(codes.Internal, "the request could not be dealt with")
		}
	}()
	return next(ctx, request)
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

// metricsService is OTLP's.
type metricsService struct {
	collectormetrics.UnimplementedMetricsServiceServer
	*server
}

// Export implements MetricsServiceServer.
func (m *metricsService) Export(ctx context.Context, r *otlp.Request) (*collectormetrics.ExportMetricsServiceResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	from, err := m.authorize(md.Get, connectionState(ctx), foreign.OTLP)
	if err != nil {
		return nil, grpcError(err)
	}
	sorted, err := m.sort(ctx, from, func() ([]foreign.Group, error) { return otlp.Groups(r), nil })
	if err != nil {
		return nil, grpcError(err)
	}
	outcome, err := m.cfg.Door.Take(ctx, sorted)
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
	case errors.Is(err, errBadSource):
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
