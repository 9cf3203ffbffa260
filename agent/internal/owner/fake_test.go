// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/agent/internal/owner/device"
	"github.com/gpufleet/gpufleet/agent/internal/owner/kubelet"
	"github.com/gpufleet/gpufleet/agent/internal/owner/pods"
	"github.com/gpufleet/gpufleet/agent/internal/owner/process"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

const (
	gpuA = "GPU-5c89852c-1268-c3f3-1b07-caf5db65f1a0"
	gpuB = "GPU-1f0c2b3d-aaaa-bbbb-cccc-0123456789ab"
	migA = "MIG-6bd1a2ab-4f0e-5b3c-9c1d-0f1e2d3c4b5a"

	uidA = "aaaaaaaa-3c1d-4f83-9a52-0b7a4c6d1e2f"
	uidB = "bbbbbbbb-3c1d-4f83-9a52-0b7a4c6d1e2f"
)

// world is a node as a Watcher finds it, in the bubble of synctest. A test changes it while nothing runs.
type world struct {
	t     *testing.T
	start time.Time

	mu      sync.Mutex // guards the fields below
	gpus    map[string]*Usage
	given   []kubelet.Allocation
	kubelet error // of its answers
	pods    map[string]pods.Pod
	api     error // of the API server
	asked   int   // pods
	proc    fstest.MapFS
	options Options
	rows    []written
}

// written is a row of gpu_workload by column name, without NULLs.
type written map[string]batch.Cell

func newWorld(t *testing.T, uuids ...string) *world {
	t.Helper()
	w := &world{
		t: t, start: time.Now().Truncate(time.Second), gpus: make(map[string]*Usage), pods: make(map[string]pods.Pod), proc: fstest.MapFS{},
		options: Options{View: process.View{All: true, Resolves: true}, Labels: DefaultLabels(), Interval: 10 * time.Second},
	}
	w.proc["stat"] = &fstest.MapFile{Data: fmt.Appendf(nil, "btime %d\n", w.start.Add(-time.Hour).Unix())}
	for i, uuid := range uuids {
		minor := int64(i)
		w.gpus[uuid] = &Usage{UUID: uuid, Minor: &minor}
	}
	return w
}

// Open implements fs.FS.
func (w *world) Open(name string) (fs.File, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.proc.Open(name)
}

// List implements Kubelet.
func (w *world) List(context.Context) (kubelet.Answer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.kubelet != nil {
		return kubelet.Answer{}, w.kubelet
	}
	return kubelet.Answer{Allocations: slices.Clone(w.given)}, nil
}

// Close implements Kubelet.
func (w *world) Close() error { return nil }

// Get implements Pods.
func (w *world) Get(_ context.Context, namespace, name string) (pods.Pod, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	pod, ok := w.pods[namespace+"/"+name]
	switch {
	case w.api != nil:
		return pods.Pod{}, w.api
	case !ok:
		return pods.Pod{}, pods.ErrGone
	}
	return pod, nil
}

// Append implements Rows.
func (w *world) Append(table uint8, cells []batch.Cell) error {
	t, _ := schema.TableByID(table)
	columns := t.WireColumns()
	if table != schema.WorkloadID || len(cells) != len(columns) {
		return fmt.Errorf("%d cells for table %d", len(cells), table)
	}
	r := make(written)
	for i, c := range cells {
		if c.OK {
			r[columns[i].Name] = c
		} else if !columns[i].Nullable {
			return fmt.Errorf("%s is NULL", columns[i].Name)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rows = append(w.rows, r)
	return nil
}

// written is how many rows there are.
func (w *world) written() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.rows)
}

// change alters the world.
func (w *world) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// life is one life of an agent.
type life struct {
	*world

	watcher *Watcher
	end     func()
}

// live starts an agent.
func (w *world) live(change ...func(*Config)) *life {
	w.t.Helper()
	o := w.options
	o.Proc = w
	cfg := Config{Options: o, Node: "node-a", Kubelet: w, Pods: w, RowEvery: time.Hour, Rows: w, Logger: slog.New(slog.DiscardHandler)}
	for _, c := range change {
		c(&cfg)
	}
	l := &life{world: w, watcher: New(cfg)}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- l.watcher.Run(ctx) }()
	l.end = func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	}
	return l
}

// pass lets times of ten seconds pass. The GPUs are read at the beginning of each, and looked at a second later.
func (l *life) pass(looks int) {
	for range looks {
		for _, uuid := range slices.Sorted(maps.Keys(l.gpus)) {
			u := *l.gpus[uuid]
			u.Processes, u.Instances = slices.Clone(u.Processes), slices.Clone(u.Instances)
			l.watcher.Observe(u)
		}
		<-time.After(10 * time.Second)
		synctest.Wait()
	}
}

