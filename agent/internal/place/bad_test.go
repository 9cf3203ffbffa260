// SPDX-License-Identifier: Apache-2.0

package place

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// nobody is a machine without a metadata service.
type nobody struct{}

func (nobody) ServeHTTP(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }

// TestAnotherCloudsAnswerIsNoIdentity has each probe alone ask each other provider's service.
func TestAnotherCloudsAnswerIsNoIdentity(t *testing.T) {
	providers := []string{AWS, Azure, GCP, OCI, Nebius}
	for _, asks := range providers {
		for _, answers := range providers {
			if asks == answers {
				continue
			}
			t.Run(asks+" asks "+answers, func(t *testing.T) {
				cloud := newCloud(t, answers)
				p, reasons := Probe(t.Context(), Config{Known: Place{}, Endpoints: map[string]string{asks: serve(t, cloud)}, DMI: hintOf(t, asks)})
				if p.Region != "" || p.InstanceName != "" || p.AccountID != "" {
					t.Errorf("took %+v for an identity", p)
				}
				wantReason(t, reasons, asks, "")
			})
		}
	}
}

// hintOf has one provider be asked alone. Nebius has no tables that are known; it is asked with the others, which
// find nobody.
func hintOf(t *testing.T, provider string) string {
	t.Helper()
	return firmware(t, tablesOf(provider))
}

// TestAnswersThatAreNoIdentity has every path of a service say the same.
func TestAnswersThatAreNoIdentity(t *testing.T) {
	foreign := newCloud(t, AWS).answers[awsDocument]
	tests := []struct {
		name, reason string
		say          http.HandlerFunc
	}{
		{"garbage", "", says("\x00\xff\xfe{[")},
		{"nothing", "", says("")},
		{"null", "", says("null")},
		{"a list", "", says("[]")},
		{"an empty object", "", says("{}")},
		{"a number", "", says("7")},
		{"a portal's page", "", says("<html><title>Log in</title></html>")},
		{"another cloud's document with all the right headers", "", says(foreign)},
		{"an answer without an end", "more than 1048576 bytes", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}},
		{"a redirect to another host", "redirects to another host are not followed", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
		}},
		{"a redirect in a circle", "302 Found", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		}},
		{"401", "401 Unauthorized", code(http.StatusUnauthorized)},
		{"403", "403 Forbidden", code(http.StatusForbidden)},
		{"500", "500 Internal Server Error", code(http.StatusInternalServerError)},
		{"400 to all versions", "400 Bad Request", code(http.StatusBadRequest)},
	}
	for _, tt := range tests {
		for _, provider := range []string{AWS, Azure, GCP, OCI, Nebius} {
			if tt.name[:3] == "ano" && provider == AWS {
				continue
			}
			t.Run(provider+" says "+tt.name, func(t *testing.T) {
				server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Metadata-Flavor", "Google")
					w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "60")
					tt.say(w, r)
				}))
				p, reasons := Probe(t.Context(), Config{Endpoints: map[string]string{provider: server}, DMI: hintOf(t, provider)})
				if p.Region != "" || p.AccountID != "" {
					t.Errorf("took %+v for an identity", p)
				}
				wantReason(t, reasons, provider, tt.reason)
			})
		}
	}
}

func says(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }
}

