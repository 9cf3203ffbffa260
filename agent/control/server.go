// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/gpufleet/gpufleet/internal/ownersocket"
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
	ownersocket.Server{
		Path: cfg.Path, Handler: cfg.handler(), Longest: releaseWithin, Logger: cfg.Logger,
		Costs: "release, resume, burst and status will not reach this agent",
	}.Serve(ctx)
}

func (c Config) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+statusPath, func(w http.ResponseWriter, _ *http.Request) { ownersocket.Answer(w, c.Agent.Status()) })
	mux.HandleFunc("POST "+releasePath, c.release)
	mux.HandleFunc("POST "+resumePath, c.resume)
	mux.HandleFunc("POST "+burstPath, c.burst)
	return mux
}

func (c Config) release(w http.ResponseWriter, r *http.Request) {
	var request releaseRequest
	if !ownersocket.Read(w, r, &request) {
		return
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), releaseWithin, fmt.Errorf("the driver is not closed after %s", releaseWithin))
	defer cancel()
	if err := c.Agent.Release(ctx, request.Reason); err != nil {
		ownersocket.Refuse(w, http.StatusInternalServerError, err)
		return
	}
	ownersocket.Answer(w, c.Agent.Status())
}

func (c Config) resume(w http.ResponseWriter, _ *http.Request) {
	if err := c.Agent.Resume(); err != nil {
		ownersocket.Refuse(w, http.StatusConflict, err)
		return
	}
	ownersocket.Answer(w, c.Agent.Status())
}

func (c Config) burst(w http.ResponseWriter, r *http.Request) {
	var request BurstRequest
	if !ownersocket.Read(w, r, &request) {
		return
	}
	if request.Seconds < 0 || request.Seconds > mostSeconds {
		ownersocket.Refuse(w, http.StatusBadRequest, fmt.Errorf("burst of %g seconds: 0 to %d", request.Seconds, mostSeconds))
		return
	}
	burst, err := c.Agent.Burst(r.Context(), request)
	if err != nil {
		ownersocket.Refuse(w, http.StatusConflict, err)
		return
	}
	ownersocket.Answer(w, burst)
}
