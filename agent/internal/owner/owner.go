// SPDX-License-Identifier: Apache-2.0

// Package owner finds out who uses each GPU of one node, and writes it down as intervals. It asks the
// kubelet what it gave to whom, the API server what those pods are, and /proc whose the processes are
// that the driver lists. It promises that nobody is named by guess; that an interval ends only when
// somebody said so, never because nobody answered; that intervals of a GPU that is not shared do not
// overlap; and that where no owner is found the reason is written.
//
//	sampler ── Usage of each GPU ──▶ Watcher ◀── kubelet, API server, /proc
//	                                   │ look: who has what now
//	                                   ▼
//	                                 tracker: what changed ──▶ rows of gpu_workload
//
// A Watcher has one goroutine, that of Run; it may wait for a kubelet or an API server, each in bounded
// time. Observe only leaves a note for it.
package owner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/agent/internal/owner/kubelet"
	"github.com/gpufleet/gpufleet/agent/internal/owner/pods"
	"github.com/gpufleet/gpufleet/agent/internal/owner/process"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Kubelet tells what was given out on this node.
type Kubelet interface {
	// List is all of it, or an error: kubelet.ErrAbsent if there is no kubelet.
	List(ctx context.Context) (kubelet.Answer, error)
	Close() error
}

// Pods tells what a pod is.
type Pods interface {
	// Get gives one pod, or an error: pods.ErrGone if there is none.
	Get(ctx context.Context, namespace, name string) (pods.Pod, error)
}

// Rows takes rows. It may be used by several goroutines.
type Rows interface {
	// Append adds a row: the wire columns of a table in order. The cells are only valid in the call.
	Append(table uint8, cells []batch.Cell) error
}

// Options is what is looked at, and how.
type Options struct {
	Proc        fs.FS        // the /proc of the host; nil: nothing is known of processes but their numbers
	View        process.View // of Proc, and of what the driver lists
	Environment bool         // read account and user of Slurm jobs from their environment
	Users       string       // file as /etc/passwd, for names of users; "": users are numbers
	Labels      Labels
	Interval    time.Duration // between looks
}

// Config is what a Watcher is told.
type Config struct {
	Options
	Node     string
	Kubelet  Kubelet       // nil: none; closed by Run
	Pods     Pods          // nil: none
	RowEvery time.Duration // between rows of an interval that stays open
	Rows     Rows
	Logger   *slog.Logger
}

// Usage is who uses one GPU, as its driver says.
type Usage struct {
	UUID      string
	Minor     *int64 // of /dev/nvidiaN; nil if the driver does not tell
	Instances []gpu.Instance
	Processes []gpu.Process
	Return    gpu.Return // of the processes
	Gone      bool       // the GPU is no longer in the node: who had it has it no more
}

// settle is the time from the first GPU's usage to a look: those of the others come in the same tick.
const settle = time.Second

// Watcher watches the GPUs of one node. It runs once.
type Watcher struct {
	cfg     Config
	look    *looker
	tracker *tracker
	full    time.Time // when all open intervals were written at the latest
	holders atomic.Pointer[[]Holder]
	news    chan struct{}

	mu   sync.Mutex        // guards the fields below
	gpus map[string]gpuUse // by UUID
	list []string          // UUIDs in the order in which they came
}

// gpuUse is the latest usage of a GPU.
type gpuUse struct {
	Usage

	at time.Time
}

// New makes a watcher.
func New(cfg Config) *Watcher {
	return &Watcher{
		cfg: cfg, look: newLooker(cfg), tracker: newTracker(cfg.Node), news: make(chan struct{}, 1), gpus: make(map[string]gpuUse),
	}
}

// Observe takes the usage of one GPU, and what it holds. It may be called while Run runs, and does not wait.
func (w *Watcher) Observe(u Usage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if u.Gone {
		delete(w.gpus, u.UUID)
		w.list = slices.DeleteFunc(w.list, func(uuid string) bool { return uuid == u.UUID })
		w.wake()
		return
	}
	g, known := w.gpus[u.UUID]
	if !known {
		w.list = append(w.list, u.UUID)
	}
	if u.Return.OK() || u.Return.Unsupported() || !known {
		g.at = time.Now()
	} else {
		u.Processes, u.Return = g.Processes, g.Return // what was seen before is the best that is known
	}
	g.Usage = u
	w.gpus[u.UUID] = g
	w.wake()
}

// wake has Run look.
func (w *Watcher) wake() {
	select {
	case w.news <- struct{}{}:
	default: // it knows already
	}
}

// Run looks after each reading of the GPUs, and also without one, until the context ends. Its error is that
// of a row that could not be written.
func (w *Watcher) Run(ctx context.Context) error {
	w.full = time.Now().Add(-time.Duration(wire.NodeID(w.cfg.Node) % uint64(w.cfg.RowEvery)))
	timer := time.NewTimer(w.cfg.Interval)
	defer timer.Stop()
	var err error
	for settling := false; err == nil; {
		select {
		case <-ctx.Done():
			return w.close(w.write(w.tracker.all(time.Now())))
		case <-w.news:
			if !settling {
				settling = true
				timer.Reset(settle)
			}
		case <-timer.C:
			settling = false
			err = w.once(ctx)
			timer.Reset(2 * w.cfg.Interval) // GPUs that hang bring no news
		}
	}
	return w.close(err)
}

// once looks, and writes what is new.
func (w *Watcher) once(ctx context.Context) error {
	seen := w.look.look(ctx, w.usages())
	if toTheEnd := ctx.Err() == nil; !toTheEnd {
		return nil // who was not asked may have known
	}
	now := time.Now()
	changed := w.tracker.update(now, seen)
	w.publish()
	if now.Sub(w.full) >= w.cfg.RowEvery {
		w.full = now
		changed = append(changed, w.tracker.all(now)...)
	}
	return w.write(changed)
}

// usages are the latest usages.
func (w *Watcher) usages() []gpuUse {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := make([]gpuUse, 0, len(w.list))
	for _, uuid := range w.list {
		list = append(list, w.gpus[uuid])
	}
	return list
}

func (w *Watcher) close(err error) error {
	if w.cfg.Kubelet != nil {
		err = errors.Join(err, w.cfg.Kubelet.Close())
	}
	if err != nil {
		return fmt.Errorf("watch who uses the GPUs: %w", err)
	}
	return nil
}
