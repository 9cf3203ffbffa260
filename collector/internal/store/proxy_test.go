// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// fault is what a proxy does to a request.
type fault func(p *proxy, w http.ResponseWriter, r *http.Request, body []byte)

// proxy stands between a store and ClickHouse and does to requests what networks, balancers and dying servers do.
type proxy struct {
	address string
	target  string // ClickHouse
	close   func()

	mu      sync.Mutex // guards the fields below
	choose  func(r *http.Request, body []byte) fault
	counts  map[string]int // requests, by what they are
	seen    chan struct{}  // closed and renewed at each request
	release chan struct{}  // closed at the end: nothing hangs any more
}

// newProxy starts a proxy to the ClickHouse at an address.
func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	p := &proxy{target: target, counts: map[string]int{}, seen: make(chan struct{}), release: make(chan struct{})}
	server := httptest.NewServer(p)
	p.address = strings.TrimPrefix(server.URL, "http://")
	p.close = sync.OnceFunc(func() {
		close(p.release)
		server.CloseClientConnections()
		server.Close()
	})
	t.Cleanup(p.close)
	return p
}

// set has the proxy do as a function says from now on; nil passes everything on.
func (p *proxy) set(choose func(r *http.Request, body []byte) fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.choose = choose
}

// What requests are.
const (
	toLedger = "insert into the ledger"
	toTable  = "insert into a table"
	toClaims = "insert into the collectors or their claims"
	asking   = "question"
	killing  = "end of a query"
)

func kindOf(r *http.Request, body []byte) string {
	query := r.URL.Query().Get("query")
	query = query[:min(len(query), 200)] + string(body[:min(len(body), 200)]) // its condition names the claims
	switch {
	case strings.Contains(query, "KILL QUERY"):
		return killing
	case strings.Contains(query, "INSERT INTO") && (strings.Contains(query, ".`collector_claims`") || strings.Contains(query, ".`collectors`")):
		return toClaims
	case strings.Contains(query, "INSERT INTO") && strings.Contains(query, "ingest_ledger"):
		return toLedger
	case strings.Contains(query, "INSERT INTO"):
		return toTable
	default:
		return asking
	}
}

// first does a fault to the first requests of a kind, and returns what tells how often that was.
func (p *proxy) first(count int, kind string, f fault) func() int {
	done := 0
	p.set(func(r *http.Request, body []byte) fault {
		if kindOf(r, body) != kind || done == count {
			return pass
		}
		done++
		return f
	})
	return func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return done
	}
}

// ServeHTTP implements http.Handler.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	p.mu.Lock()
	do := pass
	if p.choose != nil {
		do = p.choose(r, body)
	}
	p.counts[kindOf(r, body)]++
	close(p.seen)
	p.seen = make(chan struct{})
	p.mu.Unlock()
	do(p, w, r, body)
}

func (p *proxy) count(kind string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts[kind]
}

// await waits until so many requests of a kind have come.
func (p *proxy) await(t *testing.T, kind string, count int) {
	t.Helper()
	p.awaitThat(t, fmt.Sprintf("%d requests of kind %q", count, kind), func() bool { return p.counts[kind] >= count })
}

// awaitThat waits for requests to bring something about.
func (p *proxy) awaitThat(t *testing.T, what string, ok func() bool) {
	t.Helper()
	timeout := time.NewTimer(limitless)
	defer timeout.Stop()
	for {
		p.mu.Lock()
		done, seen := ok(), p.seen
		p.mu.Unlock()
		if done {
			return
		}
		select {
		case <-seen:
		case <-timeout.C:
			t.Fatalf("%s did not come", what)
		}
	}
}

// ask hands the request on.
func (p *proxy) ask(r *http.Request, body io.Reader) (*said, error) {
	next, err := http.NewRequestWithContext(context.WithoutCancel(r.Context()), r.Method, "http://"+p.target+r.URL.RequestURI(), body)
	if err != nil {
		return nil, err
	}
	next.Header = r.Header.Clone()
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(next)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return &said{response.StatusCode, response.Header, text}, err
}

// said is what ClickHouse answered.
type said struct {
	status int
	header http.Header
	body   []byte
}

// pass hands request and answer on.
func pass(p *proxy, w http.ResponseWriter, r *http.Request, body []byte) {
	got, err := p.ask(r, bytes.NewReader(body))
	if err != nil {
		hangUp(w)
		return
	}
	reply(w, got)
}

