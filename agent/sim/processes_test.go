// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// processes are the numbers of the processes on each GPU that has one.
func (r *rig) processes() map[int]uint32 {
	r.t.Helper()
	found := make(map[int]uint32)
	for i, d := range r.devices {
		list, ret := d.(gpu.Processes).Processes(gpu.AllProcesses, nil)
		if !ret.OK() || len(list) > 1 {
			r.t.Fatalf("processes of GPU %d: %+v, %v", i, list, ret)
		}
		if len(list) == 1 {
			found[i] = list[0].PID
		}
	}
	return found
}

func (r *rig) proc(name string) string {
	r.t.Helper()
	text, err := fs.ReadFile(r.node.Proc(), name)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}

// A job's processes stay for as long as it runs; the next job has others.
func TestProcessesOfJobs(t *testing.T) {
	r := newRig(t, NodeConfig{Model: H100, Seed: 7})
	numbers, jobs := make(map[uint32]string), make(map[string]bool)
	idle := 0
	for range 12 * 60 {
		r.pass(time.Minute)
		list := r.processes()
		if len(list) == 0 {
			idle++
			continue
		}
		if len(list) != r.node.GPUs() {
			t.Fatalf("a job on some of the GPUs: %v", list)
		}
		for i, pid := range list {
			cgroup := r.proc(fmt.Sprintf("%d/cgroup", pid))
			if before, known := numbers[pid]; known && before != cgroup {
				t.Fatalf("process %d was in %q, and is in %q", pid, before, cgroup)
			}
			numbers[pid] = cgroup
			job, task, _ := strings.Cut(cgroup, "/step_0")
			if jobs[job] = true; task != fmt.Sprintf("/user/task_%d\n", i) {
				t.Fatalf("GPU %d: %q", i, cgroup)
			}
		}
	}
	if len(jobs) < 5 || len(numbers) != len(jobs)*r.node.GPUs() || idle == 0 {
		t.Errorf("%d jobs, %d processes, nobody in %d of 720 minutes", len(jobs), len(numbers), idle)
	}
}

func TestProcOfAJob(t *testing.T) {
	r := newRig(t, NodeConfig{Model: H100, Seed: 7})
	for len(r.processes()) == 0 {
		r.pass(time.Minute)
	}
	pid := r.processes()[3]
	j := r.node.plan.jobAt(r.time().UnixNano() / int64(quantum))
	started := time.Unix(0, j.start*int64(quantum))
	want := fmt.Sprintf("%d (python3) S%s %d 0 0\n", pid, strings.Repeat(" 1", 18), started.UnixMilli()/10)
	if got := r.proc(fmt.Sprintf("%d/stat", pid)); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := r.proc(fmt.Sprintf("%d/environ", pid)); !strings.Contains(got, "\x00SLURM_JOB_ACCOUNT=") {
		t.Errorf("environment %q", got)
	}
	if got := r.proc(fmt.Sprintf("%d/status", pid)); !strings.Contains(got, "\nUid:\t1") {
		t.Errorf("status %q", got)
	}
	for _, name := range []string{fmt.Sprintf("%d/stat", pid+16), fmt.Sprintf("%d/cmdline", pid), "self/status", "x"} {
		if _, err := r.node.Proc().Open(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Each GPU that serves is one pod's, and its process is in that pod's container.
func TestProcessesOfPods(t *testing.T) {
	for seed := range uint64(6) {
		r := newRig(t, NodeConfig{Model: H100, Seed: seed, Workload: Inference})
		list := r.processes()
		var gpus []int
		for _, pod := range r.node.Pods() {
			for _, i := range pod.GPUs {
				gpus = append(gpus, i)
				got := r.proc(fmt.Sprintf("%d/cgroup", list[i]))
				if uid := strings.ReplaceAll(pod.UID, "-", "_"); !strings.Contains(got, "-pod"+uid+".slice/cri-containerd-"+pod.ContainerID+".scope") {
					t.Errorf("GPU %d: %q, but the pod is %s", i, got, pod.UID)
				}
			}
			if !pod.Started.Before(r.time()) || !strings.HasPrefix(pod.Name, pod.Deployment+"-") {
				t.Errorf("%+v", pod)
			}
		}
		slices.Sort(gpus)
		if !slices.Equal(gpus, []int{0, 1, 2, 3, 4, 5, 6, 7}) {
			t.Errorf("seed %d: the pods have GPUs %v", seed, gpus)
		}
	}
}

func TestIdleNodesHaveNoProcesses(t *testing.T) {
	r := newRig(t, NodeConfig{Model: H100, Workload: Idle})
	if list := r.processes(); len(list) > 0 || len(r.node.Pods()) > 0 {
		t.Errorf("%v, %v", list, r.node.Pods())
	}
	r.inject(Fault{Kind: LoseGPU})
	if list, ret := r.devices[0].(gpu.Processes).Processes(gpu.AllProcesses, nil); ret != gpu.GPUIsLost || len(list) > 0 {
		t.Errorf("a lost GPU: %v, %v", list, ret)
	}
}
