// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"

	"github.com/gpufleet/gpufleet/collector/internal/admission"
	"github.com/gpufleet/gpufleet/collector/quarantine"
	"github.com/gpufleet/gpufleet/collector/trust"
	"github.com/gpufleet/gpufleet/internal/token"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// named is how a certificate says who it is for.
func named(t *testing.T, spiffe string, units ...string) func(*x509.Certificate) {
	t.Helper()
	return func(c *x509.Certificate) {
		c.Subject.OrganizationalUnit = units
		if spiffe != "" {
			u, err := url.Parse(spiffe)
			if err != nil {
				t.Fatal(err)
			}
			c.URIs = []*url.URL{u}
		}
	}
}

// bearer are the headers of a node with a token that claims something.
func bearer(t *testing.T, k token.Key, node string, c token.Claims) []string {
	t.Helper()
	made, err := k.Token(node, c)
	if err != nil {
		t.Fatal(err)
	}
	return []string{wire.NodeHeader, node, "authorization", "Bearer " + made}
}

func claims(tenant, residency string) token.Claims {
	return token.Claims{Scope: wire.Scope{Tenant: tenant, Residency: residency}}
}

// overTLS dials with a client certificate; none if it is nil.
func (f *fixture) overTLS(t *testing.T, a *authority, client *tls.Certificate) *grpc.ClientConn {
	t.Helper()
	conf := &tls.Config{RootCAs: a.pool(), ServerName: "127.0.0.1", MinVersion: tls.VersionTLS13}
	if client != nil {
		conf.Certificates = []tls.Certificate{*client}
	}
	return f.dial(t, grpc.WithTransportCredentials(credentials.NewTLS(conf)))
}

