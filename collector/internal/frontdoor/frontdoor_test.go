// SPDX-License-Identifier: Apache-2.0

package frontdoor

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/gpufleet/gpufleet/collector/internal/admission"
	"github.com/gpufleet/gpufleet/collector/internal/foreign"
	"github.com/gpufleet/gpufleet/collector/trust"
	"github.com/gpufleet/gpufleet/internal/token"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestPartialSuccess(t *testing.T) {
	const told = "2 of metrics that are not known here: node.load"
	s := serve(t)
	answer, err := s.grpc.Export(t.Context(), unknown())
	if err != nil || answer.GetPartialSuccess().GetRejectedDataPoints() != 2 || !strings.Contains(answer.GetPartialSuccess().GetErrorMessage(), told) {
		t.Errorf("gRPC: %v, %v", answer, err)
	}
	for name, body := range map[string][]byte{"": unknownBody(t), "gzip": zipped(t, unknownBody(t))} {
		response, said := s.post(metricsPath, body, "Content-Type", protobufType, "Content-Encoding", name)
		var got collectormetrics.ExportMetricsServiceResponse
		if err := proto.Unmarshal([]byte(said), &got); err != nil || response.StatusCode != http.StatusOK || got.GetPartialSuccess().GetRejectedDataPoints() != 2 {
			t.Errorf("HTTP %q: %s, %v, %v", name, response.Status, &got, err)
		}
	}
	response, said := s.post(metricsPath, []byte(`{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"node.load","gauge":{"dataPoints":[{"asInt":"1"}]}}]}]}]}`), "Content-Type", jsonType)
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != jsonType || !strings.Contains(said, "1 of metrics that are not known here: node.load") {
		t.Errorf("JSON: %s, %s", response.Status, said)
	}
}

