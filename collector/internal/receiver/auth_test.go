// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/gpufleet/gpufleet/collector/trust"
	"github.com/gpufleet/gpufleet/internal/token"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestTokens(t *testing.T) {
	key, older, foreign := token.NewKey(), token.NewKey(), token.NewKey()
	bearer := func(k token.Key, node string) []string {
		return []string{wire.NodeHeader, "node-1", "authorization", "Bearer " + k.For(node)}
	}
	for name, c := range map[string]struct {
		headers []string
		code    codes.Code
		says    string
	}{
		"its own":           {bearer(key, "node-1"), codes.OK, ""},
		"of the older key":  {bearer(older, "node-1"), codes.OK, ""},
		"none":              {[]string{wire.NodeHeader, "node-1"}, codes.Unauthenticated, "gpufleet token node-1"},
		"of another node":   {bearer(key, "node-2"), codes.PermissionDenied, "gpufleet token node-1"},
		"of another fleet":  {bearer(foreign, "node-1"), codes.PermissionDenied, "not one for node node-1"},
		"not a token":       {[]string{wire.NodeHeader, "node-1", "authorization", "Bearer x"}, codes.PermissionDenied, ""},
		"empty":             {[]string{wire.NodeHeader, "node-1", "authorization", "Bearer "}, codes.PermissionDenied, ""},
		"not a bearer":      {[]string{wire.NodeHeader, "node-1", "authorization", "Basic bm9kZS0xOng="}, codes.Unauthenticated, ""},
		"no node":           {[]string{"authorization", "Bearer " + key.For("node-1")}, codes.Unauthenticated, wire.NodeHeader},
		"two nodes":         {append(bearer(key, "node-1"), wire.NodeHeader, "node-2"), codes.Unauthenticated, "once"},
		"no name of a node": {[]string{wire.NodeHeader, "../../etc", "authorization", "Bearer " + key.For("../../etc")}, codes.Unauthenticated, ""},
		"a source":          {[]string{wire.NodeHeader, "source:prom", "authorization", "Bearer " + key.For("source:prom")}, codes.PermissionDenied, "no node"},
		"a stolen id": { // the thief's own token, and the hello of the other
			[]string{wire.NodeHeader, "node-2", "authorization", "Bearer " + key.For("node-2")}, codes.PermissionDenied, "node-2 says hello as node-1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := serve(t, func(cfg *Config) { cfg.Trust = trust.Static([]token.Key{key, older}) })
			a := f.newAgent(t, f.dial(t), c.headers...)
			a.hello()
			a.send(a.batch(1))
			if c.code == codes.OK {
				a.want(wire.Welcome, 0)
				a.want(wire.Stored, 1)
				return
			}
			if reason := a.wantEnd(c.code); !strings.Contains(reason, c.says) {
				t.Errorf("says %v, want %q", reason, c.says)
			}
			if len(f.submitted())+len(f.files(t)) != 0 {
				t.Errorf("submitted %v, quarantined %v", f.submitted(), f.files(t))
			}
		})
	}
}

// TestRefusedWithoutReading: who proves nothing is sent away before a byte of a message is read.
func TestRefusedWithoutReading(t *testing.T) {
	f := serve(t, func(cfg *Config) { cfg.Trust = trust.Static([]token.Key{token.NewKey()}) })
	a := f.newAgent(t, f.dial(t), wire.NodeHeader, "node-1")
	a.wantEnd(codes.Unauthenticated)
}

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: noon.AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(1, 0, 0), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	a.cert = a.sign(template, template, &a.key.PublicKey)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) sign(template, parent *x509.Certificate, public *ecdsa.PublicKey) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

// issue makes a certificate with a common name and DNS names.
func (a *authority) issue(common string, names ...string) tls.Certificate {
	a.t.Helper()
	return a.issueAs(common, names, func(*x509.Certificate) {})
}