// TestScope: what certificate and token say is stamped, and what contradicts is refused and counted.
func TestScope(t *testing.T) {
	ours, key := newAuthority(t), token.NewKey()
	server := ours.issue("collector")
	all := "spiffe://fleet.example/tenant/acme/residency/eu/node/node-1"
	for name, c := range map[string]struct {
		spiffe string
		units  []string
		names  []string
		claims token.Claims
		says   []string
		admits admission.Admits
		want   wire.Scope
		reason string // of the refusal; "": none
		tells  string
	}{
		"by SPIFFE ID":             {spiffe: all, want: wire.Scope{Tenant: "acme", Residency: "eu"}},
		"in another order":         {spiffe: "spiffe://fleet.example/node/node-1/tenant/acme", want: wire.Scope{Tenant: "acme"}},
		"beside what is not known": {spiffe: "spiffe://x/ns/gpu/sa/agent/node/node-1/tenant/acme", want: wire.Scope{Tenant: "acme"}},
		"by DNS name and units":    {names: []string{"node-1"}, units: []string{"GPU", "tenant=acme", "residency=eu"}, want: wire.Scope{Tenant: "acme", Residency: "eu"}},
		"SPIFFE ID without a node": {spiffe: "spiffe://x/tenant/acme", names: []string{"node-1"}, want: wire.Scope{Tenant: "acme"}},
		"by token":                 {names: []string{"node-1"}, claims: claims("acme", "eu"), want: wire.Scope{Tenant: "acme", Residency: "eu"}},
		"half by each":             {spiffe: "spiffe://x/node/node-1/residency/eu", claims: claims("acme", ""), want: wire.Scope{Tenant: "acme", Residency: "eu"}},
		"by both alike":            {spiffe: all, claims: claims("acme", "eu"), want: wire.Scope{Tenant: "acme", Residency: "eu"}},
		"by neither":               {names: []string{"node-1"}},
		"and the agent says so":    {spiffe: all, says: []string{wire.TenantHeader, "acme", wire.ResidencyHeader, "eu"}, want: wire.Scope{Tenant: "acme", Residency: "eu"}},
		"admitted":                 {spiffe: all, admits: admission.Admits{Residencies: []string{"us", "eu"}, Tenants: []string{"acme"}}, want: wire.Scope{Tenant: "acme", Residency: "eu"}},

		"a SPIFFE ID is not outweighed by a DNS name": {spiffe: "spiffe://x/node/node-2", names: []string{"node-1"}, reason: "certificate_of_another", tells: `for "node-2"`},
		"two nodes in a SPIFFE ID":                    {spiffe: "spiffe://x/node/node-1/node/node-2", reason: "certificate_malformed", tells: "two of node"},
		"two tenants in a certificate":                {spiffe: all, units: []string{"tenant=globex"}, reason: "certificate_malformed", tells: "tenant=acme"},
		"no name of a tenant":                         {names: []string{"node-1"}, units: []string{"tenant=A' OR 1"}, reason: "certificate_malformed", tells: "lower-case"},
		"another tenant by the token":                 {spiffe: all, claims: claims("globex", ""), reason: "tenant_contradiction", tells: "gpufleet token node-1 --tenant acme"},
		"another zone by the token":                   {spiffe: all, claims: claims("", "us"), reason: "residency_contradiction", tells: "gpufleet token node-1 --residency eu"},
		"the agent says another tenant":               {spiffe: all, says: []string{wire.TenantHeader, "globex"}, reason: "tenant_contradiction", tells: `"globex" and proves acme`},
		"the agent says another zone":                 {spiffe: all, says: []string{wire.ResidencyHeader, "us"}, reason: "residency_contradiction", tells: `"us" and proves eu`},
		"the agent alone says one":                    {names: []string{"node-1"}, says: []string{wire.TenantHeader, "acme"}, reason: "tenant_contradiction", tells: "proves none"},
		"the agent says two":                          {spiffe: all, says: []string{wire.TenantHeader, "acme", wire.TenantHeader, "globex"}, reason: "tenant_contradiction", tells: "globex"},
		"a zone that may not be stored":               {spiffe: all, admits: admission.Admits{Residencies: []string{"us"}}, reason: "foreign_residency", tells: "zone eu, and this collector stores rows of us alone"},
		"no zone where one must be":                   {names: []string{"node-1"}, admits: admission.Admits{Residencies: []string{"us"}}, reason: "foreign_residency", tells: "gpufleet token node-1 --residency"},
		"a tenant that may not be stored":             {spiffe: all, admits: admission.Admits{Tenants: []string{"globex"}}, reason: "foreign_tenant", tells: "the agent keeps its rows"},
		"no tenant where one must be":                 {names: []string{"node-1"}, admits: admission.Admits{Tenants: []string{"globex"}}, reason: "foreign_tenant", tells: "no tenant is proved"},
	} {
		t.Run(name, func(t *testing.T) {
			reader := metric.NewManualReader()
			var mu sync.Mutex
			var got []wire.Scope
			f := serve(t, func(cfg *Config) {
				cfg.TLS = &tls.Config{Certificates: []tls.Certificate{server}, ClientCAs: ours.pool(), ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13}
				cfg.Admits, cfg.Meter = c.admits, metric.NewMeterProvider(metric.WithReader(reader)).Meter("test")
				cfg.Trust = trust.Static([]token.Key{key})
			})
			f.set(func() {
				f.scoped = func(s wire.Scope) {
					mu.Lock()
					defer mu.Unlock()
					got = append(got, s)
				}
			})
			client := ours.issueAs("", c.names, named(t, c.spiffe, c.units...))
			a := f.newAgent(t, f.overTLS(t, ours, &client), append(bearer(t, key, "node-1", c.claims), c.says...)...)
			a.hello()
			if c.reason == "" {
				a.want(wire.Welcome, 0)
				a.send(a.batch(1))
				a.want(wire.Stored, 1)
				mu.Lock()
				defer mu.Unlock()
				if len(got) != 1 || got[0] != c.want {
					t.Errorf("stored as of %+v, want %+v", got, c.want)
				}
				return
			}
			if text := a.wantEnd(codes.PermissionDenied); !strings.Contains(text, c.tells) || !strings.Contains(text, "node-1") {
				t.Errorf("says %q, want %q", text, c.tells)
			}
			counted := counters(t, reader)
			if counted["gpufleet.collector.refused.streams[code=PermissionDenied reason="+c.reason+"]"] != 1 {
				t.Errorf("counted %v", counted)
			}
			if len(f.submitted())+len(f.files(t)) != 0 {
				t.Errorf("submitted %v, quarantined %v", f.submitted(), f.files(t))
			}
		})
	}
}

