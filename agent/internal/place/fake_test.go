// SPDX-License-Identifier: Apache-2.0

package place

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// fakeCloud speaks a provider's protocol: methods, headers, versions, tokens, status codes. What it says was
// recorded in testdata/answers.
type fakeCloud struct {
	provider string

	mu      sync.Mutex
	answers map[string]string // by path
	codes   map[string]int    // of paths that fail
	asked   []string          // method, path and query of each request that was let in
	tokens  map[string]bool   // that are taken
	issued  int
	off     bool // the service is switched off
}

// newCloud loads what was recorded of a provider.
func newCloud(t testing.TB, provider string) *fakeCloud {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "answers", provider+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	c := &fakeCloud{provider: provider, answers: make(map[string]string), codes: make(map[string]int), tokens: make(map[string]bool)}
	path := ""
	for line := range strings.Lines(string(text)) {
		if title, ok := strings.CutPrefix(line, "-- "); ok {
			path = strings.TrimSuffix(strings.TrimSpace(title), " --")
			continue
		}
		if path != "" {
			c.answers[path] += line
		}
	}
	for path, body := range c.answers {
		c.answers[path] = strings.TrimSuffix(body, "\n")
	}
	return c
}

// say changes an answer; "" removes it.
func (c *fakeCloud) say(path, body string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.answers, path)
	if body != "" {
		c.answers[path] = body
	}
}

// fail has a path answer with a code; 0 mends it.
func (c *fakeCloud) fail(path string, code int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.codes, path)
	if code != 0 {
		c.codes[path] = code
	}
}

// revoke makes all tokens invalid, as a restart of the service does.
func (c *fakeCloud) revoke() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.tokens)
}

// ServeHTTP implements http.Handler.
func (c *fakeCloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	doors := map[string]func(http.ResponseWriter, *http.Request) bool{
		AWS: c.awsDoor, Azure: c.azureDoor, GCP: c.gcpDoor, OCI: c.ociDoor, Nebius: c.nebiusDoor,
	}
	if !doors[c.provider](w, r) {
		return
	}
	c.asked = append(c.asked, r.Method+" "+r.URL.RequestURI())
	if code := c.codes[r.URL.Path]; code != 0 {
		http.Error(w, "as the test wants", code)
		return
	}
	body, ok := c.answers[r.URL.Path]
	if !ok {
		http.Error(w, "<html><body>404 - Not Found</body></html>", http.StatusNotFound)
		return
	}
	fmt.Fprint(w, body)
}

// forwarded: all clouds turn away what came through a proxy.
func forwarded(r *http.Request) bool {
	return r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("Forwarded") != ""
}

func (c *fakeCloud) awsDoor(w http.ResponseWriter, r *http.Request) bool {
	switch {
	case c.off, forwarded(r):
		http.Error(w, "Forbidden", http.StatusForbidden)
	case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token":
		ttl := r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds")
		if n, err := strconv.Atoi(ttl); err != nil || n < 1 || n > 21600 {
			http.Error(w, "Bad Request", http.StatusBadRequest)
			return false
		}
		c.issued++
		token := fmt.Sprintf("AQAEAexampletoken%d==", c.issued)
		c.tokens[token] = true
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", ttl)
		fmt.Fprint(w, token)
	case r.Method != http.MethodGet:
		http.Error(w, "Not allowed", http.StatusMethodNotAllowed)
	case !c.tokens[r.Header.Get("X-aws-ec2-metadata-token")]:
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
	default:
		return true
	}
	return false
}

