// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gpufleet/gpufleet/agent"
)

func TestNetworkFlags(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	n := agent.DefaultConfig().Network
	if err := (networkOptions{sysfs: t.TempDir(), rates: []string{"mlx5_*=400", "*=2.5"}}).apply(&n, logger); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]agent.NetworkRate{{Devices: "mlx5_*", Gigabits: 400}, {Devices: "*", Gigabits: 2.5}}, n.Expect); diff != "" || n.Sysfs == nil {
		t.Errorf("sysfs %v, rates (-want +got):\n%s", n.Sysfs, diff)
	}
	for _, path := range []string{"", "/no/such/folder"} {
		n := agent.DefaultConfig().Network
		if err := (networkOptions{sysfs: path}).apply(&n, logger); err != nil || n.Sysfs != nil {
			t.Errorf("--sysfs %q: %v, %v", path, n.Sysfs, err)
		}
	}
	if got := strings.Count(log.String(), "network ports are not watched"); got != 1 {
		t.Errorf("%d warnings, want one of the folder that is not there:\n%s", got, log.String())
	}
	for _, text := range []string{"", "mlx5_*", "=", "mlx5_*=", "mlx5_*=fast"} {
		if _, err := parseRate(text); err == nil || !strings.Contains(err.Error(), "want DEVICES=GIGABITS") {
			t.Errorf("--port-rate %q: %v", text, err)
		}
	}
}
