// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/owner/kubelet"
	"github.com/gpufleet/gpufleet/agent/internal/owner/process"
)

// inBubble runs a test of a world with GPUs.
func inBubble(t *testing.T, uuids []string, f func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(newWorld(t, uuids...)) })
}

func podCgroup(uid, container string) string { return "/kubepods/pod" + uid + "/" + container }

const (
	containerA = "5e0c5e0c5e0c5e0c5e0c5e0c5e0c5e0c5e0c5e0c5e0c5e0c5e0c5e0c5e0c5e0c"
	containerB = "7a1d7a1d7a1d7a1d7a1d7a1d7a1d7a1d7a1d7a1d7a1d7a1d7a1d7a1d7a1d7a1d"
	jobCgroup  = "/system.slice/slurmstepd.scope/job_123/step_0/user/task_0"
)

// One pod follows another, and then nobody: the intervals meet, and each knows its pod.
func TestPods(t *testing.T) {
	inBubble(t, []string{gpuA, gpuB}, func(w *world) {
		w.know("ml/train-0", uidA, -300, map[string]string{"team": "vision", "model": "vit"}, map[string]string{containerA: "main"})
		w.grant("ml", "train-0", "main", gpuA)
		w.run(gpuA, 7, "python3", podCgroup(uidA, containerA), -200)
		l := w.live()
		l.pass(3)
		w.quit(7)
		w.revoke("train-0")
		w.know("ml/serve-0", uidB, 25, nil, nil)
		w.grant("ml", "serve-0", "main", gpuA)
		l.pass(1)
		w.revoke("serve-0")
		l.pass(2)
		l.end()
		w.want(gpuA, "-300..25 kubernetes ml train-0 main", "25..41 kubernetes ml serve-0 main", "41.. none free")
		w.want(gpuB, "1.. none free")
		first := w.rowsOf(gpuA)[0]
		for column, want := range map[string]string{"pod_uid": uidA, "team": "vision", "workload_model": "vit", "deployment": "train", "process_name": "python3"} {
			if got := first[column].Text; got != want {
				t.Errorf("%s is %q, want %q", column, got, want)
			}
		}
		if first["process_count"].Int != 1 || first["memory_used_bytes"].Int != 1<<30 || first["process_id"].Int != 7 {
			t.Errorf("process of the pod: %v", first)
		}
		if _, told := first["user_name"]; told {
			t.Error("the user inside of a container is nobody outside")
		}
	})
}

// A kubelet that does not answer, or is not there for a while, changes nothing. What happened meanwhile is seen
// when it is back.
func TestKubeletThatIsAwayClosesNothing(t *testing.T) {
	for _, away := range []error{errAway, kubelet.ErrAbsent} {
		inBubble(t, []string{gpuA}, func(w *world) {
			w.know("ml/train-0", uidA, -300, nil, nil)
			w.know("ml/serve-0", uidB, 47, nil, nil)
			w.grant("ml", "train-0", "main", gpuA)
			l := w.live()
			l.pass(2)
			w.change(func() { w.kubelet = away })
			w.revoke("train-0")
			w.grant("ml", "serve-0", "main", gpuA)
			l.pass(5)
			w.want(gpuA, "-300.. kubernetes ml train-0 main")
			w.change(func() { w.kubelet = nil })
			l.pass(1)
			l.end()
			w.want(gpuA, "-300..47 kubernetes ml train-0 main", "47.. kubernetes ml serve-0 main")
		})
	}
}

// An agent that starts while the kubelet is away does not know whether somebody has the GPU. When it is told, that
// takes the place of what was not known.
func TestKubeletThatIsAwayAtTheStart(t *testing.T) {
	inBubble(t, []string{gpuA, gpuB}, func(w *world) {
		w.know("ml/train-0", uidA, -300, nil, nil)
		w.grant("ml", "train-0", "main", gpuA)
		w.kubelet = errAway
		l := w.live()
		l.pass(3)
		w.want(gpuA, "1.. none kubelet_unreachable")
		w.change(func() { w.kubelet = nil })
		l.pass(1)
		l.end()
		w.want(gpuA, "-300.. kubernetes ml train-0 main", "1..1 none kubelet_unreachable")
		w.want(gpuB, "1..31 none kubelet_unreachable", "31.. none free")
	})
}