// TestTokens: a sender shows the token of its source, by whatever way it comes, and no other one.
func TestTokens(t *testing.T) {
	key := token.NewKey()
	s := serve(t, key)
	for name, c := range map[string]struct {
		source, token string
		code          codes.Code
		http          int
	}{
		"right":                     {"dcgm", key.For("source:dcgm"), codes.OK, 200},
		"of another source":         {"dcgm", key.For("source:other"), codes.PermissionDenied, 403},
		"of an agent of its name":   {"dcgm", key.For("dcgm"), codes.PermissionDenied, 403},
		"under another key":         {"dcgm", token.NewKey().For("source:dcgm"), codes.PermissionDenied, 403},
		"none":                      {"dcgm", "", codes.Unauthenticated, 401},
		"right, of the usual name":  {"", key.For("source:otlp"), codes.OK, 200},
		"a name that cannot be one": {"DCGM/../x", key.For("source:DCGM/../x"), codes.InvalidArgument, 400},
	} {
		var proof []string
		if c.source != "" {
			proof = append(proof, SourceHeader, c.source)
		}
		if c.token != "" {
			proof = append(proof, "authorization", "Bearer "+c.token)
		}
		ctx := metadata.AppendToOutgoingContext(t.Context(), proof...)
		headers := append([]string{"Content-Type", protobufType}, proof...)
		if _, err := s.grpc.Export(ctx, unknown()); status.Code(err) != c.code {
			t.Errorf("%s, gRPC: %v, want %s", name, err, c.code)
		}
		if response, said := s.post(metricsPath, unknownBody(t), headers...); response.StatusCode != c.http {
			t.Errorf("%s, HTTP: %s %s, want %d", name, response.Status, said, c.http)
		}
	}
	// a sender that cannot send headers of its own names its source as the user
	for name, c := range map[string]struct {
		proof []string
		code  int
	}{
		"user and token":        {[]string{"Authorization", basic("dcgm", key.For("source:dcgm"))}, 200},
		"another user":          {[]string{"Authorization", basic("other", key.For("source:dcgm"))}, 403},
		"header says the same":  {[]string{"Authorization", basic("dcgm", key.For("source:dcgm")), SourceHeader, "dcgm"}, 200},
		"header says otherwise": {[]string{"Authorization", basic("dcgm", key.For("source:dcgm")), SourceHeader, "other"}, 400},
		"no base64":             {[]string{"Authorization", "Basic ?"}, 403},
	} {
		if response, said := s.post(metricsPath, unknownBody(t), append([]string{"Content-Type", protobufType}, c.proof...)...); response.StatusCode != c.code {
			t.Errorf("%s: %s %s, want %d", name, response.Status, said, c.code)
		}
	}
	// the usual name of remote write is its own
	body := snappy.Encode(nil, nil)
	for name, want := range map[string]int{"prometheus": 204, "otlp": 403} {
		if response, said := s.post(remoteWritePath, body, "Content-Encoding", "snappy", "Authorization", "Bearer "+key.For("source:"+name)); response.StatusCode != want {
			t.Errorf("remote write with the token of %s: %s %s", name, response.Status, said)
		}
	}
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func TestCertificates(t *testing.T) {
	s := &server{cfg: Config{Trust: trust.Static(nil), now: time.Now}}
	state := func(names ...string) *tls.ConnectionState {
		return &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{Subject: pkix.Name{CommonName: names[0]}, DNSNames: names[1:], NotAfter: time.Now().Add(time.Hour)}}}}
	}
	named := func(key string) []string {
		if key == SourceHeader {
			return []string{"dcgm"}
		}
		return nil
	}
	for name, c := range map[string]struct {
		state *tls.ConnectionState
		ok    bool
	}{
		"common name": {state("source:dcgm"), true}, "one of several": {state("x", "y", "source:dcgm"), true},
		"of a node": {state("dcgm"), false}, "of another": {state("source:other"), false}, "not verified": {&tls.ConnectionState{}, true}, "none": {nil, true},
	} {
		if _, err := s.authorize(named, c.state, foreign.OTLP); (err == nil) != c.ok || err != nil && !errors.Is(err, errBadProof) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestScopes: whose the rows of a source are is what its token and its certificate say, and what may not be stored is refused.
func TestScopes(t *testing.T) {
	key := token.NewKey()
	s := serveConfig(t, Config{Trust: trust.Static([]token.Key{key}), Admits: admission.Admits{Residencies: []string{"eu"}}}, nil)
	for name, c := range map[string]struct {
		claims token.Claims
		code   codes.Code
		http   int
	}{
		"its own":           {token.Claims{Scope: wire.Scope{Tenant: "acme", Residency: "eu"}}, codes.OK, 200},
		"of another zone":   {token.Claims{Scope: wire.Scope{Tenant: "acme", Residency: "us"}}, codes.PermissionDenied, 403},
		"of no zone":        {token.Claims{}, codes.PermissionDenied, 403},
		"expired":           {token.Claims{Scope: wire.Scope{Residency: "eu"}, Expires: time.Now().Add(-time.Second)}, codes.PermissionDenied, 403},
		"since some moment": {token.Claims{Scope: wire.Scope{Residency: "eu"}, Since: time.Now()}, codes.PermissionDenied, 403},
	} {
		made, err := key.Token("source:dcgm", c.claims)
		if err != nil {
			t.Fatal(err)
		}
		proof := []string{SourceHeader, "dcgm", "authorization", "Bearer " + made}
		_, err = s.grpc.Export(metadata.AppendToOutgoingContext(t.Context(), proof...), unknown())
		if status.Code(err) != c.code || strings.Contains(said(err), made) {
			t.Errorf("%s, gRPC: %v, want %s", name, err, c.code)
		}
		if response, says := s.post(metricsPath, unknownBody(t), append([]string{"Content-Type", protobufType}, proof...)...); response.StatusCode != c.http || strings.Contains(says, made) {
			t.Errorf("%s, HTTP: %s %s, want %d", name, response.Status, says, c.http)
		}
		if c.code == codes.OK && s.from.Load().Scope != c.claims.Scope {
			t.Errorf("%s: taken as %+v", name, s.from.Load().Scope)
		}
	}
}

func said(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestRevokedToken: it is a source's own, and counts no more.
func TestRevokedToken(t *testing.T) {
	dir, key := t.TempDir(), token.NewKey()
	files := trust.Files{FleetKeys: filepath.Join(dir, "keys"), Tokens: filepath.Join(dir, "revoked")}
	if err := errors.Join(token.WriteKey(files.FleetKeys, key), os.WriteFile(files.Tokens, []byte(token.ID(key.For("source:lost"))), 0o600)); err != nil {
		t.Fatal(err)
	}
	known, err := trust.Open(files, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := &server{cfg: Config{Trust: known, now: time.Now}}
	for name, want := range map[string]error{"lost": errBadProof, "kept": nil} {
		headers := map[string][]string{SourceHeader: {name}, "authorization": {"Bearer " + key.For("source:"+name)}}
		_, err := s.authorize(func(k string) []string { return headers[k] }, nil, foreign.OTLP)
		if !errors.Is(err, want) || want != nil && !strings.Contains(err.Error(), "token was revoked") {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
}

// TestCertificatesScope: what a certificate says counts, and against what the token says nothing is taken.
func TestCertificatesScope(t *testing.T) {
	key := token.NewKey()
	s := &server{cfg: Config{Trust: trust.Static([]token.Key{key}), now: time.Now}}
	for name, c := range map[string]struct {
		units  []string
		claims token.Claims
		ended  bool
		want   wire.Scope
		fails  error
	}{
		"by the certificate":  {[]string{"tenant=acme"}, token.Claims{}, false, wire.Scope{Tenant: "acme"}, nil},
		"by both":             {[]string{"tenant=acme"}, token.Claims{Scope: wire.Scope{Tenant: "acme", Residency: "eu"}}, false, wire.Scope{Tenant: "acme", Residency: "eu"}, nil},
		"contradiction":       {[]string{"tenant=acme"}, token.Claims{Scope: wire.Scope{Tenant: "globex"}}, false, wire.Scope{}, errBadProof},
		"malformed":           {[]string{"tenant=acme", "tenant=globex"}, token.Claims{}, false, wire.Scope{}, errBadProof},
		"expired certificate": {nil, token.Claims{}, true, wire.Scope{}, errNoProof},
	} {
		made, err := key.Token("source:dcgm", c.claims)
		if err != nil {
			t.Fatal(err)
		}
		ends := time.Now().Add(time.Hour)
		if c.ended {
			ends = time.Now().Add(-time.Hour)
		}
		state := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{Subject: pkix.Name{CommonName: "source:dcgm", OrganizationalUnit: c.units}, NotAfter: ends}}}}
		headers := map[string][]string{SourceHeader: {"dcgm"}, "authorization": {"Bearer " + made}}
		from, err := s.authorize(func(k string) []string { return headers[k] }, state, foreign.OTLP)
		if !errors.Is(err, c.fails) || (err == nil) != (c.fails == nil) || err == nil && from.Scope != c.want {
			t.Errorf("%s: %+v, %v", name, from, err)
		}
	}
}

// TestSendAgain: what was not kept is answered so that senders push it again, and know when.
func TestSendAgain(t *testing.T) {
	s := serve(t)
	for name, c := range map[string]struct {
		err         error
		code        codes.Code
		http, write int
	}{
		"busy":        {foreign.ErrBusy, codes.ResourceExhausted, 429, 503}, // Prometheus drops what is answered with 429
		"not durable": {errors.New("disk is full"), codes.Unavailable, 503, 503},
	} {
		s.answers(func() error { return c.err })
		_, err := s.grpc.Export(t.Context(), unknown())
		var delay *errdetails.RetryInfo
		for _, d := range status.Convert(err).Details() {
			delay, _ = d.(*errdetails.RetryInfo)
		}
		if status.Code(err) != c.code || delay.GetRetryDelay().AsDuration() != retryAfter {
			t.Errorf("%s, gRPC: %v, delay %v", name, err, delay)
		}
		for path, headers := range map[string][]string{metricsPath: {"Content-Type", protobufType}, remoteWritePath: {"Content-Encoding", "snappy"}} {
			body, want := unknownBody(t), c.http
			if path == remoteWritePath {
				body, want = snappy.Encode(nil, nil), c.write
			}
			if response, said := s.post(path, body, headers...); response.StatusCode != want || response.Header.Get("Retry-After") != "5" {
				t.Errorf("%s, %s: %s %s, Retry-After %q", name, path, response.Status, said, response.Header.Get("Retry-After"))
			}
		}
	}
}

func TestBadRequests(t *testing.T) {
	s := serve(t)
	bomb := zipped(t, make([]byte, maxBodyBytes+1))
	for name, c := range map[string]struct {
		path    string
		body    []byte
		headers []string
		code    int
		says    string
	}{
		"a bomb":               {metricsPath, bomb, []string{"Content-Type", protobufType, "Content-Encoding", "gzip"}, 413, "make the batches of the sender smaller"},
		"too large":            {metricsPath, make([]byte, maxBodyBytes+1), []string{"Content-Type", protobufType}, 413, "make the batches"},
		"no gzip":              {metricsPath, []byte("x"), []string{"Content-Type", protobufType, "Content-Encoding", "gzip"}, 400, "gzip"},
		"cut gzip":             {metricsPath, bomb[:100], []string{"Content-Type", protobufType, "Content-Encoding", "gzip"}, 400, "read body"},
		"another encoding":     {metricsPath, nil, []string{"Content-Type", protobufType, "Content-Encoding", "br"}, 415, "br"},
		"another type":         {metricsPath, nil, []string{"Content-Type", "text/plain"}, 415, "application/json are taken"},
		"no protobuf":          {metricsPath, []byte("\xff"), []string{"Content-Type", protobufType}, 400, "read OTLP metrics"},
		"traces":               {"/v1/traces", nil, []string{"Content-Type", protobufType}, 404, ""},
		"write without snappy": {remoteWritePath, nil, nil, 415, "snappy"},
		"write another type":   {remoteWritePath, nil, []string{"Content-Encoding", "snappy", "Content-Type", jsonType}, 415, "application/x-protobuf"},
		"write, a bomb":        {remoteWritePath, snappy.Encode(nil, make([]byte, maxBodyBytes+1)), []string{"Content-Encoding", "snappy"}, 400, "max_samples_per_send"},
		"write, nothing":       {remoteWritePath, nil, []string{"Content-Encoding", "snappy"}, 400, "snappy"},
	} {
		if response, said := s.post(c.path, c.body, c.headers...); response.StatusCode != c.code || !strings.Contains(said, c.says) {
			t.Errorf("%s: %s %q, want %d %q", name, response.Status, said, c.code, c.says)
		}
	}
	many := unknown()
	many.ResourceMetrics[0].ScopeMetrics[0].Metrics[0].GetGauge().DataPoints = slices.Repeat([]*metrics.NumberDataPoint{{}}, foreign.MaxReadings+1)
	points, err := proto.Marshal(many)
	if err != nil {
		t.Fatal(err)
	}
	series := append([]byte("\x0a\x0e\x0a\x08__name__\x12\x02up"), bytes.Repeat([]byte{0x12, 0}, foreign.MaxReadings+1)...)
	samples := append(protowire.AppendVarint([]byte{0x0a}, uint64(len(series))), series...)
	for name, code := range map[string]int{
		"many points, gRPC": s.export(many),
		"many points, HTTP": first(s.post(metricsPath, points, "Content-Type", protobufType)).StatusCode,
		"many samples":      first(s.post(remoteWritePath, snappy.Encode(nil, samples), "Content-Encoding", "snappy")).StatusCode,
	} {
		if code != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: %d", name, code)
		}
	}
	large := unknown()
	large.ResourceMetrics[0].ScopeMetrics[0].Metrics[0].Description = strings.Repeat("x", maxBodyBytes)
	if _, err := s.grpc.Export(t.Context(), large, grpc.MaxCallSendMsgSize(1<<30)); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("too large for gRPC: %v", err)
	}
}

