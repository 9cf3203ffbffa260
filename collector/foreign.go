// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gpufleet/gpufleet/collector/internal/foreign"
	"github.com/gpufleet/gpufleet/collector/internal/frontdoor"
)

// Foreign is what other programs may push: OpenTelemetry Collectors and Prometheus servers.
type Foreign struct {
	GRPC string // host:port for OTLP over gRPC; "": none
	HTTP string // host:port for OTLP over HTTP (/v1/metrics) and remote write (/api/v1/write); "": none
	GPUs int    // of which is remembered what came, so that what comes again is not stored again
	// Connections may be open at the same time, of both protocols together; more are closed at once.
	Connections int
	// Gather is how long readings wait for others of the same GPU and time, to be one row.
	Gather time.Duration
	// OnListen is told the addresses, nil for none, once requests are taken; nil if nobody asks.
	OnListen func(grpc, http net.Addr)
}

// defaultForeign takes nothing.
func defaultForeign() Foreign {
	return Foreign{GPUs: 10_000, Connections: 1000, Gather: 500 * time.Millisecond}
}

func (f Foreign) on() bool { return f.GRPC != "" || f.HTTP != "" }

// check tells what cannot be honoured. What is reachable from outside needs the same proofs as the port for agents.
func (f Foreign) check(c Config) error {
	if !f.on() {
		return nil
	}
	var problems []error
	for flag, address := range map[string]string{"--otlp-listen": f.GRPC, "--otlp-http-listen": f.HTTP} {
		if address == "" {
			continue
		}
		problems = append(problems, c.checkListen(flag, address, "sources"))
	}
	if c.MaxLogBytes == 0 {
		problems = append(problems, errors.New("what other programs push is answered once it is in the log: --log-bytes must not be 0"))
	}
	if f.GPUs < 1 || f.GPUs > 1_000_000 {
		problems = append(problems, fmt.Errorf("--foreign-gpus %d: 1 to 1,000,000", f.GPUs))
	}
	if f.Connections < 1 || f.Connections > 100_000 {
		problems = append(problems, fmt.Errorf("--foreign-connections %d: 1 to 100,000", f.Connections))
	}
	if f.Gather < 0 || f.Gather > 5*time.Second {
		problems = append(problems, fmt.Errorf("readings gathered for %s: 0 to 5s, for senders wait for their answer", f.Gather))
	}
	return errors.Join(problems...)
}

// foreignShare is the part of the memory for batches that those of other programs may take on top.
const foreignShare = 8

// takeForeign takes what other programs push until the context ends.
func (p *pipeline) takeForeign(ctx context.Context) error {
	f := p.cfg.Foreign
	door, err := foreign.New(foreign.Config{
		Name: p.cfg.Name, MaxGPUs: f.GPUs, MaxBytes: p.cfg.MaxMemoryBytes / foreignShare, MaxAge: p.cfg.MaxAge, MaxAhead: p.cfg.MaxAhead, Gather: f.Gather,
		Store: p.store, Log: p.store, Quarantine: p.quarantine, Left: p.store.left, Database: p.store,
		Logger: p.cfg.Logger, Meter: p.cfg.Meter,
	})
	if err != nil {
		return err
	}
	front := frontdoor.Config{TLS: p.cfg.TLS, Trust: p.cfg.trusted(), Admits: p.cfg.Admits, Door: door, Logger: p.cfg.Logger, Meter: p.cfg.Meter, MaxConns: f.Connections}
	if front.GRPC, err = listen(ctx, f.GRPC, "--otlp-listen"); err != nil {
		return errors.Join(err, door.Close())
	}
	if front.HTTP, err = listen(ctx, f.HTTP, "--otlp-http-listen"); err != nil {
		return errors.Join(err, door.Close(), closeListener(front.GRPC))
	}
	p.cfg.Logger.Info("taking what other programs push", "otlp", address(front.GRPC), "http", address(front.HTTP))
	if f.OnListen != nil {
		f.OnListen(address(front.GRPC), address(front.HTTP))
	}
	gathering, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var group errgroup.Group
	group.Go(func() error { return door.Run(gathering) })
	group.Go(func() error {
		defer stop() // once nobody waits for an answer any more
		return frontdoor.Serve(ctx, front)
	})
	return group.Wait()
}

// listen listens on an address; it is nil for none.
func listen(ctx context.Context, at, flag string) (net.Listener, error) {
	if at == "" {
		return nil, nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", at)
	if err != nil {
		return nil, fmt.Errorf("listen for other programs: %w: %s chooses another address", err, flag)
	}
	return l, nil
}

func closeListener(l net.Listener) error {
	if l == nil {
		return nil
	}
	return l.Close()
}

func address(l net.Listener) net.Addr {
	if l == nil {
		return nil
	}
	return l.Addr()
}
