// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/schema/xid"
)

// faultFlags is where faults are heard of, and how they are judged.
func faultFlags(c *cobra.Command, k *agent.KernelLog, overrides *string) {
	f := c.Flags()
	f.StringVar(&k.Device, "kernel-log", "/dev/kmsg", "the kernel's log, for XIDs that NVML does not report; empty: do not read it")
	f.StringVar(&k.StateDir, "state-dir", "/var/lib/gpufleet", "folder that keeps over restarts how far the kernel's log was read and which states of GPUs last; it is made if it is not there")
	f.BoolVar(&k.UserLines, "kernel-log-drill", false, "take lines that programs wrote to the kernel's log for the kernel's own, to try alerts out")
	f.StringVar(overrides, "xid-overrides", "", "YAML file with your own severity, class and action of XIDs (gpufleet xid --help has an example)")
}

// readOverrides reads an operator's judgements; none if there is no file.
func readOverrides(path string) (*xid.Overrides, error) {
	o := &xid.Overrides{}
	if path == "" {
		return o, nil
	}
	return o, o.Load(path)
}
