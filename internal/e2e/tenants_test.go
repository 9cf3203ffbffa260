// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/collector/trust"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/internal/ops"
	"github.com/gpufleet/gpufleet/internal/token"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/readers"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// authority issues certificates into files of a folder.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, dir: t.TempDir(), key: key}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.write("ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

func (a *authority) ca() string { return filepath.Join(a.dir, "ca.pem") }

// issue makes a certificate and its key.
func (a *authority) issue(name, spiffe string) (cert, key string) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if spiffe != "" {
		id, err := url.Parse(spiffe)
		if err != nil {
			a.t.Fatal(err)
		}
		template.URIs = []*url.URL{id}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(name+".pem", "CERTIFICATE", der), a.write(name+".key", "PRIVATE KEY", encoded)
}

// readable starts a ClickHouse in which a reader sees one tenant.
func readable(t *testing.T, tenant string) (server *embedded.Server, reader embedded.Endpoint) {
	t.Helper()
	dir := t.TempDir()
	hash := sha256.Sum256([]byte("password"))
	text, err := readers.XML(embedded.Database, readers.Reader{Name: "grafana", PasswordSHA256: hex.EncodeToString(hash[:]), Tenants: []string{tenant}, Limits: readers.DefaultLimits()})
	if err != nil {
		t.Fatal(err)
	}
	users := filepath.Join(dir, "config", "users.d")
	if err := os.MkdirAll(users, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(users, "grafana.xml"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if server, err = embedded.Start(t.Context(), embedded.Config{Dir: dir, MemoryLimitBytes: 1 << 30, Threads: 2}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	reader = server.Reader()
	reader.User, reader.Password = "grafana", "password"
	return server, reader
}

// TestTenants has agents of two tenants and zones send over TLS. What they proved is on each row, a zone that may not be
// stored is not, its agent keeps it, and stores it once where it may be; a reader sees its tenant.
func TestTenants(t *testing.T) {
	server, reader := readable(t, "acme")
	db := server.Writer()
	ours, key := newAuthority(t), token.NewKey()
	keys := filepath.Join(t.TempDir(), "fleet.key")
	if err := token.WriteKey(keys, key); err != nil {
		t.Fatal(err)
	}
	serverCert, serverKey := ours.issue("collector", "")
	collect := func(listen string, zones ...string) (address string, stop func()) {
		cfg := collectorConfig(t, db)
		cfg.Listen = listen
		var err error
		if cfg.TLS, err = (ops.TLSFiles{Cert: serverCert, Key: serverKey, ClientCA: ours.ca()}).Server(); err != nil {
			t.Fatal(err)
		}
		if cfg.Trust, err = trust.Open(trust.Files{FleetKeys: keys, ClientCA: ours.ca()}, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		cfg.Admits.Residencies = zones
		return startCollector(t, cfg)
	}
	address, stop := collect("127.0.0.1:0", "eu")
	scopes := []wire.Scope{{Tenant: "acme", Residency: "eu"}, {Tenant: "globex", Residency: "eu"}, {Tenant: "acme", Residency: "us"}}
	var names []string
	f := startFleet(t, fleetConfig{
		nodes: 3, gpus: 2, seed: 4, collector: address, interval: 200 * time.Millisecond, flush: 400 * time.Millisecond,
		change: func(c *agent.Config) {
			scope := scopes[len(names)]
			names = append(names, c.Node.Name)
			spiffe := ""
			if scope.Tenant == "acme" { // by the certificate; globex by its token
				spiffe = fmt.Sprintf("spiffe://fleet.example/tenant/%s/residency/%s/node/%s", scope.Tenant, scope.Residency, c.Node.Name)
				c.Scope = scope
			}
			cert, certKey := ours.issue(c.Node.Name, spiffe)
			var err error
			if c.TLS, err = (ops.ClientTLSFiles{CA: ours.ca(), Cert: cert, Key: certKey}).Client(); err != nil {
				t.Fatal(err)
			}
			c.TLS.ServerName = "127.0.0.1"
			if c.Token, err = key.Token(c.Node.Name, token.Claims{Scope: wire.Scope{Tenant: "globex", Residency: "eu"}}); err != nil {
				t.Fatal(err)
			}
			if scope.Tenant == "acme" {
				c.Token = key.For(c.Node.Name)
			}
		},
	})
	f.await("batches of two agents", func(agent.Stats) bool {
		return f.agents[0].Stats().BatchesStored > 20 && f.agents[1].Stats().BatchesStored > 20 && f.agents[2].Stats().Rows > 20
	})
	foreign := wire.NodeID(names[2])
	for _, table := range schema.Tables() {
		if rows := clickhousetest.Query(t, db, fmt.Sprintf("SELECT count() FROM %s WHERE node_id = %d OR residency != 'eu'", table.Name, foreign)); rows != "0" {
			t.Errorf("%s has %s rows of another zone", table.Name, rows)
		}
	}
	if s := f.agents[2].Stats(); s.BatchesStored+s.BatchesRejected != 0 || s.BatchesDropped != 0 {
		t.Errorf("the refused agent: %+v", s)
	}
	stop()
	_, stopMore := collect(address, "eu", "us")
	f.await("batches of the third", func(agent.Stats) bool { return f.agents[2].Stats().BatchesStored > 5 })
	f.wantExactlyOnce(server.Reader())
	for _, table := range schema.Tables() {
		for i, name := range names {
			want := fmt.Sprintf("%s %s", scopes[i].Tenant, scopes[i].Residency)
			got := clickhousetest.Query(t, db, fmt.Sprintf("SELECT DISTINCT concat(tenant, ' ', residency) FROM %s WHERE node_id = %d", table.Name, wire.NodeID(name)))
			if got != want && got != "" {
				t.Errorf("%s: rows of %s are of %q, want %q", table.Name, name, got, want)
			}
		}
	}
	seen := strings.Fields(clickhousetest.Query(t, reader, "SELECT node_name FROM fleet_nodes ORDER BY node_name"))
	if want := slices.Sorted(slices.Values([]string{names[0], names[2]})); !slices.Equal(seen, want) {
		t.Errorf("the reader sees nodes %v, want %v", seen, want)
	}
	stopMore()
}