// The next life of an agent goes on with the intervals of the one before, as far as the owners tell when they began.
func TestRestartGoesOn(t *testing.T) {
	inBubble(t, []string{gpuA, gpuB, "GPU-c", "GPU-d"}, func(w *world) {
		w.know("ml/train-0", uidA, -300, nil, nil)
		w.grant("ml", "train-0", "main", gpuA)
		w.run(gpuB, 8, "python3", jobCgroup, -200)
		w.run("GPU-c", 9, "game", "/user.slice", -100)
		w.run("GPU-d", 10, "server", "/docker/"+containerA, -50)
		for range 2 {
			l := w.live()
			l.pass(2)
			l.end()
		}
		w.want(gpuA, "-300.. kubernetes ml train-0 main")
		w.want(gpuB, "-200.. slurm 123")
		w.want("GPU-c", "-100.. process 9")
		w.want("GPU-d", "-50.. container "+containerA)
		if r := w.rowsOf(gpuB)[0]; r["user_name"].Text != "1000" || r["deployment"].Text != "123" || r["job_step"].Text != "0" {
			t.Errorf("the job: %v", r)
		}
	})
}

// Several pods share a GPU. Each has its own processes, which their cgroups tell; where the pods' UIDs are not
// known, a process is nobody's.
func TestTimeSlicing(t *testing.T) {
	for _, known := range []bool{true, false} {
		inBubble(t, []string{gpuA}, func(w *world) {
			w.know("lab/ada", uidA, -300, nil, map[string]string{containerA: "notebook"})
			w.know("lab/ben", uidB, -200, nil, map[string]string{containerB: "notebook"})
			if !known {
				w.api = errAway
			}
			w.grant("lab", "ada", "notebook", gpuA+"::0")
			w.grant("lab", "ada", "notebook", gpuA+"::1")
			w.grant("lab", "ben", "notebook", gpuA+"::3")
			w.run(gpuA, 7, "ada", podCgroup(uidA, containerA), -250)
			w.run(gpuA, 8, "ben", podCgroup(uidB, containerB), -150)
			w.run(gpuA, 9, "ben2", podCgroup(uidB, containerB), -150)
			l := w.live()
			l.pass(1)
			if asked := w.asked; asked != 2 {
				t.Errorf("%d questions about two pods", asked)
			}
			l.pass(11) // whoever has others beside it is not in doubt
			if asked := w.asked; known && asked != 2 {
				t.Errorf("%d questions about two pods in two minutes", asked)
			}
			l.end()
			w.revoke("ben")
			want := map[bool][]string{
				true:  {"-300.. kubernetes lab ada notebook shared", "-200.. kubernetes lab ben notebook shared"},
				false: {"1.. kubernetes lab ada notebook shared", "1.. kubernetes lab ben notebook shared"},
			}
			w.want(gpuA, want[known]...)
			for _, r := range w.rowsOf(gpuA)[:2] {
				count := map[bool]map[string]int64{true: {"ada": 1, "ben": 2}, false: {}}[known][r["pod"].Text]
				if r["process_count"].Int != count {
					t.Errorf("%s has %d processes, want %d", r["pod"].Text, r["process_count"].Int, count)
				}
			}
		})
	}
}

// A process whose cgroup says that it belongs to another pod than the kubelet gave the GPU to: the kubelet is believed,
// and the row tells of it. While the kubelet does not answer the cgroup counts, and of a GPU that it gave to nobody.
func TestACgroupAgainstTheKubelet(t *testing.T) {
	inBubble(t, []string{gpuA, gpuB}, func(w *world) {
		w.know("ml/a-0", uidA, -300, nil, map[string]string{containerA: "main"})
		w.grant("ml", "a-0", "main", gpuA)
		w.run(gpuA, 7, "honest", podCgroup(uidA, containerA), -200)
		l := w.live()
		l.pass(1)
		w.run(gpuA, 8, "forged", podCgroup(uidB, containerB), -100)
		w.run(gpuB, 9, "unallocated", podCgroup(uidB, containerB), -100)
		l.pass(2)
		rows := w.rowsOf(gpuA)
		if last := rows[len(rows)-1]; last["process_count"].Int != 1 || last["process_id"].Int != 7 {
			t.Errorf("the forged process counts: %v", last)
		}
		w.want(gpuA, "-300.. kubernetes cgroup_contradicts ml a-0 main")
		w.want(gpuB, "1..11 none free", "11.. kubernetes not_allocated "+containerB)
		w.quit(8)
		l.pass(1)
		w.want(gpuA, "-300.. kubernetes ml a-0 main")
		w.change(func() { w.kubelet = errAway })
		w.run(gpuA, 10, "another", podCgroup(uidB, containerB), 25)
		l.pass(2)
		l.end()
		if got := strings.Join(w.intervals(gpuA), "; "); !strings.Contains(got, "kubernetes ml a-0 main shared") || !strings.Contains(got, "kubernetes "+containerB+" shared") {
			t.Errorf("while the kubelet is away: %s", got)
		}
	})
}

