// SPDX-License-Identifier: Apache-2.0

// Package control is how an operator on a collector's machine asks something of the agents that are connected to it:
// HTTP over a socket of the collector's owner. Both ends are here, and what travels between them:
//
//	POST /v1/burst  {"node": "…", "gpu": "…", "seconds": 10, "reason": "…", "wait_seconds": 30}
//	                → 200 and {}, when the order is on its way; what came of it is an event of the node
//	anything that cannot be done → 4xx and {"error": "…"}
//
// A socket that cannot be made costs the commands and nothing else: see package ownersocket.
package control

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/gpufleet/gpufleet/internal/ownersocket"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// DefaultPath is where a collector listens, if it may.
const DefaultPath = "/run/gpufleet/collector.sock"

const burstPath = "/v1/burst"

// LongestWait bounds how long an order waits for an agent to connect: an agent whose connection broke is back sooner.
const LongestWait = time.Minute

// Burst has GPUs of a node read at 10 Hz.
type Burst struct {
	Node        string  `json:"node"`
	GPU         string  `json:"gpu,omitempty"`     // UUID; "": all of the node
	Seconds     float64 `json:"seconds,omitempty"` // 0: as the agent is configured
	Reason      string  `json:"reason,omitempty"`
	WaitSeconds float64 `json:"wait_seconds,omitempty"` // for the agent to be connected
}

// Orders brings orders to agents. It may be called by several goroutines.
type Orders interface {
	// Send returns when the order is on its way, or when the context ends.
	Send(ctx context.Context, node string, o wire.Order) error
}

// Config is whom orders go by, and where they come from.
type Config struct {
	Path   string // of the socket; its folder is made if it is not there
	Orders Orders
	Logger *slog.Logger
}

// Serve answers until the context ends. If there can be no socket, it says why and returns at once: that is no
// reason for a collector to end.
func Serve(ctx context.Context, cfg Config) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+burstPath, cfg.burst)
	ownersocket.Server{
		Path: cfg.Path, Handler: mux, Longest: LongestWait, Logger: cfg.Logger, Costs: "gpufleet burst will not reach this collector's agents",
	}.Serve(ctx)
}

func (c Config) burst(w http.ResponseWriter, r *http.Request) {
	var b Burst
	if !ownersocket.Read(w, r, &b) {
		return
	}
	if longest := LongestWait.Seconds(); b.WaitSeconds < 0 || b.WaitSeconds > longest {
		ownersocket.Refuse(w, http.StatusBadRequest, fmt.Errorf("wait of %g seconds for node %s: 0 to %g", b.WaitSeconds, b.Node, longest))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Duration(b.WaitSeconds*float64(time.Second)))
	defer cancel()
	if err := c.Orders.Send(ctx, b.Node, wire.Order{Burst: &wire.Burst{GPU: b.GPU, Seconds: b.Seconds, Reason: b.Reason}}); err != nil {
		ownersocket.Refuse(w, http.StatusConflict, err)
		return
	}
	c.Logger.Info("order sent", "node", b.Node, "gpu", b.GPU, "seconds", b.Seconds, "reason", b.Reason)
	ownersocket.Answer(w, struct{}{})
}

// Client asks the collector of this machine.
type Client struct {
	Path string // of its socket
}

// Burst returns when the order is on its way to the agent.
func (c Client) Burst(ctx context.Context, b Burst) error {
	_, err := ownersocket.Ask[struct{}](ctx, ownersocket.Client{Path: c.Path, Who: "collector"}, http.MethodPost, burstPath, b)
	return err
}
