// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"strings"
	"testing"
)

const (
	pod    = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
	podBar = "3fa85f64_5717_4562_b3fc_2c963f66afa6"
	static = "d39b9c2a6e1f4b7d8c5a0e9f1b2c3d4e"
	idA    = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	idB    = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

func TestParse(t *testing.T) {
	cases := []struct {
		name, text string
		want       Place
	}{
		{"nothing", "", Place{}},
		{"the root", "0::/\n", Place{}},
		{"a login", "0::/user.slice/user-1000.slice/session-4.scope\n", Place{}},
		{"a service", "0::/system.slice/ollama.service\n", Place{}},

		{"v2, systemd, containerd", "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + podBar + ".slice/cri-containerd-" + idA + ".scope\n", Place{PodUID: pod, Container: idA}},
		{"v2, systemd, guaranteed", "0::/kubepods.slice/kubepods-pod" + podBar + ".slice/cri-containerd-" + idA + ".scope\n", Place{PodUID: pod, Container: idA}},
		{"v2, systemd, cri-o", "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + podBar + ".slice/crio-" + idA + ".scope/container\n", Place{PodUID: pod, Container: idA}},
		{"v2, cgroupfs", "0::/kubepods/burstable/pod" + pod + "/" + idA + "\n", Place{PodUID: pod, Container: idA}},
		{"a static pod", "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + static + ".slice/cri-containerd-" + idA + ".scope\n", Place{PodUID: static, Container: idA}},
		{"kubelet drives systemd, containerd does not", "0::/kubepods-burstable-pod" + podBar + ".slice:cri-containerd:" + idA + "\n", Place{PodUID: pod, Container: idA}},
		{"v1, cgroupfs, docker", "12:pids:/kubepods/besteffort/pod" + pod + "/" + idA + "\n11:devices:/kubepods/besteffort/pod" + pod + "/" + idA + "\n1:name=systemd:/kubepods/besteffort/pod" + pod + "/" + idA + "\n", Place{PodUID: pod, Container: idA}},
		{"v1, only one hierarchy tells", "5:net_cls:/\n4:devices:/kubepods.slice/kubepods-pod" + podBar + ".slice/docker-" + idA + ".scope\n0::/\n", Place{PodUID: pod, Container: idA}},
		{"v1, the pod in one and the container in another", "5:cpu:/docker/" + idB + "\n4:devices:/kubepods/pod" + pod + "/" + idA + "\n", Place{PodUID: pod, Container: idA}},
		{"seen from another pod", "0::/../../kubepods-burstable-pod" + podBar + ".slice/cri-containerd-" + idA + ".scope\n", Place{PodUID: pod, Container: idA}},
		{"seen from the same pod", "0::/../cri-containerd-" + idA + ".scope\n", Place{Container: idA}},

		{"docker, systemd", "0::/system.slice/docker-" + idA + ".scope\n", Place{Container: idA}},
		{"docker, cgroupfs", "0::/docker/" + idA + "\n", Place{Container: idA}},
		{"docker, with systemd inside", "0::/docker/" + idA + "/init.scope\n", Place{Container: idA}},
		{"podman", "0::/machine.slice/libpod-" + idA + ".scope/container\n", Place{Container: idA}},
		{"podman without root", "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + idA + ".scope/container\n", Place{Container: idA}},
		{"the watcher of a container", "0::/machine.slice/libpod-conmon-" + idA + ".scope\n", Place{}},
		{"ECS", "0::/ecs/0123456789abcdef0123456789abcdef/0123456789abcdef0123456789abcdef-3284521\n", Place{Container: "0123456789abcdef0123456789abcdef-3284521"}},
		{"nerdctl", "0::/system.slice/nerdctl-" + idA + ".scope\n", Place{Container: idA}},

		{"docker in a pod", "0::/kubepods/burstable/pod" + pod + "/" + idA + "/docker/" + idB + "\n", Place{PodUID: pod, Container: idA}},
		{"kind: a pod in docker", "0::/system.slice/docker-" + idB + ".scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod" + podBar + ".slice/cri-containerd-" + idA + ".scope\n", Place{PodUID: pod, Container: idA}},
		{"kind, cgroupfs", "0::/docker/" + idB + "/kubelet/kubepods/besteffort/pod" + pod + "/" + idA + "\n", Place{PodUID: pod, Container: idA}},
		{"a pod in a pod", "0::/kubepods/pod" + static + "/" + idB + "/kubepods/pod" + pod + "/" + idA + "\n", Place{PodUID: static, Container: idB}},
		{"a container that plays another pod", "0::/kubepods.slice/kubepods-pod" + podBar + ".slice/cri-containerd-" + idA + ".scope/kubepods.slice/kubepods-pod" + static + ".slice/cri-containerd-" + idB + ".scope\n", Place{PodUID: pod, Container: idA}},
		{"a pod that plays another one's, both in one part", "0::/kubepods/pod" + pod + "/kubepods-burstable-pod" + static + ".slice:cri-containerd:" + idB + "\n", Place{PodUID: pod}},
		{"a job that plays another", "0::/system.slice/slurmstepd.scope/job_123/step_0/user/task_0/slurm/uid_0/job_999/step_1\n", Place{JobID: "123", StepID: "0"}},
		{"a job that plays a pod", "0::/system.slice/slurmstepd.scope/job_123/step_0/user/task_0/kubepods/pod" + pod + "/" + idA + "\n", Place{JobID: "123", StepID: "0"}},
		{"as deep as is looked at", "0::" + strings.Repeat("/a", maxDepth-2) + "/kubepods/pod" + pod, Place{PodUID: pod}},
		{"deeper than is looked at", "0::" + strings.Repeat("/a", maxDepth-1) + "/kubepods/pod" + pod, Place{}},

		{"a user who plays a job", "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-slurm.scope/job_999/step_0\n", Place{}},
		{"a user who plays a pod", "0::/user.slice/user-1000.slice/user@1000.service/pod6f1c2a34-0000-4000-8000-0123456789ab/" + idA + "\n", Place{Container: idA}},
		{"Slurm, v1", "9:devices:/slurm/uid_1000/job_123/step_0/task_0\n8:pids:/system.slice/slurmd.service\n", Place{JobID: "123", StepID: "0", UID: "1000"}},
		{"Slurm, v1, several daemons", "9:devices:/slurm_gpu07/uid_1000/job_123/step_batch\n", Place{JobID: "123", StepID: "batch", UID: "1000"}},
		{"Slurm, v2", "0::/system.slice/slurmstepd.scope/job_123/step_0/user/task_0\n", Place{JobID: "123", StepID: "0"}},
		{"Slurm, v2, several daemons", "0::/system.slice/gpu07_slurmstepd.scope/job_123/step_batch/user/task_special\n", Place{JobID: "123", StepID: "batch"}},
		{"Slurm, outside of any step", "0::/system.slice/slurmstepd.scope/job_123\n", Place{JobID: "123"}},
		{"Slurm's own process", "0::/system.slice/slurmstepd.scope/system\n", Place{}},
		{"Slurm, steps by number", "0::/system.slice/slurmstepd.scope/job_7/step_4294967290/user\n", Place{JobID: "7", StepID: "interactive"}},
		{"Slurm before 20.11", "4:devices:/slurm/uid_0/job_7/step_4294967294\n", Place{JobID: "7", StepID: "batch", UID: "0"}},
		{"Slurm, ssh into a job", "0::/system.slice/slurmstepd.scope/job_7/step_4294967292/user\n", Place{JobID: "7", StepID: "extern"}},
		{"Slurm in a pod", "0::/kubepods.slice/kubepods-pod" + podBar + ".slice/cri-containerd-" + idA + ".scope/system.slice/worker-3_slurmstepd.scope/job_12/step_0/user/task_3\n", Place{PodUID: pod, Container: idA, JobID: "12", StepID: "0"}},
		{"seen from a container", "0::/../../../../system.slice/slurmstepd.scope/job_123/step_0/user/task_0\n", Place{JobID: "123", StepID: "0"}},
		{"a job of another scheduler", "0::/pbs_jobs.service/jobid/job_123\n", Place{}},

		{"rubbish", "0:\nx\n::\n:::::\n0::kubepods/podxyz/" + strings.ToUpper(idA) + "\n0::/slurm/job_/step_\n0::/slurm/job_1x\n", Place{}},
		{"a name that is long enough and no id", "0::/docker/" + strings.Repeat("g", 64) + "\n", Place{}},
	}
	for _, c := range cases {
		if got := Parse(c.text); got != c.want {
			t.Errorf("%s\n%s\n\tgot  %+v\n\twant %+v", c.name, c.text, got, c.want)
		}
	}
}

// FuzzParse: what is reported stands in the text, in one of the forms that the fields promise.
func FuzzParse(f *testing.F) {
	f.Add("0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + podBar + ".slice/cri-containerd-" + idA + ".scope\n")
	f.Add("9:devices:/slurm/uid_1000/job_123/step_0/task_0\n4:devices:/kubepods/pod" + pod + "/" + idA + "\n")
	f.Add("0::/kubepods-burstable-pod" + podBar + ".slice:cri-containerd:" + idA)
	f.Add("0::/ecs/0123456789abcdef0123456789abcdef-1")
	f.Fuzz(func(t *testing.T, text string) {
		place := Parse(text)
		if place.PodUID != "" && !strings.Contains(strings.ReplaceAll(text, "_", "-"), place.PodUID) {
			t.Errorf("pod %q is not in %q", place.PodUID, text)
		}
		for _, s := range []string{place.Container, place.JobID, place.UID} {
			if !strings.Contains(text, s) {
				t.Errorf("%q is not in %q", s, text)
			}
		}
		if place.StepID != "" && place.JobID == "" {
			t.Errorf("a step of no job: %+v", place)
		}
	})
}
