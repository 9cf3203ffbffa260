// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/gpufleet/gpufleet/agent"
)

// ownerOptions is what the flags say of who uses the GPUs.
type ownerOptions struct {
	find  string // auto or off
	proc  string
	label bool // ask the API server for pods
}

func ownerFlags(c *cobra.Command, o *ownerOptions, to *agent.Owners) {
	f := c.Flags()
	f.StringVar(&o.find, "owners", "auto", "auto: find out who uses each GPU, from the kubelet, the cluster and /proc; off: ask nobody")
	f.StringVar(&to.KubeletSocket, "kubelet-socket", agent.DefaultKubeletSocket, "the kubelet's pod-resources socket, as it is mounted here; empty: do not ask it")
	f.BoolVar(&o.label, "pod-labels", true, "in a cluster, ask the API server for labels and owners of the pods with GPUs; needs the right to get pods")
	f.StringArrayVar(&to.Labels.Team, "team-label", to.Labels.Team, "label of a pod that names its team; may be repeated, the first that the pod has counts")
	f.StringArrayVar(&to.Labels.Model, "model-label", to.Labels.Model, "label of a pod that names the model it serves or trains; may be repeated")
	f.StringArrayVar(&to.Labels.Deployment, "deployment-label", to.Labels.Deployment, "label of a pod that names its deployment; without one it is what made the pod; may be repeated")
	f.StringArrayVar(&to.Labels.Role, "role-label", to.Labels.Role, "label of a pod that says whether it prefills, decodes, does both or is a gateway; may be repeated")
	f.StringVar(&o.proc, "proc", "/proc", "the host's /proc, as it is mounted here, to see whose processes use a GPU; empty: do not look")
	f.BoolVar(&to.Environment, "slurm-environment", false, "read account and user of Slurm jobs from the environment of their processes, and nothing else of it")
	f.StringVar(&to.Users, "users", "/etc/passwd", "file with the names of users, as it is mounted here; empty: users are numbers")
}

// apply completes what the agent is told of owners.
func (o ownerOptions) apply(to *agent.Owners, logger *slog.Logger) error {
	switch o.find {
	case "auto":
		to.Find = true
	case "off":
		return nil
	default:
		return fmt.Errorf("--owners %q: want auto or off", o.find)
	}
	if cluster := agent.InCluster(os.Getenv); o.label && cluster.APIServer != "" {
		to.API = agent.PodAPI{APIServer: cluster.APIServer, TokenFile: cluster.TokenFile, CAFile: cluster.CAFile}
	}
	root := os.DirFS(o.proc)
	if to.View = agent.LookAtProcesses(root); !to.View.All {
		logger.Info("the driver shows this program only processes of its own PID namespace: share the host's (hostPID) to see all")
	}
	if o.proc == "" {
		return nil
	}
	if _, err := os.Stat(o.proc); err != nil {
		logger.Warn("processes are known by number alone: give the host's /proc as it is mounted here, or --proc ''", "error", err)
		return nil
	}
	to.Proc = root
	return nil
}
