// SPDX-License-Identifier: Apache-2.0

package inference

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Why there are no counts. They are explained in docs/tokens.md.
const (
	reasonNoTokens    = "no_token_counters" // the page has counters of the engine, and none of tokens
	reasonUnknown     = "unknown_metrics"   // the page has no counters of an engine that is known
	reasonNoPage      = "no_metrics_page"   // it answers, and not with a page
	reasonUnreachable = "unreachable"
	reasonTooLarge    = "page_too_large"
	reasonMalformed   = "page_malformed"
	reasonModels      = "too_many_models"
	reasonSeveral     = "several_servers" // behind one address: their counters take turns
)

// target is one server that is read.
type target struct {
	found

	seen time.Time // when it was last found
	next time.Time // when it may be read
	wait time.Duration
	counters

	// What the latest reading said.
	readAt  time.Time
	covered time.Duration // by its increments; 0 if it has none
	result  outcome
	failed  error
	reason  string
	logged  string // what was logged of it at the latest
	told    bool   // something was

	// What the rows said.
	saidAt     time.Time
	saidReason string
}

// page gets the page, if the server has an address at all.
func (t *target) page(ctx context.Context, client *http.Client, names names) (*page, error) {
	if t.nowhere {
		return nil, fmt.Errorf("it listens on no port that is known, and its pod names none: %w", errNoPage)
	}
	return names.get(ctx, client, t.url)
}

// longestWait is the longest time between two readings of a server that gives no page.
const longestWait = 10 * time.Minute

// read reads the page. One that gives none is asked less and less often.
func (t *target) read(ctx context.Context, client *http.Client, names names, all []engine, every time.Duration) {
	p, err := t.page(ctx, client, names)
	t.readAt, t.failed, t.covered, t.result = time.Now(), err, 0, outcome{}
	if err != nil {
		t.reason = reasonOf(err)
		t.wait = min(max(2*t.wait, every), longestWait)
		t.next = t.readAt.Add(t.wait - every/2)
		return
	}
	t.wait, t.next = 0, time.Time{}
	if len(p.prefixed) == 0 {
		t.reason = reasonUnknown
		t.next = t.readAt.Add(longestWait)
		return
	}
	before := t.counters.at
	if t.counters.pages > 0 {
		t.covered = t.readAt.Sub(before)
	}
	t.result = t.counters.take(all, p, t.found, t.readAt)
	t.reason = t.result.reason
}

func reasonOf(err error) string {
	switch {
	case errors.Is(err, errNoPage):
		return reasonNoPage
	case errors.Is(err, errTooLarge):
		return reasonTooLarge
	case errors.Is(err, errMalformed):
		return reasonMalformed
	default:
		return reasonUnreachable
	}
}

// isServer tells that there is a server: one that was only guessed at, and gives no page, may be anything.
func (t *target) isServer() bool {
	return !t.guessed || t.counters.pages > 0 || t.engine != ""
}
