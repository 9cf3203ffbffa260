// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const llama = `{"kind": "Pod", "apiVersion": "v1",
	"metadata": {"name": "llama-70b-6c9f7d8b54-x2x7k", "namespace": "serving", "uid": "4b0e9d0a-3c1d-4f83-9a52-0b7a4c6d1e2f", "creationTimestamp": "2026-07-14T08:00:00Z",
		"labels": {"team": "assistants", "model": "llama-3.3-70b", "pod-template-hash": "6c9f7d8b54"},
		"ownerReferences": [{"apiVersion": "v1", "kind": "Other", "name": "not-this"}, {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "llama-70b-6c9f7d8b54", "controller": true}]},
	"spec": {"nodeName": "node-a"},
	"status": {"phase": "Running", "startTime": "2026-07-14T08:00:07Z",
		"initContainerStatuses": [{"name": "proxy", "containerID": "containerd://aa"}],
		"containerStatuses": [{"name": "vllm", "containerID": "containerd://bb"}, {"name": "waits"}]}}`

// apiServer is an API server of one pod, which knows one token.
type apiServer struct {
	*httptest.Server
	client *Client
	files  string // folder of the service account

	answer func(w http.ResponseWriter, r *http.Request)
}

func newAPIServer(t *testing.T) *apiServer {
	t.Helper()
	s := &apiServer{files: t.TempDir()}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") != "Bearer secret":
			w.WriteHeader(http.StatusUnauthorized)
		case s.answer != nil:
			s.answer(w, r)
		case r.URL.RequestURI() == "/api/v1/namespaces/serving/pods/llama-70b-6c9f7d8b54-x2x7k?resourceVersion=0":
			fmt.Fprint(w, llama)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(s.Close)
	s.write(t, "token", "secret\n")
	s.write(t, "ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	client, err := New(Config{APIServer: s.URL + "/", TokenFile: filepath.Join(s.files, "token"), CAFile: filepath.Join(s.files, "ca.crt")})
	if err != nil {
		t.Fatal(err)
	}
	s.client = client
	return s
}

func (s *apiServer) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.files, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestGet(t *testing.T) {
	s := newAPIServer(t)
	got, err := s.client.Get(t.Context(), "serving", "llama-70b-6c9f7d8b54-x2x7k")
	want := Pod{
		Namespace: "serving", Name: "llama-70b-6c9f7d8b54-x2x7k", UID: "4b0e9d0a-3c1d-4f83-9a52-0b7a4c6d1e2f",
		Started: time.Date(2026, 7, 14, 8, 0, 7, 0, time.UTC), Deployment: "llama-70b",
		Labels:     map[string]string{"team": "assistants", "model": "llama-3.3-70b", "pod-template-hash": "6c9f7d8b54"},
		Containers: map[string]string{"aa": "proxy", "bb": "vllm"},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v, (-want +got)\n%s", err, diff)
	}
	if _, err := s.client.Get(t.Context(), "serving", "other"); !errors.Is(err, ErrGone) {
		t.Errorf("a pod that is not there: %v", err)
	}
}

// Tokens are renewed every hour under the same name.
func TestGetReadsTheTokenAnew(t *testing.T) {
	s := newAPIServer(t)
	s.write(t, "token", "old")
	if _, err := s.client.Get(t.Context(), "serving", "llama-70b-6c9f7d8b54-x2x7k"); err == nil || !strings.Contains(err.Error(), "allow the agent's service account to get pods") {
		t.Errorf("an old token: %v", err)
	}
	s.write(t, "token", "secret")
	if _, err := s.client.Get(t.Context(), "serving", "llama-70b-6c9f7d8b54-x2x7k"); err != nil {
		t.Error(err)
	}
}

func TestGetRefuses(t *testing.T) {
	other := newAPIServer(t)
	other.answer = func(http.ResponseWriter, *http.Request) { t.Error("the token was sent elsewhere") }
	cases := map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request)
		want   string
	}{
		"another pod":     {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.ReplaceAll(llama, "serving", "x")) }, "not that pod"},
		"a status":        {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"kind": "Status"}`) }, "not that pod"},
		"no JSON":         {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, "invalid character"},
		"an endless body": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat(" ", maxBodyBytes+1)) }, "more than 2097152 bytes"},
		"a redirect":      {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) }, "302 Found"},
		"an error":        {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "500 Internal Server Error"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := newAPIServer(t)
			s.answer = c.answer
			_, err := s.client.Get(t.Context(), "serving", "llama-70b-6c9f7d8b54-x2x7k")
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "serving/llama") || strings.Contains(err.Error(), "secret") {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// A server that takes the request and never answers costs a bounded time.
func TestGetEndsWithItsContext(t *testing.T) {
	s := newAPIServer(t)
	s.answer = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.client.Get(ctx, "n", "p"); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// foreign is the certificate of an authority that signed nothing here.
const foreign = `-----BEGIN CERTIFICATE-----
MIIBezCCASGgAwIBAgIUa5qZ/IiNzHZjnRyZcGdx2Phc0YAwCgYIKoZIzj0EAwIw
EjEQMA4GA1UEAwwHZm9yZWlnbjAgFw0yNjExMjUyMzUzNDZaGA8yMTI2MTEwMTIz
NTM0NlowEjEQMA4GA1UEAwwHZm9yZWlnbjBZMBMGByqGSM49AgEGCCqGSM49AwEH
A0IABPXlX7oq2+RhUqzQ1Jhbab8iY9ZAUbpi6jSqnVnil7VEVdkZ78Tj84eU32fT
dKIYbqkqBOmAZopI8Q/Kd9nV2IWjUzBRMB0GA1UdDgQWBBSdmLNZRXHLrgAglu2t
nZUbge+1HDAfBgNVHSMEGDAWgBSdmLNZRXHLrgAglu2tnZUbge+1HDAPBgNVHRMB
Af8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIQDlOUN3osIPu+qg1Y0ghE0imNs+
xAHu7KzkfGjdLQYrRAIgGcnv/zL3r5yzxPZISujFBbj6gLMyUR/bagBxjyw00XY=
-----END CERTIFICATE-----
`

// The token goes to nobody who cannot prove to be the cluster's API server.
func TestGetTrustsTheClusterAlone(t *testing.T) {
	s := newAPIServer(t)
	s.answer = func(http.ResponseWriter, *http.Request) { t.Error("the token was sent to a stranger") }
	for text, want := range map[string]string{foreign: "certificate", "": "holds no certificate"} {
		s.write(t, "ca.crt", text)
		if _, err := s.client.Get(t.Context(), "n", "p"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("authority %.20q: %v", text, err)
		}
	}
	for _, address := range []string{"", "http://10.0.0.1:443", "10.0.0.1:443", "https://", "https://%"} {
		if _, err := New(Config{APIServer: address}); err == nil {
			t.Errorf("address %q was taken", address)
		}
	}
}

func TestDeployment(t *testing.T) {
	controller := func(kind, name string) []owner { return []owner{{Kind: kind, Name: name, Controller: true}} }
	cases := []struct {
		metadata metadata
		want     string
	}{
		{metadata{}, ""},
		{metadata{Owners: controller("StatefulSet", "db")}, "db"},
		{metadata{Owners: controller("ReplicaSet", "a-b-12"), Labels: map[string]string{templateHash: "12"}}, "a-b"},
		{metadata{Owners: controller("ReplicaSet", "bare")}, "bare"},
		{metadata{Owners: controller("Node", "node-a")}, ""},
		{metadata{Owners: []owner{{Kind: "Job", Name: "x"}}}, ""},
		{metadata{Owners: controller("StatefulSet", "llama-0"), Labels: map[string]string{"leaderworkerset.sigs.k8s.io/name": "llama"}}, "llama"},
	}
	for _, c := range cases {
		if got := c.metadata.deployment(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.metadata, got, c.want)
		}
	}
}

// FuzzParse: an answer is refused, or is that pod.
func FuzzParse(f *testing.F) {
	f.Add([]byte(llama))
	f.Add([]byte(`{"kind": "Pod", "metadata": null, "status": {"startTime": null}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		pod, err := parse(body, "serving", "llama-70b-6c9f7d8b54-x2x7k")
		if err == nil && (pod.Namespace != "serving" || pod.Name != "llama-70b-6c9f7d8b54-x2x7k" || pod.UID == "") {
			t.Errorf("%+v", pod)
		}
		if err != nil && pod.UID != "" {
			t.Errorf("%+v with %v", pod, err)
		}
	})
}
