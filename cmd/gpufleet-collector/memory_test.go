// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

func TestMemoryLimit(t *testing.T) {
	broken := func() (uint64, error) { return 0, errors.New("memory.max is gone") }
	none := func() (uint64, error) { return 0, memlimit.ErrNoLimit }
	outside := func() (uint64, error) { return 0, memlimit.ErrNoCgroup }
	for name, tt := range map[string]struct {
		environment string
		granted     memlimit.Provider
		want        int64
		says        string
	}{
		"of the cgroup":   {"", memlimit.Limit(1000 << 20), 900 << 20, "943718400"},
		"the environment": {"1GiB", memlimit.Limit(1000 << 20), 1 << 40, ""}, // as it was before: the runtime reads it at its start
		"none":            {"", none, math.MaxInt64, ""},
		"no cgroup":       {"", outside, 1 << 40, ""},
		"unreadable":      {"", broken, 1 << 40, "memory.max is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			before := debug.SetMemoryLimit(1 << 40)
			defer debug.SetMemoryLimit(before)
			t.Setenv("GOMEMLIMIT", tt.environment)
			if tt.environment == "" {
				if err := os.Unsetenv("GOMEMLIMIT"); err != nil {
					t.Fatal(err)
				}
			}
			var said bytes.Buffer
			limitMemory(tt.granted, slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelInfo})))
			if got := debug.SetMemoryLimit(-1); got != tt.want {
				t.Errorf("limit %d, want %d", got, tt.want)
			}
			if tt.environment == "" && !strings.Contains(said.String(), tt.says) {
				t.Errorf("said %q, want %q in it", said.String(), tt.says)
			}
		})
	}
}
