// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent/control"
)

func TestBurstFlags(t *testing.T) {
	config := configFile(t, "")
	for name, tt := range map[string]struct {
		args []string
		want string // of the error; "" none
		on   bool
	}{
		"defaults":  {nil, "", true},
		"off":       {[]string{"--bursts", "off"}, "", false},
		"unknown":   {[]string{"--bursts", "maybe"}, `--bursts "maybe": want auto or off`, false},
		"too long":  {[]string{"--burst-for", "1h"}, "bursts of 1h0m0s: 1s to 1m0s", false},
		"too often": {[]string{"--bursts-per-hour", "1000"}, "1000 bursts per hour: 1 to 60", false},
		"too much":  {[]string{"--trace-before", "3h"}, "trace of 3h0m0s before a fault: 0 to 15m0s", false},
		"no trace":  {[]string{"--trace-before", "0", "--trace-after", "0"}, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := load(commandLine(t, append([]string{"--config", config}, tt.args...)...))
			if err != nil || tt.want != "" {
				if err == nil || tt.want == "" || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
				return
			}
			if s.agent.Bursts.On != tt.on || s.agent.Bursts.Proc == nil || s.agent.Bursts.For != 10*time.Second {
				t.Errorf("got %+v", s.agent.Bursts)
			}
		})
	}
}

// TestABurstOfNoGPU: the agent that this machine can run has none.
func TestABurstOfNoGPU(t *testing.T) {
	s, err := load(commandLine(t, "--config", configFile(t, "collector: 127.0.0.1:1\nspool-dir: ''\nbursts: \"off\"\n")))
	if err != nil {
		t.Fatal(err)
	}
	l, err := new(supervisor).newLife(s)
	if err != nil {
		t.Fatal(err)
	}
	watched := &supervisor{}
	watched.set(l)
	if _, err := watched.Burst(t.Context(), control.BurstRequest{Seconds: 2}); err == nil || !strings.Contains(err.Error(), "bursts are switched off") {
		t.Errorf("got %v", err)
	}
}
