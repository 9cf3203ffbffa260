// SPDX-License-Identifier: Apache-2.0

package place

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"syscall"
	"time"
)

// linkLocal is where every cloud has its metadata service. An address and not a name, so that no resolver can
// send us elsewhere, or hang.
const linkLocal = "http://169.254.169.254"

const (
	maxBodyBytes   = 1 << 20 // a node's object has some 100 KiB, everything else far less
	maxHeaderBytes = 16 << 10
	maxRedirects   = 2
)

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// newClient makes a client that has no proxy and follows no redirect to another host. Its owner closes its idle
// connections.
func newClient(dial dialer, secured *tls.Config) *http.Client {
	return &http.Client{
		CheckRedirect: sameHost,
		Transport: &http.Transport{
			Proxy: nil, DialContext: dial, TLSClientConfig: secured,
			DisableCompression:  true, // what is small needs none, and what is not could be a bomb
			MaxIdleConnsPerHost: 8, MaxResponseHeaderBytes: maxHeaderBytes, IdleConnTimeout: time.Minute,
		},
	}
}

func sameHost(next *http.Request, before []*http.Request) error {
	first := before[0].URL
	if next.URL.Host != first.Host || next.URL.Scheme != first.Scheme || len(before) > maxRedirects {
		return http.ErrUseLastResponse
	}
	return nil
}

// dialNearby connects to this machine and to the link alone.
func dialNearby(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("dial %s: %w", address, err)
		}
		if ip := at.Addr().Unmap(); !ip.IsLinkLocalUnicast() && !ip.IsLoopback() {
			return fmt.Errorf("dial %s: a metadata service has a link-local address", address)
		}
		return nil
	}}
	return d.DialContext(ctx, network, address)
}

// service is a metadata service, or an API server.
type service struct {
	base   string            // such as http://169.254.169.254, without a slash at its end
	name   string            // for the Host header; "" for that of base
	header map[string]string // with each request
	client *http.Client
}

// answer is what a service said.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// statusError is an answer that is none.
type statusError struct {
	what, location string
	status         int
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("%s: %d %s", e.what, e.status, http.StatusText(e.status))
	if e.location != "" {
		text += fmt.Sprintf(", to %s: redirects to another host are not followed", e.location)
	}
	return text
}

// hasStatus tells whether a service answered with one of these codes.
func hasStatus(err error, codes ...int) bool {
	s, ok := errors.AsType[*statusError](err)
	return ok && slices.Contains(codes, s.status)
}

// absent tells whether a service answered that there is no such thing.
func absent(err error) bool { return hasStatus(err, http.StatusNotFound) }

// get is the body of a good answer.
func (s service) get(ctx context.Context, path string) ([]byte, error) {
	a, err := s.ask(ctx, http.MethodGet, path, nil)
	return a.body, err
}

// ask makes one request. An error that is no *statusError means that there was no answer.
func (s service) ask(ctx context.Context, method, path string, header map[string]string) (answer, error) {
	what := method + " " + s.base + path
	req, err := http.NewRequestWithContext(ctx, method, s.base+path, nil)
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", what, err)
	}
	req.Host = s.name
	req.Header.Set("User-Agent", "gpufleet-agent")
	for _, set := range []map[string]string{s.header, header} {
		for name, value := range set {
			req.Header.Set(name, value)
		}
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", what, noAnswer(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBodyBytes+1))
	switch {
	case err != nil:
		return answer{}, fmt.Errorf("%s: read the answer: %w", what, noAnswer(err))
	case len(body) > maxBodyBytes:
		return answer{}, fmt.Errorf("%s: the answer has more than %d bytes", what, maxBodyBytes)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, body: body}
	if resp.StatusCode != http.StatusOK {
		return a, &statusError{what: what, status: resp.StatusCode, location: resp.Header.Get("Location")}
	}
	return a, nil
}

var errNoAnswer = errors.New("no answer in time")

// noAnswer says the cause once, and a time that is up in plain words.
func noAnswer(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errNoAnswer
	}
	return err
}

// many gets several paths at once. A path that is not there is left out; the others that fail are the reasons.
func many(ctx context.Context, get func(context.Context, string) ([]byte, error), paths ...string) (map[string][]byte, []error) {
	bodies, errs := make([][]byte, len(paths)), make([]error, len(paths))
	var asked sync.WaitGroup
	for i, path := range paths {
		asked.Go(func() { bodies[i], errs[i] = get(ctx, path) })
	}
	asked.Wait()
	found := make(map[string][]byte)
	var failed []error
	for i, path := range paths {
		switch {
		case errs[i] == nil:
			found[path] = bodies[i]
		case !absent(errs[i]):
			failed = append(failed, errs[i])
		}
	}
	return found, failed
}
