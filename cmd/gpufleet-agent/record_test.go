// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"go.uber.org/goleak"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/recording"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// oneGPU is a driver with one GPU that answers its temperature.
type oneGPU struct{ gone bool }

func (d oneGPU) System() (gpu.System, gpu.Return) {
	return gpu.System{DriverVersion: "590.48.01"}, gpu.Success
}

func (d oneGPU) Devices() ([]gpu.Device, gpu.Return) {
	if d.gone {
		return nil, gpu.Success
	}
	return []gpu.Device{d}, gpu.Success
}

func (oneGPU) NextEvent(time.Duration) (gpu.Event, gpu.Return) { return gpu.Event{}, gpu.NotSupported }
func (oneGPU) Close() gpu.Return                               { return gpu.Success }
func (oneGPU) UUID() string                                    { return "GPU-1" }

func (oneGPU) Identity() (gpu.Identity, gpu.Return) {
	return gpu.Identity{UUID: "GPU-1", Model: "NVIDIA H100 80GB HBM3"}, gpu.Success
}

func (oneGPU) Fields(values []gpu.FieldValue) gpu.Return {
	for i := range values {
		values[i].Return = gpu.NotSupported
	}
	return gpu.Success
}

func (oneGPU) Get(getter gpu.Getter, parts *gpu.Parts) gpu.Return {
	if gpu.Getters[getter].Symbol != "nvmlDeviceGetTemperature" {
		return gpu.NotSupported
	}
	parts[0] = 41
	return gpu.Success
}

func testConfig(d oneGPU) agent.Config {
	cfg := agent.DefaultConfig()
	cfg.Node = agent.Node{Name: "node-1", ReadingSource: "nvml", Provider: "aws", InstanceType: "p5.48xlarge", Kernel: "6.8"}
	cfg.Open = func() (gpu.Driver, error) { return d, nil }
	return cfg
}

func TestTheAgentIsRecorded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.gfr")
	options := recordOptions{path: path, after: 10 * time.Second, notes: []string{"idle"}, mask: true}
	// What encoders share must not belong to the bubble.
	if err := record(t.Context(), recordOptions{path: path + ".first"}, testConfig(oneGPU{}), runBriefly); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig(oneGPU{})
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		start := time.Now()
		if err := record(t.Context(), options, cfg, agent.Run); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != options.after {
			t.Errorf("it took %s, want %s", took, options.after)
		}
	})
	r, err := recording.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Rows(schema.SamplesID); got < 9 || got > 10 || r.Cut != nil {
		t.Errorf("%d rows of gpu_samples in 10 s, cut %v", got, r.Cut)
	}
	p := r.Provenance
	if p.Node != recording.MaskedNode || p.Machine != "aws, p5.48xlarge, 6.8" || len(p.GPUs) != 1 || p.GPUs[0] != "NVIDIA H100 80GB HBM3" ||
		p.Driver != "590.48.01" || p.Program != "gpufleet-agent" || p.Version == "" || p.Notes[0] != "idle" {
		t.Errorf("provenance %+v", p)
	}
	if got := r.Records(schema.GPUInventoryID)[0].Column(1).(*array.Uint64).Value(0); got == wire.GPUID("GPU-1") || got == 0 {
		t.Errorf("gpu_id %d: it is not masked", got)
	}
	plain, err := recording.Open(path + ".first")
	if err != nil || plain.Provenance.Node != "node-1" {
		t.Errorf("a recording that is not masked: %+v, %v", plain, err)
	}
	if !strings.Contains(log.String(), "msg=recorded") {
		t.Errorf("the log does not say what was recorded: %s", log.String())
	}
}

// runBriefly is an agent that makes one batch.
func runBriefly(ctx context.Context, cfg agent.Config) error {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return agent.Run(ctx, cfg)
}

func TestNoRecordingIsOverwritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.gfr")
	if err := os.WriteFile(path, []byte("rare"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := record(t.Context(), recordOptions{path: path}, testConfig(oneGPU{}), runBriefly)
	if err == nil || !strings.Contains(err.Error(), "overwrites none") {
		t.Errorf("got %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "rare" {
		t.Errorf("the file now holds %q, %v", text, err)
	}
}

func TestWhatCannotBeRecordedLeavesNoFile(t *testing.T) {
	broken := errors.New("driver is not loaded")
	noDriver := testConfig(oneGPU{})
	noDriver.Open = func() (gpu.Driver, error) { return nil, broken }
	badName := testConfig(oneGPU{})
	badName.Node.Name = "no name"
	tests := []struct {
		name string
		cfg  agent.Config
		want string
	}{
		{"no driver", noDriver, broken.Error()},
		{"no GPU", testConfig(oneGPU{gone: true}), "there is nothing to record"},
		{"configuration", badName, "agent configuration"},
	}
	for _, tt := range tests {
		path := filepath.Join(t.TempDir(), "a.gfr")
		err := record(t.Context(), recordOptions{path: path}, tt.cfg, runBriefly)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: there is a file: %v", tt.name, err)
		}
	}
	err := record(t.Context(), recordOptions{path: filepath.Join(t.TempDir(), "no", "folder")}, testConfig(oneGPU{}), runBriefly)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

// TestAFullDiskEndsTheAgent gives the recorder a file that can no longer be written.
func TestAFullDiskEndsTheAgent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.gfr")
	ended := false
	err := record(t.Context(), recordOptions{path: path}, testConfig(oneGPU{}), func(ctx context.Context, cfg agent.Config) error {
		other := &wire.Batch{Identity: wire.Identity{Node: 1}} // stands for what cannot be written
		cfg.Tee(other)
		cfg.Tee(other)
		<-ctx.Done()
		ended = true
		return nil
	})
	if !ended || err == nil || strings.Count(err.Error(), "record batch") != 1 {
		t.Errorf("ended %v, error %v", ended, err)
	}
}

func TestFlagsOfARecordingNeedAFile(t *testing.T) {
	for _, args := range [][]string{{"--record-for", "5m"}, {"--record-note", "idle"}} {
		c := newCommand()
		c.SetArgs(append(args, "--ops-listen", ""))
		if err := c.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "--record FILE") {
			t.Errorf("%v: %v", args, err)
		}
	}
	c := newCommand()
	c.SetArgs([]string{"--collector", "", "--ops-listen", ""})
	if err := c.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "no collector is given") {
		t.Errorf("neither collector nor file: %v", err)
	}
}