func code(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

// TestAServiceThatIsShut still leaves what the firmware says.
func TestAServiceThatIsShut(t *testing.T) {
	cloud := newCloud(t, AWS)
	cloud.off = true
	p, reasons := Probe(t.Context(), Config{Endpoints: everywhere(serve(t, cloud)), DMI: firmware(t, tablesOf(AWS))})
	if p.Provider != AWS || p.InstanceType != "p5.48xlarge" || p.InstanceID != "i-0a1b2c3d4e5f60718" || p.Sources["instance_id"] != FromDMI {
		t.Errorf("%+v", p)
	}
	wantReason(t, reasons, AWS, "switched off")
}

// TestSomeAnswersAreMissing: one key that fails costs that value alone, and is told.
func TestSomeAnswersAreMissing(t *testing.T) {
	tests := []struct {
		provider, path string
		status         int
		gone, reason   string
	}{
		{AWS, awsZoneID, 500, "zone_id", "availability-zone-id: 500"},
		{AWS, awsZoneID, 404, "zone_id", ""},
		{AWS, awsLifeCycle, 404, "life_cycle", ""},
		{GCP, gcpType, 404, "instance_type", "hides it from pods"},
		{GCP, gcpTopology, 404, "topology_tier_0", ""},
		{OCI, ociHost, 503, "topology_tier_0", "/opc/v2/host/: 503"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s %s %d", tt.provider, tt.path, tt.status), func(t *testing.T) {
			cloud := newCloud(t, tt.provider)
			cloud.fail(tt.path, tt.status)
			p, reasons := Probe(t.Context(), Config{Endpoints: everywhere(serve(t, cloud)), DMI: firmware(t, tablesOf(tt.provider))})
			if p.Facts()[tt.gone] != "" || p.Region == "" {
				t.Errorf("%s is %q, the region %q", tt.gone, p.Facts()[tt.gone], p.Region)
			}
			if tt.reason != "" {
				wantReason(t, reasons, tt.provider, tt.reason)
			} else if len(reasons) != 1 { // that of Kubernetes
				t.Errorf("a key that does not exist is no reason: %q", reasons)
			}
		})
	}
}

// TestValuesThatNobodyWouldGive are left out, and the rest is kept.
func TestValuesThatNobodyWouldGive(t *testing.T) {
	for name, value := range map[string]string{
		"a page": "<b>group</b>", "two lines": "a\nb", "too long": strings.Repeat("x", maxValueBytes+1), "no text": "\xff\xfe", "a bell": "a\ab",
	} {
		t.Run(name, func(t *testing.T) {
			cloud := newCloud(t, AWS)
			cloud.say(awsGroup, value)
			p, reasons := Probe(t.Context(), Config{Endpoints: everywhere(serve(t, cloud)), DMI: firmware(t, tablesOf(AWS))})
			if p.PlacementGroup != "" || p.ZoneID != "use1-az6" {
				t.Errorf("group %q, zone %q", p.PlacementGroup, p.ZoneID)
			}
			wantReason(t, reasons, AWS, "placement_group")
		})
	}
}

// TestALifeCycleThatIsNew is not guessed.
func TestALifeCycleThatIsNew(t *testing.T) {
	cloud := newCloud(t, AWS)
	cloud.say(awsLifeCycle, "lunar")
	p, reasons := Probe(t.Context(), Config{Endpoints: everywhere(serve(t, cloud)), DMI: firmware(t, tablesOf(AWS))})
	if p.LifeCycle != "" {
		t.Errorf("life cycle %q", p.LifeCycle)
	}
	wantReason(t, reasons, AWS, "lunar")
}

// TestAzureThatLagsBehind is asked for an older version.
func TestAzureThatLagsBehind(t *testing.T) {
	cloud := newCloud(t, Azure)
	cloud.fail("newest version", 1)
	p, _ := Probe(t.Context(), Config{Endpoints: everywhere(serve(t, cloud)), DMI: firmware(t, tablesOf(Azure))})
	if p.InstanceType != "Standard_ND96isr_H100_v5" {
		t.Errorf("%+v", p)
	}
}

// TestNobodyIsBeyondTheLink: an address that is neither this machine nor the link is not dialled.
func TestNobodyIsBeyondTheLink(t *testing.T) {
	_, reasons := Probe(t.Context(), Config{Endpoints: everywhere("http://192.0.2.1"), DMI: firmware(t, tablesOf(AWS))})
	wantReason(t, reasons, AWS, "link-local")
}