// A share is shared even while nobody else has one; it is not once it is alone and whole.
func TestOwnersThatComeAndGoBesideOthers(t *testing.T) {
	inBubble(t, []string{gpuA}, func(w *world) {
		w.run(gpuA, 70, "a", "/user.slice", -100)
		l := w.live()
		l.pass(2)
		w.run(gpuA, 8, "b", "/user.slice", 15)
		l.pass(2)
		w.quit(70)
		l.pass(2)
		l.end()
		w.want(gpuA, "-100..41 process 70 shared", "15.. process 8")
		var shared []int64
		for _, r := range w.rowsOf(gpuA) {
			if r["process_id"].Int == 70 {
				shared = append(shared, r["shared"].Int)
			}
		}
		if !slices.Equal(shared, []int64{0, 1, 1}) {
			t.Errorf("process 70 was shared: %v", shared)
		}
	})
}

// A process that began long ago and only now uses the GPU did not have it before.
func TestProcessThatComesLateToTheGPU(t *testing.T) {
	inBubble(t, []string{gpuA}, func(w *world) {
		l := w.live()
		l.pass(3)
		w.run(gpuA, 7, "python3", "/user.slice", -500)
		l.pass(1)
		w.quit(7)
		l.pass(1)
		w.run(gpuA, 7, "python3", "/user.slice", -500)
		l.pass(1)
		l.end()
		w.want(gpuA, "1..31 none free", "31..41 process 7", "41..51 none free", "51.. process 7")
	})
}

// In Kubernetes, Slurm's nodes may be pods that have all GPUs; a job has them while it runs.
func TestJobsInPods(t *testing.T) {
	inBubble(t, []string{gpuA}, func(w *world) {
		w.know("slurm/node-0", uidA, -3000, nil, map[string]string{containerA: "slurmd"})
		w.grant("slurm", "node-0", "slurmd", gpuA)
		l := w.live()
		l.pass(2)
		w.run(gpuA, 7, "python3", podCgroup(uidA, containerA)+jobCgroup, 15)
		l.pass(2)
		w.quit(7)
		l.pass(1)
		l.end()
		w.want(gpuA, "-3000..15 kubernetes slurm node-0 slurmd", "15..41 slurm slurm node-0 123", "41.. kubernetes slurm node-0 slurmd")
	})
}

// Instances have owners of their own, the GPU that is split has none. An instance that is destroyed has no owner
// any more.
func TestInstances(t *testing.T) {
	inBubble(t, []string{gpuA}, func(w *world) {
		whole := []gpu.Instance{{UUID: migA, GI: 1, CI: 0}, {UUID: "MIG-b", GI: 2, CI: 0}}
		w.gpus[gpuA].Instances = whole
		w.know("ml/embed-0", uidA, -300, nil, nil)
		w.grant("ml", "embed-0", "main", migA)
		w.run(gpuA, 7, "python3", "/user.slice", -100)
		w.gpus[gpuA].Processes[0].GI, w.gpus[gpuA].Processes[0].CI = 2, 0
		l := w.live()
		l.pass(2)
		w.revoke("embed-0")
		w.quit(7)
		w.change(func() { w.gpus[gpuA].Instances = nil })
		l.pass(1)
		l.end()
		w.want(migA, "-300..21 kubernetes ml embed-0 main")
		w.want("MIG-b", "-100..21 process 7")
		w.want(gpuA, "1..21 none split", "21.. none free")
	})
}

