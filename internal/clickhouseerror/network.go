// SPDX-License-Identifier: Apache-2.0

package clickhouseerror

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// otherPort is what ClickHouse answers to HTTP on its port of the native protocol.
var otherPort = regexp.MustCompile(`is for clickhouse-client program\s+You must use port (\d+) for HTTP`)

// strange is an answer over HTTP that is not one of ClickHouse's exceptions.
func (t Target) strange(e *clickhouse.HTTPError) (what, advice string) {
	advised := t.advice()
	said := e.Err.Error()
	if match := otherPort.FindStringSubmatch(unescaped(said)); match != nil {
		return "this is its port of the native protocol", "its HTTP interface has port " + match[1]
	}
	for _, refusal := range []string{"HTTP request to an HTTPS server", "plain HTTP request was sent to HTTPS port"} {
		if strings.Contains(said, refusal) {
			return "TLS is expected there", advised.TLS
		}
	}
	switch e.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return fmt.Sprintf("a proxy or balancer before it answered with HTTP %d", e.StatusCode), "see that ClickHouse runs behind it: try again in a moment"
	default:
		return fmt.Sprintf("what answers there is not ClickHouse (HTTP %d)", e.StatusCode), advised.Address
	}
}

// unescaped undoes what the client's %q did to line breaks.
func unescaped(text string) string { return strings.NewReplacer(`\r`, "\r", `\n`, "\n").Replace(text) }

// notReached is an error from below HTTP.
func (t Target) notReached(err error) (what, advice string) {
	advised := t.advice()
	if what, advice := t.secrecy(err); what != "" {
		return what, advice
	}
	if unknown, ok := errors.AsType[*net.DNSError](err); ok {
		if unknown.IsNotFound {
			return "there is no host " + unknown.Name, advised.Address
		}
		return "the name " + unknown.Name + " could not be looked up", "check the network's name service: " + unknown.Err
	}
	switch {
	case strings.Contains(err.Error(), noHTTP):
		return "what answers there is not ClickHouse (no HTTP)", advised.Address
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there (connection refused)", advised.Address
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no way leads there", "check address and network"
	case timedOut(err):
		return "it did not answer in time", "it is overloaded, or a firewall drops what is sent there: " + advised.Address
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "it closed the connection without an answer", t.afterHangUp()
	default:
		return "", ""
	}
}

// afterHangUp is what may be behind a connection that just ends. A ClickHouse does that at its port for TLS, too, when it
// is asked without.
func (t Target) afterHangUp() string {
	const stopped = "it was stopped or is shutting down: try again in a moment"
	if t.Secure {
		return stopped
	}
	return stopped + "; or TLS is expected there: " + t.advice().TLS
}

func timedOut(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, clickhouse.ErrAcquireConnTimeout) {
		return true
	}
	slow, ok := errors.AsType[net.Error](err)
	return ok && slow.Timeout()
}

// net/http has no type for an answer that is none.
const (
	noHTTP = "malformed HTTP"
	// alert is how a server's alert looks to somebody who waits for an answer in plain HTTP: a TLS record of type 21.
	alert = `malformed HTTP response "\x15\x03`
)

// secrecy is a disagreement about TLS.
func (t Target) secrecy(err error) (what, advice string) {
	advised := t.advice()
	if strings.Contains(err.Error(), alert) {
		return "TLS is expected there", advised.TLS
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || errors.Is(err, http.ErrSchemeMismatch) {
		return "TLS is not spoken there", advised.NoTLS
	}
	if failed, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "its certificate is not trusted (" + oneLine(reason(failed.Err)) + ")", advised.Trust
	}
	if refused, ok := errors.AsType[*net.OpError](err); ok && refused.Op == "remote error" { // so crypto/tls names an alert
		return "it ended the TLS handshake (" + refused.Err.Error() + ")", "it may want a client certificate, or another version of TLS"
	}
	return "", ""
}

// reason is why a certificate was not believed.
func reason(err error) string {
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return "it has expired, or is not valid yet"
	}
	return strings.TrimPrefix(err.Error(), "x509: ")
}
