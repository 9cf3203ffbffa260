// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/owner/pods"
)

const (
	// podRefresh is for how long a pod is taken to be what it was: labels can be changed.
	podRefresh = 10 * time.Minute
	// podRetry is the wait after a question that failed.
	podRetry = 30 * time.Second
	// podDoubt is the wait before a pod is asked for again whose processes do not fit to it.
	podDoubt = time.Minute
	// podBudget bounds the time that one look spends on pods.
	podBudget = 5 * time.Second
)

// podCache knows the pods that have GPUs.
type podCache struct {
	pods    Pods // nil: nobody can be asked
	logger  *slog.Logger
	entries map[podName]*podEntry
	failure string // that was logged
}

type podName struct{ namespace, name string }

type podEntry struct {
	pod   pods.Pod
	known bool
	asked time.Time
	used  bool // in this look
}

func newPodCache(cfg Config) *podCache {
	return &podCache{pods: cfg.Pods, logger: cfg.Logger, entries: make(map[podName]*podEntry)}
}

// get is what is known of a pod. fits tells whether what was known before can be true still. A pod that
// cannot be asked for stays what it was.
func (c *podCache) get(ctx context.Context, name podName, fits func(pods.Pod) bool) (pods.Pod, bool) {
	if c.pods == nil {
		return pods.Pod{}, false
	}
	e := c.entries[name]
	if e == nil {
		e = &podEntry{}
		c.entries[name] = e
	}
	e.used = true
	wait := podRefresh
	switch {
	case e.asked.IsZero():
		wait = 0
	case !e.known:
		wait = podRetry
	case !fits(e.pod):
		wait = podDoubt
	}
	if time.Since(e.asked) >= wait && ctx.Err() == nil {
		c.ask(ctx, name, e)
	}
	return e.pod, e.known
}

func (c *podCache) ask(ctx context.Context, name podName, e *podEntry) {
	pod, err := c.pods.Get(ctx, name.namespace, name.name)
	e.asked = time.Now()
	switch {
	case err == nil:
		e.pod, e.known = pod, true
		c.failure = ""
	case errors.Is(err, pods.ErrGone): // the kubelet has it for a while longer
	case errors.Is(err, context.Canceled):
	case err.Error() != c.failure:
		c.failure = err.Error()
		c.logger.Warn("pods with GPUs are known by name alone", "error", err, "retry_in", podRetry)
	}
}

// knows tells whether a UID is that of a pod that has a GPU.
func (c *podCache) knows(uid string) bool {
	for _, e := range c.entries {
		if e.pod.UID == uid {
			return true
		}
	}
	return false
}

// sweep forgets the pods that no look asked for since the last sweep.
func (c *podCache) sweep() {
	for name, e := range c.entries {
		if !e.used {
			delete(c.entries, name)
			continue
		}
		e.used = false
	}
}
