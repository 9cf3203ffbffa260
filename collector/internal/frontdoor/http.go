// SPDX-License-Identifier: Apache-2.0

package frontdoor

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"runtime/debug"
	"strconv"

	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/gpufleet/gpufleet/collector/internal/foreign"
	"github.com/gpufleet/gpufleet/collector/internal/otlp"
	"github.com/gpufleet/gpufleet/collector/internal/remotewrite"
)

// Paths, as senders know them.
const (
	metricsPath     = "/v1/metrics"
	remoteWritePath = "/api/v1/write"
)

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+metricsPath, s.metrics)
	mux.HandleFunc("POST "+remoteWritePath, s.remoteWrite)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				s.cfg.Logger.Error("request panicked", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
				http.Error(w, "the request could not be dealt with", panicCode(r.URL.Path))
			}
		}()
		mux.ServeHTTP(w, r)
	})
}

// panicCode is what a request is answered with that made us panic. OTLP's senders do not push it again after a 500;
// Prometheus would, for ever, and send nothing that comes after it.
func panicCode(path string) int {
	if path == remoteWritePath {
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}

// Errors of bodies.
var (
	errTooLarge = errors.New("too large")
	errMedia    = errors.New("not a format that is taken")
	errBody     = errors.New("cannot be read")
)

// sortBody reads the body of a request that is allowed, and sorts what is in it. From the first byte to the last reading
// it is one of a few.
func (s *server) sortBody(w http.ResponseWriter, r *http.Request, from foreign.Source, decode func(body []byte) ([]foreign.Group, error)) (*foreign.Request, error) {
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	body, err := readBody(w, r)
	if err != nil {
		return nil, err
	}
	return s.sort(r.Context(), from, func() ([]foreign.Group, error) { return decode(body) })
}

// readBody reads a body, and undoes gzip.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	var from io.Reader = http.MaxBytesReader(w, r.Body, maxBodyBytes)
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity", "snappy": // the last one is remote write's to undo
	case "gzip":
		z, err := gzip.NewReader(from)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w: %w", err, errBody)
		}
		from = z
	default:
		return nil, fmt.Errorf("content encoding %q: %w", encoding, errMedia)
	}
	body, err := io.ReadAll(io.LimitReader(from, maxBodyBytes+1))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok || len(body) > maxBodyBytes {
		return nil, fmt.Errorf("more than %d bytes: make the batches of the sender smaller: %w", maxBodyBytes, errTooLarge)
	}
	if err != nil {
		return nil, fmt.Errorf("read body: %w: %w", err, errBody)
	}
	return body, nil
}

// metrics takes OTLP over HTTP.
func (s *server) metrics(w http.ResponseWriter, r *http.Request) {
	encoding := otlp.Protobuf
	switch kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind {
	case "application/x-protobuf":
	case "application/json":
		encoding = otlp.JSON
	default:
		w.Header().Set("Accept-Post", "application/x-protobuf, application/json")
		s.refuse(w, encoding, fmt.Errorf("content type %q: application/x-protobuf and application/json are taken: %w", r.Header.Get("Content-Type"), errMedia))
		return
	}
	outcome, err := s.export(w, r, encoding)
	if err != nil {
		s.refuse(w, encoding, err)
		return
	}
	s.write(w, http.StatusOK, encoding, otlp.Answer(outcome))
}

func (s *server) export(w http.ResponseWriter, r *http.Request, encoding otlp.Encoding) (foreign.Outcome, error) {
	from, err := s.authorize(r.Header.Values, r.TLS, foreign.OTLP)
	if err != nil {
		return foreign.Outcome{}, err
	}
	sorted, err := s.sortBody(w, r, from, func(body []byte) ([]foreign.Group, error) { return decodeOTLP(body, encoding)() })
	if err != nil {
		return foreign.Outcome{}, err
	}
	return s.cfg.Door.Take(r.Context(), sorted)
}

// refuse answers as OTLP over HTTP wants it: a status in the encoding of the request.
func (s *server) refuse(w http.ResponseWriter, encoding otlp.Encoding, err error) {
	code, grpcCode := httpCode(err)
	if code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
	}
	s.write(w, code, encoding, &rpcstatus.Status{Code: int32(grpcCode), Message: err.Error()})
}

func (s *server) write(w http.ResponseWriter, code int, encoding otlp.Encoding, m proto.Message) {
	body, err := otlp.Encode(m, encoding)
	if err != nil {
		http.Error(w, "the answer could not be written", http.StatusInternalServerError)
		return
	}
	kind := "application/x-protobuf"
	if encoding == otlp.JSON {
		kind = "application/json"
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(code)
	if _, err := w.Write(body); err != nil { //nolint:gosec // JSON and protobuf, which no browser shows
		s.cfg.Logger.Debug("answer a sender", "error", err)
	}
}

// httpCode tells what an error is in HTTP, and in gRPC. OTLP's senders push again what is answered with 429 and 503, and
// nothing else that is here.
func httpCode(err error) (int, codes.Code) {
	switch {
	case errors.Is(err, errNoProof):
		return http.StatusUnauthorized, codes.Unauthenticated
	case errors.Is(err, errBadProof):
		return http.StatusForbidden, codes.PermissionDenied
	case errors.Is(err, errTooLarge), errors.Is(err, foreign.ErrTooMany):
		return http.StatusRequestEntityTooLarge, codes.InvalidArgument
	case errors.Is(err, errMedia):
		return http.StatusUnsupportedMediaType, codes.InvalidArgument
	case errors.Is(err, errBadSource), errors.Is(err, errBody), errors.Is(err, remotewrite.ErrMalformed):
		return http.StatusBadRequest, codes.InvalidArgument
	case errors.Is(err, foreign.ErrBusy):
		return http.StatusTooManyRequests, codes.ResourceExhausted
	default:
		return http.StatusServiceUnavailable, codes.Unavailable
	}
}
