// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/gpufleet/gpufleet/agent"
)

func TestInferenceFlags(t *testing.T) {
	for _, c := range []struct {
		arguments []string
		owners    bool
		find      bool
		servers   []agent.InferenceServer
		ports     int
	}{
		{nil, true, true, nil, len(agent.DefaultConfig().Inference.Ports)},
		{nil, false, false, nil, len(agent.DefaultConfig().Inference.Ports)}, // nobody is known to look for
		{
			[]string{"--inference-find=false", "--inference", "gateway:8000,role=gateway", "--inference-port", "8000", "--inference-port", "9000"},
			true, false,
			[]agent.InferenceServer{{URL: "http://gateway:8000/metrics", Role: "gateway"}},
			2,
		},
	} {
		var o inferenceOptions
		to := agent.DefaultConfig().Inference
		command := newPlaceCommand()
		inferenceFlags(command, &o, &to)
		if err := command.ParseFlags(c.arguments); err != nil {
			t.Fatal(err)
		}
		owners := agent.Owners{Find: c.owners}
		owners.Proc = fstest.MapFS{}
		if err := o.apply(&to, owners); err != nil {
			t.Errorf("%q: %v", c.arguments, err)
		}
		if diff := cmp.Diff(c.servers, to.Servers); diff != "" || to.Find != c.find || len(to.Ports) != c.ports || to.Proc == nil {
			t.Errorf("%q: %+v, (-want +got)\n%s", c.arguments, to, diff)
		}
	}
	for want, o := range map[string]inferenceOptions{
		`--inference-port "http"`: {ports: []string{"http"}}, `--inference-port "0"`: {ports: []string{"0"}}, `role "main"`: {servers: []string{"h:1,role=main"}},
	} {
		if err := o.apply(&agent.Inference{}, agent.Owners{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
