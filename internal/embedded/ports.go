// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"fmt"

	"github.com/gpufleet/gpufleet/internal/loopback"
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
		if err := loopback.Try(ctx, asked); err != nil {
			return 0, fmt.Errorf("%s port %d of the embedded ClickHouse is in use: choose another with --clickhouse-%s-port, or 0 for a free one: %w",
				kind, asked, kind, err)
		}
		return asked, nil
	}
	if last != 0 && last != other && loopback.Try(ctx, last) == nil {
		return last, nil
	}
	port, err := loopback.FreePort(ctx, other)
	if err != nil {
		return 0, fmt.Errorf("settle the %s port of the embedded ClickHouse: %w", kind, err)
	}
	return port, nil
}