// issueAs makes one that says more.
func (a *authority) issueAs(common string, names []string, change func(*x509.Certificate)) tls.Certificate {
	a.t.Helper()
	key := newKey(a.t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: common}, DNSNames: names,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:   noon.AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(1, 0, 0),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	change(template)
	cert := a.sign(template, a.cert, &key.PublicKey)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func TestClientCertificates(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	key := token.NewKey()
	server := ours.issue("collector")
	for name, c := range map[string]struct {
		client  []tls.Certificate
		asked   tls.ClientAuthType
		keys    []token.Key
		headers []string
		code    codes.Code
	}{
		"by common name":       {[]tls.Certificate{ours.issue("node-1")}, tls.RequireAndVerifyClientCert, nil, nil, codes.OK},
		"by DNS name":          {[]tls.Certificate{ours.issue("", "node-0", "node-1")}, tls.RequireAndVerifyClientCert, nil, nil, codes.OK},
		"of another node":      {[]tls.Certificate{ours.issue("node-2", "node-3")}, tls.RequireAndVerifyClientCert, nil, nil, codes.PermissionDenied},
		"of nobody":            {[]tls.Certificate{ours.issue("")}, tls.RequireAndVerifyClientCert, nil, nil, codes.PermissionDenied},
		"of another authority": {[]tls.Certificate{theirs.issue("node-1")}, tls.RequireAndVerifyClientCert, nil, nil, codes.Unavailable},
		"none, though asked":   {nil, tls.RequireAndVerifyClientCert, nil, nil, codes.Unavailable},
		"none, with a token": {
			nil, tls.VerifyClientCertIfGiven, []token.Key{key}, []string{"authorization", "Bearer " + key.For("node-1")}, codes.OK,
		},
		"none, and no token":    {nil, tls.VerifyClientCertIfGiven, []token.Key{key}, nil, codes.Unauthenticated},
		"its own, and no token": {[]tls.Certificate{ours.issue("node-1")}, tls.RequireAndVerifyClientCert, []token.Key{key}, nil, codes.Unauthenticated},
		"its own, and another's token": {
			[]tls.Certificate{ours.issue("node-1")},
			tls.RequireAndVerifyClientCert,
			[]token.Key{key},
			[]string{"authorization", "Bearer " + key.For("node-2")},
			codes.PermissionDenied,
		},
		"another's, and its own token": {
			[]tls.Certificate{ours.issue("node-2")},
			tls.RequireAndVerifyClientCert,
			[]token.Key{key},
			[]string{"authorization", "Bearer " + key.For("node-1")},
			codes.PermissionDenied,
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := serve(t, func(cfg *Config) {
				cfg.TLS = &tls.Config{Certificates: []tls.Certificate{server}, ClientCAs: ours.pool(), ClientAuth: c.asked, MinVersion: tls.VersionTLS13}
				cfg.Trust = trust.Static(c.keys)
			})
			conn := f.dial(t, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
				Certificates: c.client, RootCAs: ours.pool(), ServerName: "127.0.0.1", MinVersion: tls.VersionTLS13,
			})))
			a := f.newAgent(t, conn, append(c.headers, wire.NodeHeader, "node-1")...)
			a.hello()
			if c.code == codes.OK {
				a.want(wire.Welcome, 0)
				a.send(a.batch(1))
				a.want(wire.Stored, 1)
				return
			}
			a.wantEnd(c.code)
		})
	}
}

// TestPlainTextIsRefused: a collector with TLS speaks nothing else.
func TestPlainTextIsRefused(t *testing.T) {
	ours := newAuthority(t)
	f := serve(t, func(cfg *Config) {
		cfg.TLS = &tls.Config{Certificates: []tls.Certificate{ours.issue("collector")}, MinVersion: tls.VersionTLS13}
	})
	a := f.newAgent(t, f.dial(t, grpc.WithTransportCredentials(insecure.NewCredentials())), wire.NodeHeader, "node-1")
	a.wantEnd(codes.Unavailable)
}