func first(r reply, _ string) reply { return r }

// TestBodiesAreFew: what waits to be decoded counts, and the rest is to come again.
func TestBodiesAreFew(t *testing.T) {
	s := serve(t)
	hold := make(chan struct{})
	s.hold.Store(&hold)
	const calls = 16 // of one connection
	body, codes := unknownBody(t), make(chan int, 2*maxBodies+calls)
	var posts sync.WaitGroup
	for range calls {
		posts.Go(func() { codes <- s.export(unknown()) })
	}
	for range 2 * maxBodies {
		posts.Go(func() {
			answer, _ := s.post(metricsPath, body, "Content-Type", protobufType)
			codes <- answer.StatusCode
		})
	}
	deadline := time.After(20 * time.Second)
	for refused := range maxBodies + calls {
		select {
		case code := <-codes:
			if code != http.StatusTooManyRequests {
				t.Errorf("answered with %d", code)
			}
		case <-deadline:
			t.Errorf("%d of %d requests were refused", refused, maxBodies+calls)
			deadline = nil
		}
		if deadline == nil {
			break
		}
	}
	close(hold)
	posts.Wait()
	close(codes)
	for code := range codes {
		if code != http.StatusOK {
			t.Errorf("one that was in is answered with %d", code)
		}
	}
}

