// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

// Proc is the /proc of the node, with the processes that its driver lists: of training jobs in Slurm's
// cgroups, of pods in the kubelet's. A file is as it is at the moment when it is opened.
func (n *Node) Proc() fs.FS { return procFS{n} }

type procFS struct{ node *Node }

// ReadDir implements fs.ReadDirFS for the folder itself: it lists the processes.
func (p procFS) ReadDir(name string) ([]fs.DirEntry, error) {
	if name != "." {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	var entries []fs.DirEntry
	add := func(pid uint32) {
		entries = append(entries, fs.FileInfoToDirEntry(procInfo{strconv.FormatUint(uint64(pid), 10)}))
	}
	if p.node.profiled() {
		add(profilerPID)
	}
	t := p.node.plan.tenantAt(p.node.now().UnixNano() / int64(quantum))
	for i := range p.node.boards {
		if t.kind != Idle {
			add(t.processID(i))
		}
	}
	return entries, nil
}

// profilerPID is the process of a profiler, if one runs.
const profilerPID = 999

// profiled tells that a profiler runs on the node.
func (n *Node) profiled() bool {
	now := n.now().UnixNano()
	n.happen(now)
	for i := range n.boards {
		b := &n.boards[i]
		b.mu.Lock()
		until := b.fault.profiledUntil
		b.mu.Unlock()
		if now/int64(quantum) < until {
			return true
		}
	}
	return false
}

// Open implements fs.FS for files alone.
func (p procFS) Open(name string) (fs.File, error) {
	text, ok := p.text(name)
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &procFile{Reader: strings.NewReader(text), name: name}, nil
}

// bootSeconds is when a simulated machine booted: so long ago that every process started later.
const bootSeconds = 0

// text is the text of a file.
func (p procFS) text(name string) (string, bool) {
	if name == "stat" {
		return fmt.Sprintf("cpu  0 0 0 0\nbtime %d\n", bootSeconds), true
	}
	if name == fmt.Sprintf("%d/comm", profilerPID) && p.node.profiled() {
		return "ncu\n", true
	}
	number, file, _ := strings.Cut(name, "/")
	pid, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return "", false
	}
	t := p.node.plan.tenantAt(p.node.now().UnixNano() / int64(quantum))
	index := int64(pid) - int64(t.processID(0))
	if index < 0 || index >= int64(len(p.node.boards)) || t.kind == Idle {
		return "", false
	}
	switch file {
	case "stat":
		ticks := t.started().UnixMilli()/10 - bootSeconds*100
		return fmt.Sprintf("%d (%s) S%s %d 0 0\n", pid, t.program(), strings.Repeat(" 1", 18), ticks), true
	case "comm":
		return t.program() + "\n", true
	case "status":
		return fmt.Sprintf("Name:\t%s\nUid:\t%[2]d\t%[2]d\t%[2]d\t%[2]d\n", t.program(), t.user()), true
	case "cgroup":
		return "0::" + p.node.cgroup(&t, int(index)) + "\n", true
	case "environ":
		if t.kind == Training {
			return fmt.Sprintf("SLURM_JOB_ID=%d\x00SLURM_JOB_ACCOUNT=%s\x00SLURM_JOB_USER=user%d\x00", t.jobID(), t.team(), t.user()), true
		}
		return "", true
	}
	return "", false
}

func (t *tenant) program() string {
	switch t.kind {
	case Inference:
		return "VLLM::Worker"
	case Burn:
		return "gpu_burn"
	default:
		return "python3"
	}
}

// cgroup is the path of the process on a GPU.
func (n *Node) cgroup(t *tenant, index int) string {
	switch t.kind {
	case Training:
		return fmt.Sprintf("/system.slice/slurmstepd.scope/job_%d/step_0/user/task_%d", t.jobID(), index)
	case Inference:
		for _, pod := range n.Pods() {
			if index >= pod.GPUs[0] && index <= pod.GPUs[len(pod.GPUs)-1] {
				uid := strings.ReplaceAll(pod.UID, "-", "_")
				return "/kubepods.slice/kubepods-pod" + uid + ".slice/cri-containerd-" + pod.ContainerID + ".scope"
			}
		}
	case Burn, Idle:
	}
	return fmt.Sprintf("/user.slice/user-%d.slice/session-1.scope", t.user())
}

// procFile is one open file.
type procFile struct {
	io.Reader

	name string
}

func (f *procFile) Close() error               { return nil }
func (f *procFile) Stat() (fs.FileInfo, error) { return procInfo{f.name}, nil }

// procInfo tells of a file what /proc tells: nearly nothing.
type procInfo struct{ name string }

func (i procInfo) Name() string     { return i.name[strings.LastIndexByte(i.name, '/')+1:] }
func (procInfo) Size() int64        { return 0 }
func (procInfo) Mode() fs.FileMode  { return 0o444 }
func (procInfo) ModTime() time.Time { return time.Time{} }
func (procInfo) IsDir() bool        { return false }
func (procInfo) Sys() any           { return nil }
