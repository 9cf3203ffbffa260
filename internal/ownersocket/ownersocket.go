// SPDX-License-Identifier: Apache-2.0

// Package ownersocket is how an operator on a machine talks to a program that runs there: HTTP over a unix socket
// that its owner alone may open, which is all the proof of identity that there is. A socket that cannot be made costs
// what it is for, and nothing else: a program runs on without. What is said over it is its users' matter. Serve owns
// the goroutines that it starts, and waits for them.
package ownersocket

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
	// maxBody bounds what either end reads.
	maxBody       = 64 << 10
	readTimeout   = 5 * time.Second
	shutdownGrace = time.Second
)

// Server is what listens.
type Server struct {
	Path    string // of the socket; its folder is made if it is not there
	Handler http.Handler
	Longest time.Duration // that an answer takes
	Costs   string        // what does not work without the socket, for the log
	Logger  *slog.Logger
}

// Serve answers until the context ends. If there can be no socket, it says why and returns at once: that is no
// reason for a program to end.
func (s Server) Serve(ctx context.Context) {
	socket, err := listen(ctx, s.Path)
	if err != nil {
		s.Logger.Warn("there is no control socket", "costs", s.Costs, "error", err)
		return
	}
	defer socket.close()
	s.Logger.Info("control socket listens", "path", s.Path)
	server := &http.Server{
		Handler:     s.Handler,
		BaseContext: func(net.Listener) context.Context { return ctx }, // no request outlives the program
		ErrorLog:    slog.NewLogLogger(s.Logger.Handler(), slog.LevelWarn),
		ReadTimeout: readTimeout, WriteTimeout: s.Longest + readTimeout, IdleTimeout: readTimeout, MaxHeaderBytes: 16 << 10,
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(socket.listener) }()
	select {
	case err := <-served:
		s.Logger.Error("the control socket is closed", "path", s.Path, "error", err)
		return
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	if server.Shutdown(grace) != nil {
		_ = server.Close() // who still asks is told no more
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		s.Logger.Error("close the control socket", "path", s.Path, "error", err)
	}
}

// failure is the body of an answer that says no.
type failure struct {
	Error string `json:"error"`
}

// Read reads the body of a request; none leaves the value as it is. False: it could not, and that is answered.
func Read(w http.ResponseWriter, r *http.Request, into any) bool {
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(into)
	if err == nil || errors.Is(err, io.EOF) {
		return true
	}
	Refuse(w, http.StatusBadRequest, fmt.Errorf("read the request: %w", err))
	return false
}

// Refuse answers why something is not done.
func Refuse(w http.ResponseWriter, code int, why error) { write(w, code, failure{why.Error()}) }

// Answer answers with a value.
func Answer(w http.ResponseWriter, body any) { write(w, http.StatusOK, body) }

func write(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // whoever asked may have gone
}
