// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/nvml"
	"github.com/gpufleet/gpufleet/internal/batchtrace"
	"github.com/gpufleet/gpufleet/internal/ops"
)

// options is what flags say.
type options struct {
	config    string // file that says more; "" none
	agent     agent.Config
	tls       ops.ClientTLSFiles
	useTLS    bool
	tokenFile string
	library   string
	network   networkOptions
	owners    ownerOptions
	inference inferenceOptions
	bursts    burstOptions
	overrides string // file of an operator's judgements of XIDs
	place     placeOptions
	record    recordOptions
	ops       opsOptions
	memory    int64  // bytes
	control   string // path of the control socket; "" none
	traces    string // receiver of OTLP
	every     uint64 // one batch in so many is traced
	level     string
	format    string
}

// agentFlags adds the flags of the agent to a command, with their defaults.
func agentFlags(c *cobra.Command) *options {
	o := &options{agent: agent.DefaultConfig()}
	o.agent.Collector = "127.0.0.1:4490"
	o.agent.Node = agent.ThisNode()
	o.agent.Node.AgentVersion = ops.Version()
	f := c.Flags()
	f.StringVar(&o.config, "config", "", "YAML file of flags and their values; a flag that is given wins over it; SIGHUP reads it anew")
	f.StringVar(&o.agent.Scope.Tenant, "tenant", "", "whose node this is; a collector refuses it if token or certificate prove another; empty: what they prove")
	f.StringVar(&o.agent.Scope.Residency, "residency", "", "zone that the rows may not leave; compared as --tenant is")
	f.StringVar(&o.agent.Collector, "collector", o.agent.Collector, "address of the collector; several with commas between, or dns:name:port for all that the name has; beyond loopback it needs TLS; empty: none, with --record")
	f.BoolVar(&o.useTLS, "tls", false, "speak TLS with the collector, trusting the system's authorities")
	f.StringVar(&o.tls.CA, "tls-ca", "", "PEM file of the authorities that the collector's certificate must come from; implies --tls")
	f.StringVar(&o.tls.Cert, "tls-cert", "", "PEM file of this node's certificate, if the collector asks for one")
	f.StringVar(&o.tls.Key, "tls-key", "", "PEM file of its private key")
	f.StringVar(&o.tokenFile, "token-file", "", "file that holds this node's token (gpufleet token NODE)")
	f.StringVar(&o.library, "nvml", "", "path of libnvidia-ml.so.1; empty: search for it")
	placeFlags(c, &o.agent.Node, &o.place)
	f.DurationVar(&o.agent.Interval, "interval", o.agent.Interval, "between ticks; below 1s it can slow the workload")
	f.DurationVar(&o.agent.Flush, "flush", o.agent.Flush, "rows wait at most this long for their batch; events do not wait")
	f.DurationVar(&o.agent.HealthInterval, "health-interval", o.agent.HealthInterval, "between rows of gpu_health")
	f.BoolVar(&o.agent.Subsecond, "subsecond", o.agent.Subsecond, "keep the driver's own samples in gpu_subsecond")
	f.StringVar(&o.agent.SpoolDir, "spool-dir", "/var/lib/gpufleet/spool", "folder that keeps batches until they are stored, over restarts; it is made if it is not there; empty: memory alone")
	f.Int64Var(&o.agent.SpoolBytes, "spool-bytes", o.agent.SpoolBytes, "most that the spool takes on disk; then the oldest readings are dropped, facts last, and said so")
	f.Int64Var(&o.agent.MaxQueueBytes, "queue-bytes", o.agent.MaxQueueBytes, "memory for batches that are neither stored nor in the spool; then the oldest are dropped, and said so")
	f.DurationVar(&o.agent.DrainWait, "drain", o.agent.DrainWait, "how long a stop waits for the collector to store what is left")
	burstFlags(c, &o.bursts, &o.agent.Bursts)
	networkFlags(c, &o.network, &o.agent.Network)
	ownerFlags(c, &o.owners, &o.agent.Owners)
	inferenceFlags(c, &o.inference, &o.agent.Inference)
	faultFlags(c, &o.agent.KernelLog, &o.overrides)
	recordFlags(c, &o.record)
	opsFlags(c, &o.ops, &o.agent.Exposition)
	f.Int64Var(&o.memory, "memory-limit", 64<<20, "bytes that the program tries to stay below, besides those of --queue-bytes; without effect if GOMEMLIMIT is set")
	controlFlag(f, &o.control)
	f.StringVar(&o.traces, "otlp-traces", "", "send traces of batches to this receiver of OTLP: http://host:4318 or grpc://host:4317; empty: as OTEL_EXPORTER_OTLP_ENDPOINT says, or none")
	f.Uint64Var(&o.every, "trace-every", batchtrace.DefaultEvery, "trace one batch in so many; a collector that says the same traces the same ones")
	f.StringVar(&o.level, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.format, "log-format", "text", "text or json")
	return o
}

