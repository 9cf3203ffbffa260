// SPDX-License-Identifier: Apache-2.0

// Package pods asks the API server of Kubernetes about one pod: when it started, its labels, and what
// owns it. It promises to ask for nothing but that pod, in bounded time and memory, to send its token to
// nobody but the server that was named, and to tell a pod that is gone from a server that does not
// answer. It starts no goroutines but those of a connection, which end before Get returns.
//
// It speaks HTTP by itself: client-go would bring fifty packages to each node for one GET.
package pods

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Config is where the API server is, and how to prove to it who asks. The service account needs the right
// to get pods.
type Config struct {
	APIServer string // https://host:port; "" if there is none
	TokenFile string
	CAFile    string
}

// ErrGone tells that there is no such pod.
var ErrGone = errors.New("no such pod")

const (
	timeout        = 5 * time.Second
	maxBodyBytes   = 2 << 20 // etcd refuses objects beyond 1.5 MB
	maxHeaderBytes = 16 << 10
)

// Client asks one API server.
type Client struct{ cfg Config }

// New makes a client. Nothing is asked yet.
func New(cfg Config) (*Client, error) {
	u, err := url.Parse(cfg.APIServer)
	if err == nil && (u.Scheme != "https" || u.Host == "") {
		err = errors.New("want https://host:port: the token would travel in plain text")
	}
	if err != nil {
		return nil, fmt.Errorf("API server %q: %w", cfg.APIServer, err)
	}
	cfg.APIServer = strings.TrimSuffix(cfg.APIServer, "/")
	return &Client{cfg}, nil
}

// Get asks for a pod.
func (c *Client) Get(ctx context.Context, namespace, name string) (Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	// Version 0 means: what the server has in memory will do.
	body, err := c.get(ctx, "/api/v1/namespaces/"+url.PathEscape(namespace)+"/pods/"+url.PathEscape(name)+"?resourceVersion=0")
	if err != nil {
		return Pod{}, fmt.Errorf("ask %s for pod %s/%s: %w", c.cfg.APIServer, namespace, name, err)
	}
	pod, err := parse(body, namespace, name)
	if err != nil {
		return Pod{}, fmt.Errorf("ask %s for pod %s/%s: %w", c.cfg.APIServer, namespace, name, err)
	}
	return pod, nil
}

// get is the body of a good answer. Token and authority are read anew each time: both are renewed while
// the agent runs, and pods do not come often.
func (c *Client) get(ctx context.Context, path string) ([]byte, error) {
	token, err := os.ReadFile(c.cfg.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("read the service account's token: %w", err)
	}
	client, err := c.connect()
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.cfg.APIServer+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "gpufleet-agent")
	resp, err := client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // it repeats the address
		}
		return nil, err
	}
	defer resp.Body.Close()
	if err := refusal(resp.StatusCode); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBodyBytes+1))
	if err == nil && len(body) > maxBodyBytes {
		err = fmt.Errorf("the answer has more than %d bytes", maxBodyBytes)
	}
	return body, err
}

// connect makes a client that trusts the cluster's authority alone, has no proxy and follows no redirect.
func (c *Client) connect() (*http.Client, error) {
	authority, err := os.ReadFile(c.cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read the API server's authority: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("read the API server's authority: %s holds no certificate", c.cfg.CAFile)
	}
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy: nil, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			DisableCompression:     true, // what is small needs none, and what is not could be a bomb
			MaxResponseHeaderBytes: maxHeaderBytes,
		},
	}, nil
}

// refusal says what a status means and what to do about it; nil for a good one.
func refusal(status int) error {
	switch status {
	case http.StatusOK:
		return nil
	case http.StatusNotFound:
		return ErrGone
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%d %s: allow the agent's service account to get pods", status, http.StatusText(status))
	default:
		return fmt.Errorf("%d %s", status, http.StatusText(status))
	}
}
