// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gpufleet/gpufleet/agent/control"
)

// Where an agent looks unless it is told otherwise.
const (
	kubeletFolder = "var/lib/kubelet"
	kubeletSocket = "var/lib/kubelet/pod-resources/kubelet.sock"
	rdmaFolder    = "sys/class/infiniband"
	spoolFolder   = "var/lib/gpufleet/spool"
)

// firstPIDNamespace is that of the host: the kernel gives it this number for good.
const firstPIDNamespace = "pid:[4026531836]"

// rights says what an agent that runs as this user, in this container, would see and keep, and what each right
// that it lacks would buy. It samples without any of them.
func (m machine) rights(ctx context.Context) []Finding {
	if m.system != "linux" {
		return nil
	}
	return []Finding{m.sram(), m.processes(), m.kubelet(), m.rdma(), m.spool(), m.agent(ctx)}
}

// sram: the driver tells SRAM errors to root alone.
func (m machine) sram() Finding {
	const check = "SRAM errors"
	if m.user != 0 {
		return warn(check, fmt.Sprintf("this is user %d: the driver counts SRAM errors for root alone, so sram_* is NULL, and sram_threshold, a reason to replace a GPU, is never told", m.user),
			"run the agent as root")
	}
	return ok(check, "root may read them")
}

// processes: who uses a GPU is found by its processes, as the host numbers them.
func (m machine) processes() Finding {
	const check = "processes"
	namespace, err := os.Readlink(m.path("proc/self/ns/pid"))
	switch {
	case err != nil:
		return warn(check, fmt.Sprintf("it is not known whose processes are seen: %v", err), "mount /proc")
	case namespace != firstPIDNamespace:
		return warn(check, "this container sees its own processes alone: users, Slurm jobs and containers that use a GPU have no names",
			"in Kubernetes hostPID: true, elsewhere --pid=host. Pods are found without it, by the kubelet")
	case m.user != 0:
		return ok(check, "all of the host's are seen; --slurm-environment needs root, or the capability CAP_SYS_PTRACE")
	default:
		return ok(check, "all of the host's are seen")
	}
}

// kubelet knows which pod has which GPU.
func (m machine) kubelet() Finding {
	const check = "kubelet"
	path := m.path(kubeletSocket)
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(m.path(kubeletFolder)); errors.Is(err, fs.ErrNotExist) {
			return ok(check, "none here: this is no node of Kubernetes, or its folders are not mounted")
		}
	}
	if err == nil {
		err = m.mayAccess(path, unix.R_OK|unix.W_OK)
	}
	if err != nil {
		return warn(check, fmt.Sprintf("%v: the pods that have the GPUs are not known", err),
			"mount /var/lib/kubelet/pod-resources into the agent's container, read-only, and run the agent as root")
	}
	return ok(check, "%s can be asked which pod has which GPU", path)
}

func (m machine) rdma() Finding {
	const check = "network ports"
	path := m.path(rdmaFolder)
	devices, err := os.ReadDir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ok(check, "no InfiniBand, RoCE or EFA device: %s is not there", path)
	case err != nil:
		return warn(check, fmt.Sprintf("%v: states, rates and errors of InfiniBand, RoCE and EFA ports are not read", err), "mount /sys into the agent's container, read-only")
	default:
		return ok(check, "%d devices in %s", len(devices), path)
	}
}

// spool looks at the folder, or at the first of those above it that is there.
func (m machine) spool() Finding {
	const check = "spool"
	folder := m.path(spoolFolder)
	for folder != m.root {
		if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		folder = filepath.Dir(folder)
	}
	if err := m.mayAccess(folder, unix.W_OK|unix.X_OK); err != nil {
		return warn(check, fmt.Sprintf("%s: %v: batches that are not stored yet are in memory alone, and lost if the agent ends", folder, err),
			"give the agent a folder that outlives its container, and name it with --spool-dir")
	}
	return ok(check, "%s can be written", folder)
}

// agentAnswers is how long an agent has to say how it does.
const agentAnswers = 2 * time.Second

// agent asks the one that runs here.
func (m machine) agent(ctx context.Context) Finding {
	const check = "agent"
	path := m.path(control.DefaultPath)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return ok(check, "none listens at %s", path)
	}
	ctx, cancel := context.WithTimeout(ctx, agentAnswers)
	defer cancel()
	s, err := control.Client{Path: path}.Status(ctx)
	switch {
	case err != nil:
		return warn(check, err.Error(), "run doctor as the agent's user, or as root; if no agent runs any more, the next one takes its place")
	case s.Released != "":
		return warn(check, "the GPU driver is released: "+s.Released, "gpufleet-agent resume")
	case s.ConfigRejected != "":
		return warn(check, "what it read last is not in force: "+s.ConfigRejected, "mend it, and send SIGHUP again")
	case s.SpoolFailing:
		return warn(check, "its spool cannot be written: batches are in memory alone", "look at its log: the disk may be full")
	default:
		return ok(check, "%s", strings.TrimSpace(fmt.Sprintf("%s runs for %s: %d GPUs answer, %d batches wait", s.Version, s.Node, s.GPUs, s.BatchesWaiting)))
	}
}