// TestPanic: a request that makes us panic is refused, and the next one is served.
func TestPanic(t *testing.T) {
	s := serve(t)
	s.answers(func() error { panic("a bug") })
	if _, err := s.grpc.Export(t.Context(), unknown()); status.Code(err) != codes.Internal {
		t.Errorf("gRPC: %v", err)
	}
	if response, _ := s.post(metricsPath, unknownBody(t), "Content-Type", protobufType); response.StatusCode != http.StatusInternalServerError {
		t.Errorf("HTTP: %s", response.Status)
	}
	if response, _ := s.post(remoteWritePath, snappy.Encode(nil, nil), "Content-Encoding", "snappy"); response.StatusCode != http.StatusBadRequest {
		t.Errorf("remote write, which is sent again for ever after a 5xx: %s", response.Status)
	}
	s.answers(func() error { return nil })
	if _, err := s.grpc.Export(t.Context(), unknown()); err != nil {
		t.Errorf("after it: %v", err)
	}
}

// TestEndedBeforeItBegan is an end like any other.
func TestEndedBeforeItBegan(t *testing.T) {
	l, server := listen(t), grpc.NewServer()
	server.Stop() // as the end of the context does it, which may come first
	if err := serveUntil(t.Context(), server, l); err != nil {
		t.Error(err)
	}
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is open still: %v", err)
	}
}