// settings are options that were checked, with all files read that they name.
type settings struct {
	options
	flags *pflag.FlagSet // where the options are from
}

// load reads all that the agent is told: the command line, the file that it names, and the files that both name.
// Nothing is changed by it.
func load(line *pflag.FlagSet) (settings, error) {
	fresh := &cobra.Command{}
	o := agentFlags(fresh)
	if file := line.Lookup("config"); file != nil && file.Value.String() != "" {
		if err := readConfig(file.Value.String(), fresh.Flags()); err != nil {
			return settings{}, err
		}
	}
	if err := overlay(line, fresh.Flags()); err != nil {
		return settings{}, err
	}
	if err := o.complete(); err != nil {
		return settings{}, err
	}
	return settings{options: *o, flags: fresh.Flags()}, nil
}

// complete reads the files that the options name, and checks all.
func (o *options) complete() (err error) {
	cfg := &o.agent
	if cfg.Logger, err = ops.NewLogger(os.Stderr, o.level, o.format); err != nil {
		return err
	}
	if o.ops.addr == "" {
		cfg.Exposition = agent.Exposition{} // nobody can ask for it
	}
	library, logger := o.library, cfg.Logger
	cfg.Open = func() (gpu.Driver, error) { return nvml.Open(nvml.Config{LibraryPath: library, Logger: logger}) }
	if err := o.apply(); err != nil {
		return err
	}
	if cfg.Token, err = readToken(o.tokenFile); err != nil {
		return err
	}
	if cfg.XIDOverrides, err = readOverrides(o.overrides); err != nil {
		return err
	}
	if cfg.FindPlace, cfg.Place, err = o.place.config(); err != nil {
		return err
	}
	if o.useTLS || o.tls.CA != "" || o.tls.Cert != "" || o.tls.Key != "" {
		if cfg.TLS, err = o.tls.Client(); err != nil {
			return err
		}
	}
	if _, err := o.ops.tls.Server(); err != nil {
		return fmt.Errorf("operations server: %w", err)
	}
	return o.check()
}

// apply completes what the agent is told of the node around the GPUs.
func (o *options) apply() error {
	cfg, logger := &o.agent, o.agent.Logger
	if err := o.network.apply(&cfg.Network, logger); err != nil {
		return err
	}
	if err := o.owners.apply(&cfg.Owners, logger); err != nil {
		return err
	}
	if err := o.inference.apply(&cfg.Inference, cfg.Owners); err != nil {
		return err
	}
	return o.bursts.apply(&cfg.Bursts, o.owners.proc)
}

// check tells what does not go together.
func (o *options) check() error {
	if o.record.path == "" && (o.record.after != 0 || len(o.record.notes) > 0) {
		return errors.New("--record-for and --record-note say how to record: --record FILE says where to")
	}
	if o.memory < smallestMemory {
		return fmt.Errorf("--memory-limit %d: at least %d bytes", o.memory, int64(smallestMemory))
	}
	cfg := o.agent
	if o.record.path != "" {
		return nil // it gives the agent more to do, and checks it then
	}
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("agent configuration: %w", err)
	}
	return nil
}

func readToken(path string) (string, error) {
	if path == "" {
		return os.Getenv(tokenEnv), nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}