// TestNoProxy: a proxy would answer for another machine.
func TestNoProxy(t *testing.T) {
	transport, ok := newClient(dialNearby, nil).Transport.(*http.Transport)
	if !ok || transport.Proxy != nil {
		t.Error("the client may use a proxy")
	}
}

// TestWhyKubernetesDoesNotAnswer has each mistake of a set-up named.
func TestWhyKubernetesDoesNotAnswer(t *testing.T) {
	whole := newCluster(t, "lambda")
	with := func(change func(*Kubernetes)) Kubernetes {
		k := whole
		change(&k)
		return k
	}
	file := func(text string) string {
		name := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	stranger := httptest.NewTLSServer(nobody{})
	defer stranger.Close()
	tests := []struct {
		name, reason string
		k            Kubernetes
	}{
		{"no cluster", "this is no pod", Kubernetes{}},
		{"no name", "set NODE_NAME", with(func(k *Kubernetes) { k.Node = "" })},
		{"no token", "read the service account's token", with(func(k *Kubernetes) { k.TokenFile += ".gone" })},
		{"a wrong token", "allow the agent's service account to get nodes", with(func(k *Kubernetes) { k.TokenFile = file("wrong") })},
		{"no authority", "read the API server's authority", with(func(k *Kubernetes) { k.CAFile += ".gone" })},
		{"an authority of nothing", "holds no certificate", with(func(k *Kubernetes) { k.CAFile = file("hello") })},
		{"another node", "is NODE_NAME right?", with(func(k *Kubernetes) { k.Node = "worker-4" })},
		{"nobody there", "connection refused", with(func(k *Kubernetes) { k.APIServer = "https://127.0.0.1:1" })},
		{"another server", "is NODE_NAME right?", with(func(k *Kubernetes) { k.APIServer = stranger.URL })},
		{"not a node", "is not the node node-1", clusterOf(t, fakeNode, apiServer(fakeNode, func() string { return `{"kind":"Pod"}` }))},
		{"garbage", "is not the node node-1", clusterOf(t, fakeNode, apiServer(fakeNode, func() string { return "\x00" }))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, reasons := Probe(t.Context(), Config{Known: Place{Provider: "own"}, Kubernetes: tt.k, DMI: t.TempDir(), Cap: 5 * time.Second})
			wantReason(t, reasons, FromKubernetes, tt.reason)
			if p.KubernetesNode != "" {
				t.Errorf("node %q", p.KubernetesNode)
			}
			for _, r := range reasons {
				if strings.Contains(r.Text, fakeToken) {
					t.Errorf("a reason has the token in it: %s", r.Text)
				}
			}
		})
	}
}

// TestAStrangersCertificateIsRefused: the token is only shown to the cluster's own API server.
func TestAStrangersCertificateIsRefused(t *testing.T) {
	shown := false
	k := clusterOf(t, fakeNode, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { shown = true }))
	if err := os.WriteFile(k.CAFile, anotherAuthority(t), 0o600); err != nil {
		t.Fatal(err)
	}
	_, reasons := Probe(t.Context(), Config{Known: Place{Provider: "own"}, Kubernetes: k, DMI: t.TempDir(), Cap: 5 * time.Second})
	wantReason(t, reasons, FromKubernetes, "certificate")
	if shown {
		t.Error("a stranger was shown the token")
	}
}

func anotherAuthority(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	raw, err := x509.CreateCertificate(rand.Reader, about, about, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
}

// TestInCluster reads a pod's environment.
func TestInCluster(t *testing.T) {
	environment := map[string]string{"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443", "NODE_NAME": "n"}
	k := InCluster(func(name string) string { return environment[name] })
	if k.APIServer != "https://[fd00::1]:443" || k.Node != "n" || k.TokenFile == "" || k.CAFile == "" {
		t.Errorf("%+v", k)
	}
	if k := InCluster(func(string) string { return "" }); k.APIServer != "" {
		t.Errorf("outside a cluster: %+v", k)
	}
}
