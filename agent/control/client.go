// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"
)

// Client asks the agent of this node.
type Client struct {
	Path string // of its socket
}

// Status asks how the agent does.
func (c Client) Status(ctx context.Context) (Status, error) {
	return ask[Status](ctx, c, http.MethodGet, statusPath, nil)
}

// Release has the agent let go of the GPU driver.
func (c Client) Release(ctx context.Context, reason string) (Status, error) {
	return ask[Status](ctx, c, http.MethodPost, releasePath, releaseRequest{reason})
}

// Resume has it take up the driver again.
func (c Client) Resume(ctx context.Context) (Status, error) {
	return ask[Status](ctx, c, http.MethodPost, resumePath, nil)
}

// Burst has it read GPUs at 10 Hz for a while.
func (c Client) Burst(ctx context.Context, r BurstRequest) (Burst, error) {
	return ask[Burst](ctx, c, http.MethodPost, burstPath, r)
}

// ask sends a request, and reads the answer that it has if nothing is wrong.
func ask[A any](ctx context.Context, c Client, method, path string, body any) (a A, err error) {
	var text []byte
	if body != nil {
		if text, err = json.Marshal(body); err != nil {
			return a, fmt.Errorf("write the request: %w", err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, bytes.NewReader(text))
	if err != nil {
		return a, fmt.Errorf("ask the agent: %w", err)
	}
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", c.Path)
		},
	}}
	response, err := client.Do(request)
	if err != nil {
		return a, c.unreached(err)
	}
	defer response.Body.Close()
	err = decode(response, &a)
	return a, err
}

// unreached says what to do about an agent that cannot be asked.
func (c Client) unreached(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("ask the agent at %s: none listens there; is it running, and with the same --control?", c.Path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("ask the agent at %s: its owner alone may; try it as that user, or as root", c.Path)
	default:
		return fmt.Errorf("ask the agent at %s: %w", c.Path, err)
	}
}

func decode(response *http.Response, to any) error {
	text, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		var no failure
		if json.Unmarshal(text, &no) != nil || no.Error == "" {
			return fmt.Errorf("the agent answers %s", response.Status)
		}
		return errors.New(no.Error)
	}
	if err := json.Unmarshal(text, to); err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	return nil
}
