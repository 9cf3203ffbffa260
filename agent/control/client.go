// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"net/http"

	"github.com/gpufleet/gpufleet/internal/ownersocket"
)

// Client asks the agent of this node.
type Client struct {
	Path string // of its socket
}

func (c Client) socket() ownersocket.Client { return ownersocket.Client{Path: c.Path, Who: "agent"} }

// Status asks how the agent does.
func (c Client) Status(ctx context.Context) (Status, error) {
	return ownersocket.Ask[Status](ctx, c.socket(), http.MethodGet, statusPath, nil)
}

// Release has the agent let go of the GPU driver.
func (c Client) Release(ctx context.Context, reason string) (Status, error) {
	return ownersocket.Ask[Status](ctx, c.socket(), http.MethodPost, releasePath, releaseRequest{reason})
}

// Resume has it take up the driver again.
func (c Client) Resume(ctx context.Context) (Status, error) {
	return ownersocket.Ask[Status](ctx, c.socket(), http.MethodPost, resumePath, nil)
}

// Burst has it read GPUs at 10 Hz for a while.
func (c Client) Burst(ctx context.Context, r BurstRequest) (Burst, error) {
	return ownersocket.Ask[Burst](ctx, c.socket(), http.MethodPost, burstPath, r)
}