func reply(w http.ResponseWriter, got *said) {
	for name, values := range got.header {
		if name != "Transfer-Encoding" && name != "Content-Length" && name != "Connection" {
			w.Header()[name] = values
		}
	}
	w.WriteHeader(got.status)
	_, _ = w.Write(got.body)
}

// hangUp closes the connection without a word.
func hangUp(w http.ResponseWriter) {
	if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
		_ = conn.Close()
	}
}

// refuse never hands the request on.
func refuse(_ *proxy, w http.ResponseWriter, _ *http.Request, _ []byte) { hangUp(w) }

// dropAnswer has the request done and says nothing.
func dropAnswer(p *proxy, w http.ResponseWriter, r *http.Request, body []byte) {
	_, _ = p.ask(r, bytes.NewReader(body))
	hangUp(w)
}

// badGateway answers as a balancer does that has lost its server, after the request was done.
func badGateway(p *proxy, w http.ResponseWriter, r *http.Request, body []byte) {
	_, _ = p.ask(r, bytes.NewReader(body))
	gateway(p, w, r, body)
}

// gateway answers the same, and never handed the request on.
func gateway(_ *proxy, w http.ResponseWriter, _ *http.Request, _ []byte) {
	http.Error(w, "<html>502 Bad Gateway</html>", http.StatusBadGateway)
}

// cutBody breaks both connections in the middle of the body.
func cutBody(p *proxy, w http.ResponseWriter, r *http.Request, body []byte) {
	_, _ = p.ask(r, io.MultiReader(bytes.NewReader(body[:len(body)/2]), brokenReader{}))
	hangUp(w)
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("cut") }

// shortBody hands on half of the body as if it were all, and the answer.
func shortBody(p *proxy, w http.ResponseWriter, r *http.Request, body []byte) {
	if kindOf(r, body) != toTable && kindOf(r, body) != toLedger {
		gateway(p, w, r, body) // half a question may be another question
		return
	}
	pass(p, w, r, body[:len(body)/2])
}

// noBody cuts the body before its first byte, where ClickHouse takes it for one without rows.
func noBody(p *proxy, w http.ResponseWriter, r *http.Request, body []byte) {
	if kindOf(r, body) != toTable && kindOf(r, body) != toLedger {
		gateway(p, w, r, body)
		return
	}
	pass(p, w, r, nil)
}

// noSummary has the request done and keeps back how many rows were written.
func noSummary(p *proxy, w http.ResponseWriter, r *http.Request, body []byte) {
	got, err := p.ask(r, bytes.NewReader(body))
	if err != nil {
		hangUp(w)
		return
	}
	got.header.Del("X-Clickhouse-Summary")
	reply(w, got)
}

// hangAfter has the request done and never answers.
func hangAfter(p *proxy, w http.ResponseWriter, r *http.Request, body []byte) {
	_, _ = p.ask(r, bytes.NewReader(body))
	p.hang(r)
	hangUp(w)
}

// hangBefore never hands the request on and never answers.
func hangBefore(p *proxy, w http.ResponseWriter, r *http.Request, _ []byte) {
	p.hang(r)
	hangUp(w)
}

// late hands the request on only when it is let go, and says nothing.
func late(let chan struct{}, done chan<- struct{}) fault {
	return func(p *proxy, w http.ResponseWriter, r *http.Request, body []byte) {
		select {
		case <-let:
		case <-p.release:
		}
		_, _ = p.ask(r, bytes.NewReader(body))
		close(done)
		hangUp(w)
	}
}

// waiting hands request and answer on when it is let go.
func waiting(let chan struct{}) fault {
	return func(p *proxy, w http.ResponseWriter, r *http.Request, body []byte) {
		select {
		case <-let:
		case <-p.release:
		}
		pass(p, w, r, body)
	}
}

// hang waits until the client has gone.
func (p *proxy) hang(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-p.release:
	}
}

// exception answers with an error of ClickHouse that did not happen.
func exception(code, name string) fault {
	return func(_ *proxy, w http.ResponseWriter, _ *http.Request, _ []byte) {
		w.Header().Set("X-ClickHouse-Exception-Code", code)
		http.Error(w, "Code: "+code+". DB::Exception: made up by a test. ("+name+") (version 26.7.2.1)", http.StatusInternalServerError)
	}
}

// after has the request done, then does something else, and says nothing.
func after(do func()) fault {
	return func(p *proxy, w http.ResponseWriter, r *http.Request, body []byte) {
		_, _ = p.ask(r, bytes.NewReader(body))
		do()
		hangUp(w)
	}
}
