// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestOwnerFlags(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	proc := t.TempDir()
	o := agent.DefaultConfig().Owners
	if err := (ownerOptions{find: "auto", proc: proc, label: true}).apply(&o, logger); err != nil || !o.Find || o.Proc == nil {
		t.Errorf("%v, %+v", err, o)
	}
	o = agent.DefaultConfig().Owners
	if err := (ownerOptions{find: "off", proc: proc}).apply(&o, logger); err != nil || o.Find || o.Proc != nil {
		t.Errorf("off: %v, %+v", err, o)
	}
	for _, path := range []string{"", "/no/such/folder"} {
		o = agent.DefaultConfig().Owners
		if err := (ownerOptions{find: "auto", proc: path}).apply(&o, logger); err != nil || !o.Find || o.Proc != nil {
			t.Errorf("--proc %q: %v, %+v", path, err, o)
		}
	}
	if got := strings.Count(log.String(), "processes are known by number alone"); got != 1 {
		t.Errorf("%d warnings, want one of the folder that is not there:\n%s", got, log.String())
	}
	if err := (ownerOptions{find: "yes"}).apply(&o, logger); err == nil || !strings.Contains(err.Error(), "want auto or off") {
		t.Errorf("--owners yes: %v", err)
	}
}

// In a pod the API server is asked, with what a pod finds of it, unless the operator does not want that.
func TestOwnerFlagsInACluster(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	const account = "/var/run/secrets/kubernetes.io/serviceaccount/"
	for label, want := range map[bool]agent.PodAPI{
		true: {APIServer: "https://10.0.0.1:443", TokenFile: account + "token", CAFile: account + "ca.crt"}, false: {},
	} {
		o := agent.DefaultConfig().Owners
		if err := (ownerOptions{find: "auto", label: label}).apply(&o, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, o.API); diff != "" {
			t.Errorf("--pod-labels=%v (-want +got)\n%s", label, diff)
		}
	}
}

func TestLabelFlags(t *testing.T) {
	for _, c := range []struct {
		arguments []string
		want      agent.OwnerLabels
	}{
		{nil, agent.OwnerLabels{Team: []string{"team"}, Model: []string{"model"}, Role: []string{"llm-d.ai/role", "nvidia.com/dynamo-sub-component-type"}}},
		{
			[]string{"--team-label", "example.com/team", "--team-label", "squad", "--deployment-label", "app", "--role-label", "role"},
			agent.OwnerLabels{Team: []string{"example.com/team", "squad"}, Model: []string{"model"}, Deployment: []string{"app"}, Role: []string{"role"}},
		},
	} {
		var o ownerOptions
		to := agent.DefaultConfig().Owners
		command := newPlaceCommand()
		ownerFlags(command, &o, &to)
		if err := command.ParseFlags(c.arguments); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, to.Labels); diff != "" || to.KubeletSocket != agent.DefaultKubeletSocket {
			t.Errorf("%q (-want +got)\n%s", c.arguments, diff)
		}
	}
}

// A recording goes to others: it does not say who used the GPUs.
func TestRecordingsNameNoUsers(t *testing.T) {
	r := &recorder{} // has nowhere to write to
	r.take(&wire.Batch{Identity: wire.Identity{Table: schema.WorkloadID}})
	if r.err != nil {
		t.Error(r.err)
	}
}
