// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Free ports are drawn from below the ranges that Linux and darwin use for outgoing connections, so that a server
// that restarts does not find its port taken by somebody's client.
const (
	firstFreePort = 20000
	lastFreePort  = 32767
	portDraws     = 200
)

// choosePorts settles both ports: those asked for, else those of the last run, else free ones.
func choosePorts(ctx context.Context, cfg Config, last state) (httpPort, tcpPort int, err error) {
	if httpPort, err = choosePort(ctx, "http", cfg.HTTPPort, last.HTTPPort, cfg.TCPPort); err != nil {
		return 0, 0, err
	}
	if tcpPort, err = choosePort(ctx, "tcp", cfg.TCPPort, last.TCPPort, httpPort); err != nil {
		return 0, 0, err
	}
	return httpPort, tcpPort, nil
}

// choosePort settles one port; other is the one it must differ from.
func choosePort(ctx context.Context, kind string, asked, last, other int) (int, error) {
	if asked != 0 {
		if err := portFree(ctx, asked); err != nil {
			return 0, fmt.Errorf("%s port %d of the embedded ClickHouse is in use: choose another with --clickhouse-%s-port, or 0 for a free one: %w",
				kind, asked, kind, err)
		}
		return asked, nil
	}
	if last != 0 && last != other && portFree(ctx, last) == nil {
		return last, nil
	}
	for range portDraws {
		port := firstFreePort + rand.IntN(lastFreePort-firstFreePort+1)
		if port != other && portFree(ctx, port) == nil {
			return port, nil
		}
	}
	return 0, errors.New("find a free port for the embedded ClickHouse: none of " + strconv.Itoa(portDraws) + " tried is free")
}

// portFree returns nil if somebody could listen on the port now.
func portFree(ctx context.Context, port int) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	return listener.Close()
}
