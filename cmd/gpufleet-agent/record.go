// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/recording"
	"github.com/gpufleet/gpufleet/internal/ops"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// recordOptions is what the flags say of a recording.
type recordOptions struct {
	path  string        // "": none is made
	after time.Duration // then the agent stops; 0: when it is told to
	notes []string
	mask  bool // what names this machine is replaced
}

func recordFlags(c *cobra.Command, o *recordOptions) {
	f := c.Flags()
	f.StringVar(&o.path, "record", "", "also write every batch to this file, which gpufleet up --replay plays; --collector '' then sends nowhere")
	f.DurationVar(&o.after, "record-for", 0, "stop the agent after this long; 0: when it is told to")
	f.StringArrayVar(&o.notes, "record-note", nil, "what the recording cannot tell by itself, such as the load on the GPUs; may be repeated")
	f.BoolVar(&o.mask, "record-mask", true, "put stand-ins into the recording for what names this machine: UUIDs, serial numbers, the node, its place, its processes; false for a recording that stays here")
}

// recorder writes the agent's batches to a file.
type recorder struct {
	file   *os.File
	writer *recording.Writer
	mask   *recording.Mask    // nil: nothing is masked
	stop   context.CancelFunc // ends the agent
	err    error
	logger *slog.Logger
}

// record runs the agent with every batch written to a file as well.
func record(ctx context.Context, o recordOptions, cfg agent.Config, runAgent func(context.Context, agent.Config) error) error {
	r := &recorder{logger: cfg.Logger}
	cfg.Tee = r.take
	if err := cfg.Validate(); err != nil { // before there is a file
		return fmt.Errorf("agent configuration: %w", err)
	}
	if err := r.open(o, cfg); err != nil {
		return fmt.Errorf("record to %s: %w", o.path, err)
	}
	ctx, r.stop = context.WithCancel(ctx)
	defer r.stop()
	if o.after > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.after)
		defer cancel()
	}
	return errors.Join(runAgent(ctx, cfg), r.close())
}

// open asks the driver whose rows they will be and writes the head of the file.
func (r *recorder) open(o recordOptions, cfg agent.Config) error {
	about, err := provenance(cfg, o.notes)
	if err != nil {
		return err
	}
	if o.mask {
		if r.mask, err = recording.NewMask(about.Node); err != nil {
			return err
		}
		about = r.mask.Provenance(about)
	}
	r.file, err = os.OpenFile(o.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		r.closeMask()
	}
	if errors.Is(err, fs.ErrExist) {
		return errors.New("there is such a file, and a recording overwrites none")
	}
	if err != nil {
		return err
	}
	if r.writer, err = recording.NewWriter(r.file, about); err != nil {
		r.closeMask()
		return errors.Join(err, r.file.Close(), os.Remove(o.path))
	}
	r.logger.Info("recording", "file", o.path, "of", about.String(), "for", o.after)
	return nil
}

// provenance says what is known of the GPUs before they are read.
func provenance(cfg agent.Config, notes []string) (recording.Provenance, error) {
	n := cfg.Node
	p := recording.Provenance{
		Node: n.Name, Machine: joined(n.Provider, n.InstanceType, n.System, n.Kernel),
		RecordedAt: time.Now().UTC(), Program: "gpufleet-agent", Version: ops.Version(), Notes: notes,
	}
	driver, err := cfg.Open()
	if err != nil {
		return p, err
	}
	defer driver.Close() //nolint:errcheck // it was only asked, and the agent opens its own
	if system, ret := driver.System(); ret.OK() {
		p.Driver = system.DriverVersion
	}
	devices, ret := driver.Devices()
	if !ret.OK() || len(devices) == 0 {
		return p, fmt.Errorf("the driver lists %d GPUs (%v): there is nothing to record", len(devices), ret.String())
	}
	for _, d := range devices {
		p.GPUs = append(p.GPUs, modelOf(d))
	}
	return p, nil
}

func modelOf(d gpu.Device) string {
	identity, ret := d.Identity()
	if !ret.OK() || identity.Model == "" {
		return "unknown"
	}
	return identity.Model
}

// joined leaves out what is not known.
func joined(parts ...string) string {
	var known []string
	for _, p := range parts {
		if p != "" {
			known = append(known, p)
		}
	}
	return strings.Join(known, ", ")
}

// take is the agent's Tee. The first batch that cannot be written ends the agent: a recording with a
// hole is none. Who used the GPUs, and for what, is left out: recordings are given to others.
func (r *recorder) take(b *wire.Batch) {
	if r.err != nil || b.Identity.Table == schema.WorkloadID || b.Identity.Table == schema.TokensID {
		return
	}
	if r.err = r.write(b); r.err != nil {
		r.stop()
	}
}

func (r *recorder) write(b *wire.Batch) error {
	if r.mask != nil {
		var err error
		if b, err = r.mask.Batch(b); err != nil {
			return err
		}
	}
	return r.writer.Write(b)
}

func (r *recorder) closeMask() {
	if r.mask != nil {
		r.mask.Close()
	}
}

// close ends the file once the agent has stopped.
func (r *recorder) close() error {
	r.closeMask()
	err := errors.Join(r.err, r.file.Sync(), r.file.Close())
	if err == nil {
		r.logger.Info("recorded", "file", r.file.Name(), "batches", r.writer.Batches, "rows", r.writer.Rows, "bytes", r.writer.Bytes)
	}
	return err
}
