// SPDX-License-Identifier: Apache-2.0

// Package loopback is about the addresses that only this machine can reach: which they are, and which are free.
package loopback

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Free ports are drawn from below the ranges that Linux and darwin use for outgoing connections, so that a server
// that restarts does not find its port taken by somebody's client: not even by one that tries to connect to it.
const (
	firstFreePort = 20000
	lastFreePort  = 32767
	portDraws     = 200
)

// Is tells whether only this machine can reach a host, which is a name or an IP address.
func Is(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// FreePort draws a port, other than one, on which somebody could listen now.
func FreePort(ctx context.Context, other int) (int, error) {
	for range portDraws {
		port := firstFreePort + rand.IntN(lastFreePort-firstFreePort+1)
		if port != other && Try(ctx, port) == nil {
			return port, nil
		}
	}
	return 0, errors.New("find a free port: none of " + strconv.Itoa(portDraws) + " tried is free")
}

// FreeAddress draws a host:port on which somebody could listen now, and again after having been killed.
func FreeAddress(ctx context.Context) (string, error) {
	port, err := FreePort(ctx, 0)
	if err != nil {
		return "", err
	}
	return address(port), nil
}

// Try is nil if somebody could listen on the port now.
func Try(ctx context.Context, port int) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address(port))
	if err != nil {
		return fmt.Errorf("try port %d: %w", port, err)
	}
	return listener.Close()
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