// run puts a process on a GPU. Its start is told in seconds after the world's.
func (w *world) run(uuid string, pid uint32, name, cgroup string, started int) {
	w.change(func() {
		w.gpus[uuid].Processes = append(w.gpus[uuid].Processes, gpu.Process{
			PID: pid, MemoryBytes: 1 << 30, MemoryKnown: true, GI: gpu.NoInstance, CI: gpu.NoInstance,
		})
		ticks := (started + 3600) * 100
		w.proc[fmt.Sprintf("%d/stat", pid)] = &fstest.MapFile{Data: fmt.Appendf(nil, "%d (%s) S%s %d 0\n", pid, name, strings.Repeat(" 1", 18), ticks)}
		w.proc[fmt.Sprintf("%d/cgroup", pid)] = &fstest.MapFile{Data: []byte("0::" + cgroup + "\n")}
		w.proc[fmt.Sprintf("%d/status", pid)] = &fstest.MapFile{Data: []byte("Uid:\t1000\t1000\t1000\t1000\n")}
	})
}

// quit ends a process.
func (w *world) quit(pid uint32) {
	w.change(func() {
		for _, u := range w.gpus {
			u.Processes = slices.DeleteFunc(u.Processes, func(p gpu.Process) bool { return p.PID == pid })
		}
		for _, file := range []string{"stat", "cgroup", "status"} {
			delete(w.proc, fmt.Sprintf("%d/%s", pid, file))
		}
	})
}

// grant has the kubelet give a device to a container.
func (w *world) grant(namespace, pod, container, id string) {
	name, ok := device.Parse(id)
	if !ok {
		w.t.Fatalf("%q names no device", id)
	}
	w.change(func() {
		w.given = append(w.given, kubelet.Allocation{Namespace: namespace, Pod: pod, Container: container, Device: name})
	})
}

// revoke takes the devices of a pod back.
func (w *world) revoke(pod string) {
	w.change(func() {
		w.given = slices.DeleteFunc(w.given, func(a kubelet.Allocation) bool { return a.Pod == pod })
	})
}

// know has the API server know a pod, which started so many seconds after the world.
func (w *world) know(name, uid string, started int, labels, containers map[string]string) {
	namespace, pod, _ := strings.Cut(name, "/")
	w.change(func() {
		w.pods[name] = pods.Pod{
			Namespace: namespace, Name: pod, UID: uid, Started: w.start.Add(time.Duration(started) * time.Second),
			Labels: labels, Deployment: strings.TrimRight(pod, "-0123456789"), Containers: containers,
		}
	})
}

// errAway is an answer that does not come.
var errAway = errors.New("connection refused")

// intervals are what a view makes of the rows about a GPU: of each interval the first row says when it began, the
// last all else. Times are in seconds after the world's start.
func (w *world) intervals(uuid string) (lines []string) {
	type interval struct {
		from, to string
		begin    int64
		last     written
	}
	found := make(map[int64]*interval)
	since := func(c batch.Cell) string { return fmt.Sprint(time.UnixMilli(c.Int).Sub(w.start).Seconds()) }
	for _, r := range w.rowsOf(uuid) {
		iv := found[r["assignment_id"].Int]
		if iv == nil {
			iv = &interval{from: since(r["valid_from"]), begin: r["valid_from"].Int}
			found[r["assignment_id"].Int] = iv
		}
		iv.to, iv.last = "", r
		if to, ended := r["valid_to"]; ended {
			iv.to = since(to)
		}
	}
	sorted := slices.SortedFunc(maps.Values(found), func(a, b *interval) int {
		return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.last.owner(), b.last.owner()))
	})
	for _, iv := range sorted {
		lines = append(lines, iv.from+".."+iv.to+" "+iv.last.owner())
	}
	return lines
}

// rowsOf are the rows about a GPU.
func (w *world) rowsOf(uuid string) []written {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.rows), func(r written) bool { return uint64(r["gpu_id"].Int) != wire.GPUID(uuid) })
}

// owner sums up whom a row is about.
func (r written) owner() string {
	parts := []string{r["owner_kind"].Text}
	for _, column := range []string{"reason", "namespace", "pod", "container", "job_id"} {
		if c, ok := r[column]; ok {
			parts = append(parts, c.Text)
		}
	}
	if r["owner_kind"].Text == kindProcess {
		parts = append(parts, strconv.FormatInt(r["process_id"].Int, 10))
	}
	if r["shared"].Int == 1 {
		parts = append(parts, "shared")
	}
	return strings.Join(parts, " ")
}

// want compares the intervals of a GPU.
func (w *world) want(uuid string, want ...string) {
	w.t.Helper()
	if got := w.intervals(uuid); !slices.Equal(got, want) {
		w.t.Errorf("%s:\n\t%s\nwant\n\t%s", uuid, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}