// Why nobody was found.
func TestReasons(t *testing.T) {
	cases := map[string]struct {
		change func(*world)
		want   string
	}{
		"nobody":               {func(*world) {}, "free"},
		"no kubelet":           {func(w *world) { w.kubelet = kubelet.ErrAbsent }, "free"},
		"in a container":       {func(w *world) { w.options.View = process.View{} }, "not_allocated"},
		"in a container alone": {func(w *world) { w.options.View, w.kubelet = process.View{}, kubelet.ErrAbsent }, "processes_hidden"},
		"no permission":        {func(w *world) { w.gpus[gpuA].Return, w.kubelet = gpu.NoPermission, kubelet.ErrAbsent }, "processes_hidden"},
		"an old driver":        {func(w *world) { w.gpus[gpuA].Return, w.kubelet = gpu.FunctionNotFound, kubelet.ErrAbsent }, "processes_unsupported"},
		"no answer":            {func(w *world) { w.kubelet = errAway }, "kubelet_unreachable"},
		"the MPS server":       {func(w *world) { w.run(gpuA, 7, "nvidia-cuda-mps", "/user.slice", 0) }, "free"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			inBubble(t, []string{gpuA}, func(w *world) {
				c.change(w)
				l := w.live()
				l.pass(2)
				l.end()
				w.want(gpuA, "1.. none "+c.want)
			})
		})
	}
}

// A GPU that hangs brings no news: who runs there still has it, who ended has not.
func TestGPUThatIsSilent(t *testing.T) {
	inBubble(t, []string{gpuA, gpuB}, func(w *world) {
		w.kubelet = kubelet.ErrAbsent
		w.run(gpuA, 7, "a", "/user.slice", -100)
		w.run(gpuB, 8, "b", "/user.slice", -100)
		l := w.live()
		l.pass(1)
		<-time.After(100 * time.Second)
		w.want(gpuA, "-100.. process 7")
		w.quit(7)
		<-time.After(30 * time.Second)
		synctest.Wait()
		l.end()
		w.want(gpuA, "-100..121 process 7", "121.. none gpu_silent")
		w.want(gpuB, "-100.. process 8")
	})
}

// A GPU that is no longer in the node has no owners, and not that of one that is silent for ever.
func TestGPUThatIsGone(t *testing.T) {
	inBubble(t, []string{gpuA, gpuB}, func(w *world) {
		w.kubelet = kubelet.ErrAbsent
		w.run(gpuA, 7, "a", "/user.slice", -100)
		w.run(gpuB, 8, "b", "/user.slice", -100)
		l := w.live()
		l.pass(1)
		<-time.After(20 * time.Second)
		l.watcher.Observe(Usage{UUID: gpuB, Gone: true})
		<-time.After(3 * time.Hour)
		synctest.Wait()
		rows := w.written()
		<-time.After(3 * time.Hour)
		synctest.Wait()
		more := w.written() - rows
		l.end()
		w.want(gpuB, "-100..31 process 8") // found at the next look
		if more != 3 {
			t.Errorf("%d rows in three hours, want those of the GPU that is there", more)
		}
	})
}

// While the kubelet is away, processes still tell who has a GPU, and when another one took it.
func TestProcessesWhileTheKubeletIsAway(t *testing.T) {
	inBubble(t, []string{gpuA}, func(w *world) {
		w.run(gpuA, 7, "a", "/user.slice", -100)
		w.kubelet = errAway
		l := w.live()
		l.pass(3)
		w.quit(7)
		w.run(gpuA, 8, "b", "/user.slice", -90)
		l.pass(2)
		l.end()
		w.want(gpuA, "-100..31 process 7", "31.. process 8")
	})
}

// What the driver says only now and then does not open and close intervals.
func TestDriverThatFailsNowAndThen(t *testing.T) {
	inBubble(t, []string{gpuA}, func(w *world) {
		w.run(gpuA, 7, "a", "/user.slice", -100)
		l := w.live()
		l.pass(2)
		w.change(func() { w.gpus[gpuA].Processes, w.gpus[gpuA].Return = nil, gpu.Unknown })
		l.pass(2)
		l.end()
		w.want(gpuA, "-100.. process 7")
	})
}

// Process numbers are given anew. One that is not in /proc has just ended; if it is not there again, it is hidden.
func TestProcessNumbers(t *testing.T) {
	inBubble(t, []string{gpuA, gpuB}, func(w *world) {
		w.run(gpuA, 7, "a", "/user.slice", -100)
		w.run(gpuB, 8, "b", "/user.slice", -100)
		w.change(func() { delete(w.proc, "8/stat") })
		l := w.live()
		l.pass(3)
		w.quit(7)
		w.run(gpuA, 7, "c", "/user.slice", 25)
		l.pass(1)
		l.end()
		w.want(gpuA, "-100..25 process 7", "25.. process 7")
		w.want(gpuB, "1..11 none free", "11.. process 8")
	})
}

