// SPDX-License-Identifier: Apache-2.0

package ownersocket

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

// Client asks a program on this machine.
type Client struct {
	Path string // of its socket
	Who  string // listens there, for errors
}

// Ask sends a request, nil for one without a body, and reads the answer that comes if nothing is wrong.
func Ask[A any](ctx context.Context, c Client, method, path string, body any) (a A, err error) {
	var text []byte
	if body != nil {
		if text, err = json.Marshal(body); err != nil {
			return a, fmt.Errorf("write the request: %w", err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+c.Who+path, bytes.NewReader(text))
	if err != nil {
		return a, fmt.Errorf("ask the %s: %w", c.Who, err)
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
	err = c.decode(response, &a)
	return a, err
}

// ErrNotThere means that nobody listens on a socket, or that there is none.
var ErrNotThere = errors.New("none listens there; is it running, and with the same --control?")

// unreached says what to do about a program that cannot be asked.
func (c Client) unreached(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("ask the %s at %s: %w", c.Who, c.Path, ErrNotThere)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("ask the %s at %s: its owner alone may; try it as that user, or as root", c.Who, c.Path)
	default:
		return fmt.Errorf("ask the %s at %s: %w", c.Who, c.Path, err)
	}
}

func (c Client) decode(response *http.Response, to any) error {
	text, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return fmt.Errorf("read the %s's answer: %w", c.Who, err)
	}
	if response.StatusCode != http.StatusOK {
		var no failure
		if json.Unmarshal(text, &no) != nil || no.Error == "" {
			return fmt.Errorf("the %s answers %s", c.Who, response.Status)
		}
		return errors.New(no.Error)
	}
	if err := json.Unmarshal(text, to); err != nil {
		return fmt.Errorf("read the %s's answer: %w", c.Who, err)
	}
	return nil
}