func (c *fakeCloud) azureDoor(w http.ResponseWriter, r *http.Request) bool {
	version := r.URL.Query().Get("api-version")
	known := map[string][]string{
		"/metadata/instance":        {"2023-11-15", "2021-12-13", "2019-06-01"},
		"/metadata/scheduledevents": {"2020-07-01", "2019-08-01"},
	}[r.URL.Path]
	if c.codes["newest version"] != 0 && len(known) > 0 {
		known = known[1:] // a cloud that lags behind
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	switch {
	case r.Header.Get("Metadata") != "true" || forwarded(r):
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error": "Bad request. Required metadata header not specified"}`)
	case known != nil && !slices.Contains(known, version):
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error": "Bad request. api-version is invalid or was not specified in the request.","newest-versions": ["2021-12-13"]}`)
	case r.Method != http.MethodGet:
		w.WriteHeader(http.StatusMethodNotAllowed)
	default:
		return true
	}
	return false
}

func (c *fakeCloud) gcpDoor(w http.ResponseWriter, r *http.Request) bool {
	w.Header().Set("Metadata-Flavor", "Google")
	w.Header().Set("Server", "Metadata Server for VM")
	if r.Header.Get("Metadata-Flavor") != "Google" || forwarded(r) || r.Host != "metadata.google.internal" {
		http.Error(w, "<html>403 Forbidden: Missing Metadata-Flavor:Google header.</html>", http.StatusForbidden)
		return false
	}
	return true
}

func (c *fakeCloud) ociDoor(w http.ResponseWriter, r *http.Request) bool {
	if r.Header.Get("Authorization") != "Bearer Oracle" || forwarded(r) {
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
		return false
	}
	if r.URL.Path == "/opc/v2/host" { // the one redirect that is followed: to the same host
		http.Redirect(w, r, "/opc/v2/host/", http.StatusMovedPermanently)
		return false
	}
	return true
}

func (c *fakeCloud) nebiusDoor(w http.ResponseWriter, r *http.Request) bool {
	switch {
	case r.Method != http.MethodGet:
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	case r.Header.Get("Metadata") != "true" || r.Host != "metadata.nebius.internal":
		http.Error(w, "Bad Request", http.StatusBadRequest)
	default:
		return true
	}
	return false
}

// serve runs a handler on loopback.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

// everywhere has all metadata services at one address, as on a real machine.
func everywhere(url string) map[string]string {
	return map[string]string{AWS: url, Azure: url, GCP: url, OCI: url, Nebius: url}
}

const (
	fakeToken = "eyJhbGciOiJSUzI1NiJ9.example"
	fakeNode  = "node-1"
)

// newCluster is an API server that has one node, whose object is in testdata/answers, or is the text itself.
func newCluster(t *testing.T, object string) Kubernetes {
	t.Helper()
	if !strings.HasPrefix(object, "{") {
		text, err := os.ReadFile(filepath.Join("testdata", "answers", object+".json"))
		if err != nil {
			t.Fatal(err)
		}
		object = string(text)
	}
	var n node
	if err := json.Unmarshal([]byte(object), &n); err != nil {
		t.Fatal(err)
	}
	return clusterOf(t, n.Metadata.Name, apiServer(n.Metadata.Name, func() string { return object }))
}

// apiServer answers as Kubernetes does.
func apiServer(name string, object func() string) http.Handler {
	refuse := func(w http.ResponseWriter, code int, why string) {
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":%q,"code":%d}`, why, code)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.Header.Get("Authorization") != "Bearer "+fakeToken:
			refuse(w, http.StatusUnauthorized, "Unauthorized")
		case r.Method != http.MethodGet || !strings.HasPrefix(r.URL.Path, "/api/v1/nodes/") || r.URL.Query().Get("resourceVersion") != "0":
			refuse(w, http.StatusForbidden, "cannot list resource nodes")
		case r.URL.Path != "/api/v1/nodes/"+name:
			refuse(w, http.StatusNotFound, "nodes not found")
		default:
			fmt.Fprint(w, object())
		}
	})
}

// clusterOf runs an API server with TLS, and writes the files of a service account.
func clusterOf(t *testing.T, node string, h http.Handler) Kubernetes {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // who does not trust it says so
	server.StartTLS()
	t.Cleanup(server.Close)
	dir := t.TempDir()
	k := Kubernetes{APIServer: server.URL, Node: node, TokenFile: filepath.Join(dir, "token"), CAFile: filepath.Join(dir, "ca.crt")}
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	for file, text := range map[string]string{k.TokenFile: fakeToken + "\n", k.CAFile: string(authority)} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

// firmware writes the tables of a machine.
func firmware(t *testing.T, tables map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range tables {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// tablesOf is what the firmware of a provider's machines says.
func tablesOf(provider string) map[string]string {
	return map[string]map[string]string{
		AWS:   {"sys_vendor": "Amazon EC2", "product_name": "p5.48xlarge", "board_asset_tag": "i-0a1b2c3d4e5f60718"},
		Azure: {"sys_vendor": "Microsoft Corporation", "product_name": "Virtual Machine", "chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77"},
		GCP:   {"sys_vendor": "Google", "product_name": "Google Compute Engine"},
		OCI:   {"sys_vendor": "Oracle Corporation", "chassis_asset_tag": "OracleCloud.com"},
	}[provider]
}
