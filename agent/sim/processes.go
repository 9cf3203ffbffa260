// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

var (
	_ gpu.Processes = (*device)(nil)
	_ gpu.Instances = (*device)(nil)
)

// Processes lists the one process that works on the GPU, or on the first of its instances, if any does.
func (d *device) Processes(kinds gpu.ProcessKinds, into []gpu.Process) ([]gpu.Process, gpu.Return) {
	now, ret := d.enterLocked(callProcesses)
	if !ret.OK() {
		return into, ret
	}
	defer d.board.mu.Unlock()
	if d.board.demand.resident && kinds.Has(gpu.ComputeProcess) {
		tenant := d.board.plan.tenantAt(now / int64(quantum))
		process := gpu.Process{
			PID: tenant.processID(d.board.index), Kind: gpu.ComputeProcess, MemoryBytes: uint64(d.board.memoryUsed()), MemoryKnown: true,
			GI: gpu.NoInstance, CI: gpu.NoInstance,
		}
		if len(d.board.slices) > 0 {
			process.GI, process.CI = d.board.slices[0].gi, 0
		}
		into = append(into, process)
	}
	return into, gpu.Success
}

// tenant is whose work runs on a group of GPUs, and since when.
type tenant struct {
	kind   Workload
	chance uint64 // seed of all that it is called by
	start  int64  // quantum
}

// tenantAt is the tenant at quantum q: of training each job, of all else one a day.
func (p *plan) tenantAt(q int64) tenant {
	if p.kind == Training {
		j := p.jobAt(q)
		return tenant{kind: Training, chance: j.chance, start: j.start}
	}
	shift := wholeBetween(hash(p.seed, 20), 0, quantaPerDay-1)
	day := (q - shift) / quantaPerDay
	return tenant{kind: p.kind, chance: hash(hash(p.seed, 21), uint64(day)), start: day*quantaPerDay + shift}
}

// mostProcesses bounds the process numbers, as pid_max does on machines of this size.
const mostProcesses = 1 << 22

// processesPerTenant is how many numbers a tenant has on a node: one for each GPU.
const processesPerTenant = 16

// processID is the number of the process on the GPU with the given index.
func (t *tenant) processID(index int) uint32 {
	first := 1 + hash(t.chance, 1)%(mostProcesses/processesPerTenant-1)
	return uint32(first*processesPerTenant) + uint32(index)
}

func (t *tenant) started() time.Time { return time.Unix(0, t.start*int64(quantum)) }

// The tenants of a simulated fleet.
var (
	teams  = []string{"assistants", "search", "speech", "vision", "recommendations"}
	models = []string{"llama-3.3-70b", "qwen3-32b", "mixtral-8x22b", "whisper-large-v3", "bge-m3"}
)

func (t *tenant) team() string  { return teams[hash(t.chance, 2)%uint64(len(teams))] }
func (t *tenant) model() string { return models[hash(t.chance, 3)%uint64(len(models))] }
func (t *tenant) user() int     { return int(1001 + hash(t.chance, 4)%40) }
func (t *tenant) jobID() int    { return int(100_000 + hash(t.chance, 5)%900_000) }

// Pod is one pod of a simulated node that serves requests.
type Pod struct {
	Namespace, Name, UID   string
	Container, ContainerID string
	Started                time.Time
	Deployment             string // that owns it
	Team, Model            string // as its labels say
	GPUs                   []int  // by index on the node
	Address                string // IP
}

// Pods lists the pods that hold GPUs of the node now: replicas of one deployment, each with a few GPUs.
func (n *Node) Pods() []Pod {
	if n.plan.kind != Inference {
		return nil
	}
	t := n.plan.tenantAt(n.now().UnixNano() / int64(quantum))
	size := min(len(n.boards), 1<<(hash(t.chance, 6)%3)) // GPUs of a replica: 1, 2 or 4
	deployment := t.model() + "-" + t.team()
	var pods []Pod
	for first := 0; first < len(n.boards); first += size {
		p := Pod{
			Namespace: "serving", Container: "server", Started: t.started(), Deployment: deployment, Team: t.team(), Model: t.model(),
			Name: fmt.Sprintf("%s-%08x-%05x", deployment, uint32(hash(t.chance, 7)), hash(t.chance, 30+uint64(first))&0xfffff),
			UID:  t.podUID(first), ContainerID: t.containerID(first), Address: fmt.Sprintf("10.42.0.%d", 10+first),
		}
		for i := first; i < min(first+size, len(n.boards)); i++ {
			p.GPUs = append(p.GPUs, i)
		}
		pods = append(pods, p)
	}
	return pods
}

func (t *tenant) podUID(first int) string {
	return deviceUUID(hash(t.chance, 50+uint64(first)))[len("GPU-"):]
}

func (t *tenant) containerID(first int) string {
	seed := hash(t.chance, 70+uint64(first))
	return fmt.Sprintf("%016x%016x%016x%016x", hash(seed, 1), hash(seed, 2), hash(seed, 3), hash(seed, 4))
}