// TestRowsBeforeTheTenant: what is of the time before the node came to the tenant is not stamped with it.
func TestRowsBeforeTheTenant(t *testing.T) {
	key := token.NewKey()
	f := serve(t, func(cfg *Config) { cfg.Trust = trust.Static([]token.Key{key}) })
	mine := claims("acme", "eu")
	mine.Since = noon.Add(-4 * time.Second)
	a := f.newAgent(t, f.dial(t), bearer(t, key, "node-1", mine)...)
	a.hello()
	a.want(wire.Welcome, 0)
	a.send(a.batchAt(1, noon.Add(-4*time.Second), noon))
	a.want(wire.Stored, 1)
	a.send(a.batchAt(2, noon.Add(-4*time.Second-time.Millisecond), noon))
	if reason := a.want(wire.Rejected, 2).Reason; !strings.Contains(reason, "of tenant acme only since") {
		t.Errorf("reason %q", reason)
	}
	paths, err := quarantine.List(f.dir)
	if err != nil || len(paths) != 1 {
		t.Fatalf("%v, %v", paths, err)
	}
	if e, _, err := quarantine.Read(paths[0]); err != nil || e.Tenant != "" || e.Residency != "eu" {
		t.Errorf("kept as of tenant %q, zone %q: %v", e.Tenant, e.Residency, err)
	}
}

// clock is a receiver's clock that a test sets.
type clock struct {
	mu sync.Mutex // guards at
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) set(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = at
}

func write(t *testing.T, path, kind string, der ...[]byte) {
	t.Helper()
	var text []byte
	for _, one := range der {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: one})...)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// revokes makes a list of revoked certificates.
