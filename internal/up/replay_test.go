// SPDX-License-Identifier: Apache-2.0

package up

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent/recording"
	"github.com/gpufleet/gpufleet/agent/recording/h100"
)

// TestReplaySaysWhatItPlays: nobody shall take a recording for the GPUs of this machine.
func TestReplaySaysWhatItPlays(t *testing.T) {
	played, err := h100.Recording()
	if err != nil {
		t.Fatal(err)
	}
	p := &pipeline{cfg: DefaultConfig(), address: "127.0.0.1:1", recording: played, logger: slog.New(slog.DiscardHandler)}
	fleet, err := p.newReplay()
	if err != nil {
		t.Fatal(err)
	}
	said := fleet.describe()
	for _, want := range []string{
		"nothing of this is live\n", "1 × NVIDIA H100 80GB HBM3, driver 590.48.01, read by nvidia-smi 590.48.01 at 2026-07-14T08:12:38Z, from https://",
		"virtual machine", "MIT", "12 rows of gpu_samples, 2 rows of gpu_health", "over 20s", "what it does not hold is NULL", "note: load: gpu-burn",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
	if fleet.readers() != "recorded on 2026-07-14" {
		t.Errorf("readings are %q", fleet.readers())
	}
}

// TestRecordingDoesNotSteerTheTerminal: its head is whatever a file says.
func TestRecordingDoesNotSteerTheTerminal(t *testing.T) {
	said := describeRecording(&recording.Recording{Provenance: recording.Provenance{
		Node: "n", Machine: "rack\x1b[2J", Notes: []string{"a\r\nb", strings.Repeat("x", 10_000)}, RecordedAt: time.Unix(0, 0),
	}})
	if strings.ContainsAny(said, "\x1b\r") || !strings.Contains(said, "rack?[2J") || !strings.Contains(said, "note: a??b") || len(said) > 2000 {
		t.Errorf("%q", said)
	}
}
