// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
)

// guard ends the streams whose proof does not hold any more: its time is over, or keys, authorities or revoked
// certificates have changed. It looks each second, which is how long such a stream lasts at most.
func (r *Receiver) guard(ctx context.Context) {
	ticker := time.NewTicker(r.cfg.limits.guardEvery)
	defer ticker.Stop()
	changed, forgotten := r.cfg.Trust.Changed(), r.cfg.now()
	for {
		anew := false
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-changed:
			anew, changed = true, r.cfg.Trust.Changed()
		}
		now := r.cfg.now()
		for _, s := range r.openStreams() {
			s.prove(anew, now) //nolint:contextcheck // the stream has its own, which says who it is
		}
		if now.Sub(forgotten) >= time.Minute {
			r.guests.forget(now)
			forgotten = now
		}
	}
}

// prove ends the stream if it is not proved now.
func (s *stream) prove(anew bool, now time.Time) {
	var err error
	if over := !s.proof.until.IsZero() && !now.Before(s.proof.until); anew || over {
		_, err = s.authorize(s.put.Context())
		if err == nil && over { // the certificate and the token, each at its time, say otherwise: a moment's difference
			err = refuse(codes.Unauthenticated, "proof_expired", "what proved node %s is over: connect again", s.proof.node)
		}
	}
	if err == nil || s.unproved.Swap(true) { // once: it may take a moment until it is gone
		return
	}
	s.metrics.endedStream(s.put.Context(), err)
	s.cfg.Logger.Warn("stream ended: it is not proved any more", "node", s.hello.Name, "table", s.table.Name, "error", err)
	s.cancel(err)
}

func (r *Receiver) openStreams() []*stream {
	r.streamsMu.Lock()
	defer r.streamsMu.Unlock()
	open := make([]*stream, 0, len(r.streams))
	for s := range r.streams {
		open = append(open, s)
	}
	return open
}

// watch has the guard look after a stream until forget is called.
func (r *Receiver) watch(s *stream) (forget func()) {
	r.streamsMu.Lock()
	defer r.streamsMu.Unlock()
	r.streams[s] = struct{}{}
	return func() {
		r.streamsMu.Lock()
		defer r.streamsMu.Unlock()
		delete(r.streams, s)
	}
}