func (a *authority) revokes(serials ...int64) []byte {
	a.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: noon, NextUpdate: noon.Add(time.Hour)}
	for _, n := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(n), RevocationTime: noon})
	}
	der, err := x509.CreateRevocationList(nil, list, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

// TestProofEnds: streams that run end when what proved them does not hold any more, and those of others go on.
func TestProofEnds(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	first, second := token.NewKey(), token.NewKey()
	for name, c := range map[string]struct {
		change func(t *testing.T, files trust.Files, clock *clock)
		code   codes.Code
		reason string
	}{
		"the token expires":       {func(_ *testing.T, _ trust.Files, c *clock) { c.set(noon.Add(time.Hour)) }, codes.PermissionDenied, "token_expired"},
		"the certificate expires": {func(_ *testing.T, _ trust.Files, c *clock) { c.set(noon.Add(31 * time.Minute)) }, codes.Unauthenticated, "certificate_expired"},
		"the fleet key is gone": {func(t *testing.T, files trust.Files, _ *clock) {
			t.Helper()
			if err := os.Remove(files.FleetKeys); err != nil {
				t.Fatal(err)
			}
			if err := token.WriteKey(files.FleetKeys, second); err != nil {
				t.Fatal(err)
			}
		}, codes.PermissionDenied, "token_of_another"},
		"the token is revoked": {func(t *testing.T, files trust.Files, _ *clock) {
			t.Helper()
			if err := os.WriteFile(files.Tokens, []byte("# lost\n"+token.ID(first.For("node-1"))+" node-1\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, codes.PermissionDenied, "token_revoked"},
		"the certificate is revoked": {func(t *testing.T, files trust.Files, _ *clock) {
			t.Helper()
			write(t, files.Revoked, "X509 CRL", ours.revokes(1000, 7))
		}, codes.Unauthenticated, "certificate_revoked"},
		"the authority is gone": {func(t *testing.T, files trust.Files, _ *clock) {
			t.Helper()
			write(t, files.ClientCA, "CERTIFICATE", theirs.cert.Raw)
			write(t, files.Revoked, "X509 CRL", theirs.revokes())
		}, codes.Unauthenticated, "certificate_untrusted"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			files := trust.Files{FleetKeys: filepath.Join(dir, "keys"), Tokens: filepath.Join(dir, "tokens"), ClientCA: filepath.Join(dir, "ca.pem"), Revoked: filepath.Join(dir, "crl.pem")}
			if err := token.WriteKey(files.FleetKeys, first); err != nil {
				t.Fatal(err)
			}
			write(t, files.ClientCA, "CERTIFICATE", ours.cert.Raw)
			write(t, files.Revoked, "X509 CRL", ours.revokes())
			if err := os.WriteFile(files.Tokens, []byte(token.ID(first.For("node-2"))), 0o600); err != nil { // another's
				t.Fatal(err)
			}
			known, err := trust.Open(files, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			hands, reader := &clock{at: noon}, metric.NewManualReader()
			f := serve(t, func(cfg *Config) {
				cfg.TLS = &tls.Config{Certificates: []tls.Certificate{ours.issue("collector")}, ClientCAs: ours.pool(), ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13}
				cfg.TLS.Time = hands.now
				cfg.Trust, cfg.now, cfg.limits.guardEvery = known, hands.now, 2*time.Millisecond
				cfg.Meter = metric.NewMeterProvider(metric.WithReader(reader)).Meter("test")
			})
			mine := token.Claims{}
			client := ours.issueAs("", []string{"node-1"}, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(7) })
			switch name {
			case "the token expires":
				mine.Expires = noon.Add(time.Hour)
			case "the certificate expires":
				client = ours.issueAs("", []string{"node-1"}, func(c *x509.Certificate) { c.NotAfter = noon.Add(30 * time.Minute) })
			}
			a := f.newAgent(t, f.overTLS(t, ours, &client), bearer(t, first, "node-1", mine)...)
			a.hello()
			a.want(wire.Welcome, 0)
			a.send(a.batch(1))
			a.want(wire.Stored, 1)
			if err := known.Reload(); err != nil { // without a change nothing ends
				t.Fatal(err)
			}
			a.send(a.batch(2))
			a.want(wire.Stored, 2)
			c.change(t, files, hands)
			if err := known.Reload(); err != nil {
				t.Fatal(err)
			}
			if text := a.wantEnd(c.code); !strings.Contains(text, "node-1") {
				t.Errorf("says %q", text)
			}
			if counted := counters(t, reader); counted["gpufleet.collector.ended.streams[reason="+c.reason+"]"] != 1 {
				t.Errorf("counted %v, want %s", counted, c.reason)
			}
			again := f.newAgent(t, f.overTLS(t, ours, &client), bearer(t, first, "node-1", mine)...)
			if name == "the certificate expires" {
				c.code = codes.Unavailable // the handshake refuses it
			}
			again.wantEnd(c.code)
		})
	}
}

// TestSecretsStayOutOfLogs: whatever is refused, neither log nor answer shows a token.
func TestSecretsStayOutOfLogs(t *testing.T) {
	key := token.NewKey()
	var mu sync.Mutex
	var log bytes.Buffer
	f := serve(t, func(cfg *Config) {
		cfg.Trust = trust.Static([]token.Key{key})
		cfg.Admits.Residencies = []string{"eu"}
		cfg.Logger = slog.New(slog.NewTextHandler(writer(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return log.Write(p)
		}), &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	var secrets, answers []string
	expired := claims("acme", "eu")
	expired.Expires = noon.Add(-time.Second)
	for _, headers := range [][]string{
		bearer(t, key, "node-2", claims("acme", "eu")), bearer(t, token.NewKey(), "node-1", claims("acme", "eu")),
		bearer(t, key, "node-1", expired), bearer(t, key, "node-1", claims("acme", "us")), append(bearer(t, key, "node-1", claims("acme", "eu")), wire.TenantHeader, "globex"),
	} {
		secrets = append(secrets, strings.TrimPrefix(headers[3], "Bearer "))
		headers[1] = "node-1"
		a := f.newAgent(t, f.dial(t), headers...)
		a.hello()
		answers = append(answers, a.wantEnd(codes.PermissionDenied))
	}
	f.stop()
	if strings.Count(log.String(), "stream refused") != len(secrets) {
		t.Fatalf("the log says:\n%s", log.String())
	}
	for _, secret := range secrets {
		if strings.Contains(log.String()+strings.Join(answers, ""), secret[len(secret)/2:]) {
			t.Errorf("a token is in the log or the answers:\n%s", log.String())
		}
	}
}

type writer func(p []byte) (int, error)

// Write implements io.Writer.
func (w writer) Write(p []byte) (int, error) { return w(p) }
