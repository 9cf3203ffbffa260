// SPDX-License-Identifier: Apache-2.0

package ownersocket

import (
	"bytes"
	"context"
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

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

// serve answers with a word until stop.
func serve(t *testing.T, path, word string) (logged *log, stop func()) {
	t.Helper()
	logged = &log{}
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() {
		Server{
			Path: path, Costs: "nothing works", Logger: slog.New(slog.NewTextHandler(logged, nil)),
			Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { Answer(w, word) }),
		}.Serve(ctx)
	})
	stop = func() {
		cancel()
		serving.Wait()
	}
	t.Cleanup(stop)
	await(t, func() bool { return logged.String() != "" }) // it listens, or does not
	return logged, stop
}

func ask(t *testing.T, path string) (string, error) {
	t.Helper()
	return Ask[string](t.Context(), Client{Path: path, Who: "agent"}, http.MethodGet, "/", nil)
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

// TestPlacesThatAreTaken: a socket of an agent that was killed gives way, and nothing else.
func TestPlacesThatAreTaken(t *testing.T) {
	folder := t.TempDir()
	dead := filepath.Join(folder, "dead.sock")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder, "file")
	if err := os.WriteFile(file, []byte("rare"), 0o600); err != nil {
		t.Fatal(err)
	}
	strange := filepath.Join(folder, "strange.sock") // a connection to it is not refused, and not made
	stranger, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: strange, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	logged, _ := serve(t, dead, "first")
	if !strings.Contains(logged.String(), "control socket listens") {
		t.Errorf("the socket of a dead agent is in the way: %s", logged)
	}
	long := filepath.Join(folder, strings.Repeat("x", longestPath))
	for path, want := range map[string]string{
		dead: "another program answers there", file: "which is no socket", strange: "remove it if none does",
		filepath.Join(file, "a.sock"): "make the folder of the control socket", filepath.Join(long, "a.sock"): "are too long for the path of a socket",
	} {
		logged, stop := serve(t, path, "second")
		if !strings.Contains(logged.String(), want) {
			t.Errorf("%s: logged %s, want %s", path, logged, want)
		}
		stop()
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "rare" {
		t.Errorf("the file holds %q, %v", text, err)
	}
	if s, err := ask(t, dead); err != nil || s != "first" {
		t.Errorf("the first agent is not reached any more: %q, %v", s, err)
	}
}

// TestAnswersOfStrangers: what listens there may be no agent.
func TestAnswersOfStrangers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	answers := make(chan string, 1)
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		text := <-answers
		if text == "teapot" {
			w.WriteHeader(http.StatusTeapot)
		}
		_, _ = io.WriteString(w, text)
	})}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	defer serving.Wait()
	defer server.Close()
	for text, want := range map[string]string{
		"hello":                                  "read the agent's answer",
		"teapot":                                 "the agent answers 418",
		`"` + strings.Repeat("x", maxBody) + `"`: "read the agent's answer",
	} {
		answers <- text
		_, err := ask(t, path)
		wantError(t, err, want)
	}
}
