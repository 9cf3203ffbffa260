// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/event"
)

// leash holds a sampler back from its driver, as long as somebody else needs it alone: to load another
// version of it, to change MIG instances, to give the GPU to a virtual machine.
type leash struct {
	mu     sync.Mutex // guards the fields below
	reason string     // not empty while the driver is released
	since  time.Time
	end    context.CancelFunc // ends the use of the driver; nil while it is not used
	closed chan struct{}      // closed when it is not used any more; of one release
	resume chan struct{}      // closed when it may be used again; of one release
	behind bool               // a call of the driver did not return
}

// ErrBusy says that the driver could not be closed.
var ErrBusy = errors.New("a call of the GPU driver does not return: it is still in use")

// Release lets go of the driver, and returns when it is closed. It is opened again after Resume. The reason is
// written with the event; a driver that is released already keeps its first one.
func (s *Sampler) Release(ctx context.Context, reason string) error {
	closed := s.leash.release(reason, time.Now())
	select {
	case <-closed:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	s.leash.mu.Lock()
	defer s.leash.mu.Unlock()
	if s.leash.behind {
		return ErrBusy
	}
	return nil
}

// Resume takes up the driver again; false if it was not released.
func (s *Sampler) Resume() bool {
	l := &s.leash
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reason == "" {
		return false
	}
	l.reason = ""
	close(l.resume)
	return true
}

// Released tells why the driver is released, and since when; "" if it is not.
func (s *Sampler) Released() (reason string, since time.Time) {
	s.leash.mu.Lock()
	defer s.leash.mu.Unlock()
	return s.leash.reason, s.leash.since
}

func (l *leash) release(reason string, now time.Time) (closed <-chan struct{}) {
	if reason == "" {
		reason = "asked to"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reason == "" {
		l.reason, l.since = reason, now
		l.closed, l.resume = make(chan struct{}), make(chan struct{})
		if l.end == nil {
			close(l.closed)
		} else {
			l.end()
		}
	}
	return l.closed
}

// use begins a use of the driver: the context ends with the given one, or when the driver is released. stop ends
// the use.
func (l *leash) use(ctx context.Context) (using context.Context, stop func()) {
	using, cancel := context.WithCancel(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end, l.behind = cancel, false
	if l.reason != "" {
		cancel()
	}
	return using, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if isOpen(l.closed) {
			close(l.closed)
		}
		l.end = nil
		cancel()
	}
}

// isOpen tells of a channel that nobody sends to whether it is there and not closed.
func isOpen(c <-chan struct{}) bool {
	select {
	case <-c:
		return false
	default:
		return c != nil
	}
}

// leftBehind notes that a call of the driver did not return when it was closed.
func (l *leash) leftBehind() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.behind = true
}

// whileReleased waits for as long as the driver is released: rows of others are still sent.
func (s *Sampler) whileReleased(ctx context.Context) error {
	l := &s.leash
	l.mu.Lock()
	reason, resume := l.reason, l.resume
	l.mu.Unlock()
	if reason == "" {
		return nil
	}
	if err := s.write(event.Event{Kind: "driver_released", Message: reason}); err != nil {
		return err
	}
	s.cfg.Logger.Info("the GPU driver is released", "reason", reason)
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-resume:
			cancel()
		case <-waiting.Done():
		}
	})
	for waiting.Err() == nil {
		if err := s.pause(waiting, s.cfg.RescanInterval); err != nil {
			return err
		}
	}
	watching.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return s.write(event.Event{Kind: "driver_resumed", Message: "asked to"})
}
