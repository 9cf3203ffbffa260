// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"
)

const (
	readTimeout   = 5 * time.Second
	shutdownGrace = time.Second
)

// Config is what is controlled, and from where.
type Config struct {
	Path   string // of the socket; its folder is made if it is not there
	Agent  Agent
	Logger *slog.Logger
}

// Serve answers until the context ends. If there can be no socket, it says why and returns at once: that is no
// reason for an agent to end.
func Serve(ctx context.Context, cfg Config) {
	socket, err := listen(ctx, cfg.Path)
	if err != nil {
		cfg.Logger.Warn("there is no control socket: release, resume, burst and status will not reach this agent", "error", err)
		return
	}
	defer socket.close()
	cfg.Logger.Info("control socket listens", "path", cfg.Path)
	server := &http.Server{
		Handler:     cfg.handler(),
		BaseContext: func(net.Listener) context.Context { return ctx }, // a release does not outlive the agent
		ErrorLog:    slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelWarn),
		ReadTimeout: readTimeout, WriteTimeout: releaseWithin + readTimeout, IdleTimeout: readTimeout, MaxHeaderBytes: 16 << 10,
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(socket.listener) }()
	select {
	case err := <-served:
		cfg.Logger.Error("the control socket is closed", "path", cfg.Path, "error", err)
		return
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	if server.Shutdown(grace) != nil {
		_ = server.Close() // who still asks is told no more
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		cfg.Logger.Error("close the control socket", "path", cfg.Path, "error", err)
	}
}

func (c Config) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+statusPath, func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, c.Agent.Status()) })
	mux.HandleFunc("POST "+releasePath, c.release)
	mux.HandleFunc("POST "+resumePath, c.resume)
	mux.HandleFunc("POST "+burstPath, c.burst)
	return mux
}

func (c Config) release(w http.ResponseWriter, r *http.Request) {
	var request releaseRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&request); err != nil && !errors.Is(err, io.EOF) {
		answer(w, http.StatusBadRequest, failure{fmt.Sprintf("read the request: %v", err)})
		return
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), releaseWithin, fmt.Errorf("the driver is not closed after %s", releaseWithin))
	defer cancel()
	if err := c.Agent.Release(ctx, request.Reason); err != nil {
		answer(w, http.StatusInternalServerError, failure{err.Error()})
		return
	}
	answer(w, http.StatusOK, c.Agent.Status())
}

func (c Config) resume(w http.ResponseWriter, _ *http.Request) {
	if err := c.Agent.Resume(); err != nil {
		answer(w, http.StatusConflict, failure{err.Error()})
		return
	}
	answer(w, http.StatusOK, c.Agent.Status())
}

func (c Config) burst(w http.ResponseWriter, r *http.Request) {
	var request BurstRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&request); err != nil && !errors.Is(err, io.EOF) {
		answer(w, http.StatusBadRequest, failure{fmt.Sprintf("read the request: %v", err)})
		return
	}
	if request.Seconds < 0 || request.Seconds > mostSeconds {
		answer(w, http.StatusBadRequest, failure{fmt.Sprintf("burst of %g seconds: 0 to %d", request.Seconds, mostSeconds)})
		return
	}
	burst, err := c.Agent.Burst(r.Context(), request)
	if err != nil {
		answer(w, http.StatusConflict, failure{err.Error()})
		return
	}
	answer(w, http.StatusOK, burst)
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // whoever asked may have gone
}
