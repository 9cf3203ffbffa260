// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParseCertificate(t *testing.T) {
	all := wire.Scope{Tenant: "acme", Residency: "eu"}
	for name, c := range map[string]struct {
		ids   []string
		units []string
		names []string
		scope wire.Scope
		fails string
	}{
		"names alone":            {names: []string{"node-1", "common"}},
		"SPIFFE":                 {ids: []string{"spiffe://x/tenant/acme/residency/eu/node/node-2"}, names: []string{"node-2"}, scope: all},
		"in another order":       {ids: []string{"spiffe://x/node/node-2/residency/eu/tenant/acme"}, names: []string{"node-2"}, scope: all},
		"of Kubernetes":          {ids: []string{"spiffe://x/ns/default/sa/agent"}, names: []string{"node-1", "common"}},
		"no path":                {ids: []string{"spiffe://x"}, names: []string{"node-1", "common"}},
		"units":                  {units: []string{"gpus", "tenant=acme", "residency=eu"}, names: []string{"node-1", "common"}, scope: all},
		"both agree":             {ids: []string{"spiffe://x/tenant/acme"}, units: []string{"tenant=acme", "residency=eu"}, names: []string{"node-1", "common"}, scope: all},
		"of no SPIFFE":           {ids: []string{"https://x/tenant/acme/node/node-2"}, names: []string{"node-1", "common"}},
		"units contradict":       {units: []string{"tenant=acme", "tenant=globex"}, fails: "it says tenant="},
		"both contradict":        {ids: []string{"spiffe://x/tenant/acme"}, units: []string{"tenant=globex"}, fails: "it says tenant="},
		"two ids":                {ids: []string{"spiffe://x/tenant/acme", "spiffe://x/tenant/globex"}, fails: "two SPIFFE IDs"},
		"two tenants":            {ids: []string{"spiffe://x/tenant/acme/tenant/globex"}, fails: "two of tenant"},
		"two nodes":              {ids: []string{"spiffe://x/node/a/node/b"}, fails: "two of node"},
		"hidden by an empty one": {ids: []string{"spiffe://x//tenant/acme"}, fails: "empty part"},
		"an empty name":          {ids: []string{"spiffe://x/tenant//residency/eu"}, fails: "empty part"},
		"hidden by an escape":    {ids: []string{"spiffe://x/%74enant/acme"}, fails: "escape"},
		"after one part":         {ids: []string{"spiffe://x/prod/tenant/acme/node/node-2"}, fails: "tenant stands where a value does"},
		"without a name":         {ids: []string{"spiffe://x/tenant/acme/node"}, fails: "node stands where"},
		"as a name":              {ids: []string{"spiffe://x/tenant/residency"}, fails: "residency stands where"},
		"a quote":                {units: []string{"tenant=a' OR 1"}, fails: "lower-case"},
		"a node that is none":    {ids: []string{"spiffe://x/node/" + strings.Repeat("n", 300)}, fails: "node"},
	} {
		t.Run(name, func(t *testing.T) {
			cert := &x509.Certificate{DNSNames: []string{"node-1"}, Subject: pkix.Name{CommonName: "common", OrganizationalUnit: c.units}}
			for _, id := range c.ids {
				u := &url.URL{Scheme: "spiffe", Host: "x"}
				parsed, err := url.Parse(id)
				if err != nil {
					t.Fatal(err)
				}
				*u = *parsed
				cert.URIs = append(cert.URIs, u)
			}
			got, err := ParseCertificate(cert)
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("error %v, want %q", err, c.fails)
				}
				return
			}
			if err != nil || !slices.Equal(got.Names, c.names) || got.Scope != c.scope {
				t.Errorf("%+v, %v, want %v of %+v", got, err, c.names, c.scope)
			}
		})
	}
}

func TestJoin(t *testing.T) {
	for _, c := range []struct{ certified, claimed, want wire.Scope }{
		{wire.Scope{Tenant: "acme"}, wire.Scope{Residency: "eu"}, wire.Scope{Tenant: "acme", Residency: "eu"}},
		{wire.Scope{Tenant: "acme"}, wire.Scope{Tenant: "acme"}, wire.Scope{Tenant: "acme"}},
		{wire.Scope{}, wire.Scope{}, wire.Scope{}},
	} {
		if got, err := Join(c.certified, c.claimed); err != nil || got != c.want {
			t.Errorf("Join(%+v, %+v) = %+v, %v", c.certified, c.claimed, got, err)
		}
	}
	for _, c := range []struct{ certified, claimed wire.Scope }{
		{wire.Scope{Tenant: "acme"}, wire.Scope{Tenant: "globex"}}, {wire.Scope{Residency: "eu"}, wire.Scope{Residency: "us"}},
	} {
		if got, err := Join(c.certified, c.claimed); err == nil || got != (wire.Scope{}) {
			t.Errorf("Join(%+v, %+v) = %+v, %v", c.certified, c.claimed, got, err)
		}
	}
}

// FuzzParseSPIFFE: whatever a path says, what is read of it can be what it should be, and what is named is read or refused.
func FuzzParseSPIFFE(f *testing.F) {
	f.Add("/tenant/acme/residency/eu/node/node-1")
	f.Add("/ns/default/sa/agent")
	f.Add("//node//")
	f.Add("/%74enant/acme")
	f.Add("/prod/tenant/acme/node/node-1")
	f.Add("/tenant/acme/node")
	f.Fuzz(func(t *testing.T, path string) {
		node, scope, err := parseSPIFFE(path)
		if err != nil {
			return
		}
		if err := scope.Check(); err != nil {
			t.Fatal(err)
		}
		if node != "" && wire.CheckNodeName(node) != nil {
			t.Fatalf("node %q", node)
		}
		if s := scope.Tenant; s != "" && !strings.Contains(path, "tenant/"+s) {
			t.Fatalf("tenant %q of %q", s, path)
		}
		for key, got := range map[string]string{"tenant": scope.Tenant, "residency": scope.Residency, "node": node} {
			if _, rest, named := strings.Cut(path+"/", "/"+key+"/"); named && (got == "" || !strings.HasPrefix(rest, got+"/")) {
				t.Fatalf("%s %q of %q", key, got, path)
			}
		}
	})
}
