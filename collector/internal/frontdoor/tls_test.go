// SPDX-License-Identifier: Apache-2.0

package frontdoor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.cert, a.key = a.sign(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// sign completes and signs a certificate; the first one with its own key.
func (a *authority) sign(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(1), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := template, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func (a *authority) issue(name string) tls.Certificate {
	a.t.Helper()
	cert, key := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	})
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// TestTLS: over either protocol the certificate of a source is its proof, and that of a node is none, even of its name.
func TestTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	server := &tls.Config{Certificates: []tls.Certificate{ours.issue("collector")}, ClientCAs: ours.pool(), ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13}
	for name, c := range map[string]struct {
		from tls.Certificate
		code codes.Code
		http int // 0: there is no answer
	}{
		"of the source":         {ours.issue("source:dcgm"), codes.OK, http.StatusOK},
		"of another source":     {ours.issue("source:other"), codes.PermissionDenied, http.StatusForbidden},
		"of a node of its name": {ours.issue("dcgm"), codes.PermissionDenied, http.StatusForbidden},
		"of another authority":  {theirs.issue("source:dcgm"), codes.Unavailable, 0},
	} {
		t.Run(name, func(t *testing.T) {
			client := &tls.Config{RootCAs: ours.pool(), ServerName: "127.0.0.1", Certificates: []tls.Certificate{c.from}, MinVersion: tls.VersionTLS13}
			s := serveTLS(t, server, client)
			ctx := metadata.AppendToOutgoingContext(t.Context(), SourceHeader, "dcgm")
			if _, err := s.grpc.Export(ctx, unknown()); status.Code(err) != c.code {
				t.Errorf("gRPC: %v, want %s", err, c.code)
			}
			if c.http == 0 {
				if answer, err := s.send(metricsPath, unknownBody(t), "Content-Type", protobufType, SourceHeader, "dcgm"); err == nil {
					t.Errorf("HTTP: %s, %v", answer.Status, answer.Body.Close())
				}
				return
			}
			if answer, said := s.post(metricsPath, unknownBody(t), "Content-Type", protobufType, SourceHeader, "dcgm"); answer.StatusCode != c.http {
				t.Errorf("OTLP over HTTP: %s %s", answer.Status, said)
			}
			want := c.http
			if want == http.StatusOK {
				want = http.StatusNoContent
			}
			if answer, said := s.post(remoteWritePath, snappy.Encode(nil, nil), "Content-Encoding", "snappy", SourceHeader, "dcgm"); answer.StatusCode != want {
				t.Errorf("remote write: %s %s", answer.Status, said)
			}
		})
	}
}