// What becomes known later belongs to the same interval, and is not forgotten when nobody answers any more. What
// changes all the time is not worth a row.
func TestFactsThatBecomeKnown(t *testing.T) {
	inBubble(t, []string{gpuA}, func(w *world) {
		w.grant("ml", "train-0", "main", gpuA)
		w.know("ml/train-0", uidA, 5, map[string]string{"team": "vision"}, nil)
		w.api = errAway
		l := w.live()
		l.pass(3)
		w.change(func() { w.api = nil })
		l.pass(1)
		w.run(gpuA, 7, "python3", podCgroup(uidA, containerA), 35)
		l.pass(1)
		for i := range 5 {
			w.change(func() { w.gpus[gpuA].Processes[0].MemoryBytes = uint64(i) << 20 })
			l.pass(1)
		}
		w.change(func() { w.api = errAway })
		l.pass(90)
		l.end()
		w.want(gpuA, "1.. kubernetes ml train-0 main")
		rows := w.rowsOf(gpuA)
		var teams []string
		for _, r := range rows {
			teams = append(teams, r["team"].Text)
		}
		if !slices.Equal(teams, []string{"", "vision", "vision", "vision"}) { // opened, labels, a process, the end
			t.Errorf("teams by row: %q", teams)
		}
		if last := rows[len(rows)-1]; last["pod_uid"].Text != uidA || last["memory_used_bytes"].Int != 4<<20 {
			t.Errorf("the last row: %v", last)
		}
	})
}

// An interval that stays open is written once an hour, and at the end: what is silent for two hours is over.
func TestOpenIntervalsAreWrittenEachHour(t *testing.T) {
	inBubble(t, []string{gpuA}, func(w *world) {
		w.run(gpuA, 7, "a", "/user.slice", -100)
		l := w.live()
		l.pass(3 * 360)
		l.end()
		rows := w.rowsOf(gpuA)
		if len(rows) != 5 {
			t.Fatalf("%d rows in three hours: one at the start, three on the hour, one at the end", len(rows))
		}
		for i, r := range rows[2:4] {
			if d := r["ts"].Int - rows[i+1]["ts"].Int; d < 3590_000 || d > 3610_000 {
				t.Errorf("%d ms between two rows", d)
			}
		}
	})
}

// Without /proc there are the numbers of processes, and nothing more.
func TestWithoutProc(t *testing.T) {
	inBubble(t, []string{gpuA}, func(w *world) {
		w.run(gpuA, 7, "a", jobCgroup, -100)
		l := w.live(func(c *Config) { c.Proc, c.Kubelet, c.Pods = nil, nil, nil })
		l.pass(2)
		l.end()
		w.want(gpuA, "1.. process 7")
	})
}

// Account and user of a job are in its environment, which is read if the operator wants it.
func TestEnvironment(t *testing.T) {
	inBubble(t, []string{gpuA}, func(w *world) {
		w.run(gpuA, 7, "a", jobCgroup, -100)
		w.proc["7/environ"] = &fstest.MapFile{Data: []byte("SLURM_JOB_ACCOUNT=vision\x00SLURM_JOB_USER=ada\x00")}
		w.options.Environment = true
		l := w.live()
		l.pass(1)
		l.end()
		if r := w.rowsOf(gpuA)[0]; r["account"].Text != "vision" || r["user_name"].Text != "ada" {
			t.Errorf("%v", r)
		}
	})
}

// A pod that was made anew under its old name is another one: its processes are in containers that the old one did
// not have.
func TestPodUnderAnOldName(t *testing.T) {
	inBubble(t, []string{gpuA}, func(w *world) {
		w.know("ml/db-0", uidA, -300, nil, map[string]string{containerA: "main"})
		w.grant("ml", "db-0", "main", gpuA)
		w.run(gpuA, 7, "a", podCgroup(uidA, containerA), -300)
		l := w.live()
		l.pass(7)
		w.quit(7)
		w.know("ml/db-0", uidB, 65, nil, map[string]string{containerB: "main"})
		w.run(gpuA, 8, "a", podCgroup(uidB, containerB), 67)
		l.pass(2)
		l.end()
		w.want(gpuA, "-300..65 kubernetes ml db-0 main", "65.. kubernetes ml db-0 main")
	})
}
