// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/event"
)

// The kernel takes a GPU from the driver only when nobody has it open any more, and the library of the driver has all
// GPUs open until it is closed. So an unbind ends the session, and the next one begins when it should be done; GPUs
// that the driver is given are seen by whoever opens it anew.
const (
	unbindWait = 5 * time.Second // that the driver stays closed
	bindSettle = 2 * time.Second // GPUs are seldom bound one by one
)

var (
	errUnbinding = errors.New("a GPU is being unbound from the driver")
	errBound     = errors.New("a GPU was bound to the driver")
)

// watchBindings passes on what the driver tells of GPUs that are bound and unbound.
func (r *session) watchBindings(ctx context.Context, driver gpu.Binder) {
	wait := time.Second
	for ctx.Err() == nil {
		b, ret := driver.NextBinding(time.Second)
		switch {
		case ret.OK():
			select {
			case r.changes <- b:
			case <-ctx.Done():
			}
			wait = time.Second
		case ret == gpu.Timeout:
		case ret.Unsupported(), ret.Gone():
			return
		default:
			r.cfg.Logger.Warn("wait for GPUs to be bound or unbound", "return", ret, "retry_in", wait)
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
			wait = min(2*wait, time.Minute)
		}
	}
}

// binding is what comes of such a change.
func (r *session) binding(b gpu.Binding) error {
	if b.Bound {
		r.reopen = time.Now().Add(bindSettle)
		return nil
	}
	message := "the kernel takes it from the driver"
	if h, known := r.known[b.UUID]; known {
		h.unbound = true
	} else if b.UUID == "" {
		r.unnamed, message = true, "the kernel takes a GPU from the driver, and it is not clear which: that which is not listed then"
	}
	r.cfg.Logger.Info("GPU is being unbound", "gpu", b.UUID)
	err := r.write(event.Event{Time: b.Time, UUID: b.UUID, Kind: "gpu_unbound", Message: message})
	if err != nil {
		return err
	}
	return errUnbinding
}

// standAside keeps away from the driver while a GPU is unbound.
func (s *Sampler) standAside(ctx context.Context) error {
	if err := s.write(event.Event{Kind: "driver_released", Message: fmt.Sprintf("a GPU is being unbound; for %s", unbindWait)}); err != nil {
		return err
	}
	if err := s.pause(ctx, unbindWait); err != nil || ctx.Err() != nil {
		return err
	}
	return s.write(event.Event{Kind: "driver_resumed", Message: "to see which GPUs there are"})
}
