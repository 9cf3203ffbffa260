// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeAgent is released and resumed as it is told.
type fakeAgent struct {
	mu     sync.Mutex
	status Status
	hangs  chan struct{} // if not nil, a release closes it, and does not end
}

func (a *fakeAgent) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status
}

func (a *fakeAgent) Release(ctx context.Context, reason string) error {
	if a.hangs != nil {
		close(a.hangs)
		<-ctx.Done()
		return context.Cause(ctx)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if reason == "busy" {
		return errors.New("it is still in use")
	}
	a.status.Released = reason
	return nil
}

func (a *fakeAgent) Resume() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.status.Released == "" {
		return errors.New("it was not released")
	}
	a.status.Released = ""
	return nil
}

func (a *fakeAgent) Burst(_ context.Context, r BurstRequest) (Burst, error) {
	if r.GPU == "GPU-9" {
		return Burst{}, errors.New("there is none on this node")
	}
	return Burst{GPUs: []string{r.GPU, r.Reason}, Seconds: r.Seconds}, nil
}

// log keeps what is logged.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// serve answers until stop.
func serve(t *testing.T, path string, a Agent) (stop func()) {
	t.Helper()
	logged := &log{}
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() {
		Serve(ctx, Config{Path: path, Agent: a, Logger: slog.New(slog.NewTextHandler(logged, nil))})
	})
	stop = func() {
		cancel()
		serving.Wait()
	}
	t.Cleanup(stop)
	await(t, func() bool { return logged.String() != "" }) // it listens, or does not
	return stop
}

func await(t *testing.T, condition func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !condition() {
		select {
		case <-deadline:
			t.Fatal("it does not happen")
		case <-time.After(time.Millisecond):
		}
	}
}

func wantError(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Errorf("got %v, want %q", err, part)
	}
}

func TestBothEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "a.sock")
	since := time.Unix(1_800_000_000, 0).UTC()
	want := Status{Node: "node-1", Epoch: 5, GPUs: 8, Started: since, Configured: since, ReleasedSince: &since, ConfigRejected: "agent.yaml:3: no"}
	a := &fakeAgent{status: want}
	stop := serve(t, path, a)
	c := Client{Path: path}
	got, err := c.Status(t.Context())
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if file, err := os.Stat(path); err != nil || file.Mode().Perm() != 0o600 {
		t.Errorf("rights %v, %v", file.Mode(), err)
	}
	_, err = c.Resume(t.Context())
	wantError(t, err, "it was not released")
	if got, err = c.Release(t.Context(), "new driver"); err != nil || got.Released != "new driver" {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err = c.Resume(t.Context()); err != nil || got.Released != "" {
		t.Errorf("got %+v, %v", got, err)
	}
	_, err = c.Release(t.Context(), "busy")
	wantError(t, err, "it is still in use")
	if got, err := c.Burst(t.Context(), BurstRequest{GPU: "GPU-1", Seconds: 2.5, Reason: "slow"}); err != nil || !cmp.Equal(got, Burst{[]string{"GPU-1", "slow"}, 2.5}) {
		t.Errorf("got %+v, %v", got, err)
	}
	_, err = c.Burst(t.Context(), BurstRequest{GPU: "GPU-9"})
	wantError(t, err, "there is none on this node")
	stop()
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) > 0 {
		t.Errorf("left behind: %v, %v", files, err)
	}
	_, err = c.Status(t.Context())
	wantError(t, err, "none listens there")
}

// TestBadRequests: whatever is sent, the agent lives on.
func TestBadRequests(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	serve(t, path, &fakeAgent{})
	for name, tt := range map[string]struct {
		method, path, body string
		want               int
	}{
		"not JSON":        {http.MethodPost, releasePath, "release!", http.StatusBadRequest},
		"too large":       {http.MethodPost, releasePath, `{"reason":"` + strings.Repeat("x", (64<<10)) + `"}`, http.StatusBadRequest},
		"no body":         {http.MethodPost, releasePath, "", http.StatusOK},
		"burst, not JSON": {http.MethodPost, burstPath, "now!", http.StatusBadRequest},
		"burst for ever":  {http.MethodPost, burstPath, `{"seconds":1e300}`, http.StatusBadRequest},
		"burst backwards": {http.MethodPost, burstPath, `{"seconds":-1}`, http.StatusBadRequest},
		"wrong method":    {http.MethodGet, releasePath, "", http.StatusMethodNotAllowed},
		"unknown":         {http.MethodPost, "/v1/reset", "", http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), tt.method, "http://agent"+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", path)
			}}
			response, err := transport.RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if text, _ := io.ReadAll(response.Body); response.StatusCode != tt.want {
				t.Errorf("%s: %s", response.Status, text)
			}
		})
	}
	if _, err := (Client{Path: path}).Status(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestStopDuringARelease: an agent that ends waits for nobody.
func TestStopDuringARelease(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	hangs := make(chan struct{})
	stop := serve(t, path, &fakeAgent{hangs: hangs})
	asked := make(chan error, 1)
	go func() {
		_, err := (Client{Path: path}).Release(t.Context(), "x")
		asked <- err
	}()
	<-hangs
	stop()
	if err := <-asked; err == nil {
		t.Error("a release that was given up succeeds")
	}
}
