// SPDX-License-Identifier: Apache-2.0

// Package health is how a program says whether it can do its work: a list of checks, each with a state and, unless all
// is well, a reason that a person can act on. It has no goroutines and keeps nothing.
package health

import "fmt"

// State is what a check came to.
type State string

// The states. Whoever asks a program with a Failing check whether it is ready is told no.
const (
	OK      State = "ok"
	Warning State = "warning" // it works, and will not for long, or not as well as it should
	Failing State = "failing" // it does not work
)

// Check is one thing that was looked at.
type Check struct {
	Name   string `json:"check"`
	State  State  `json:"state"`
	Reason string `json:"reason,omitempty"` // of Warning and Failing
}

// Of is a check that fails with the error, if there is one.
func Of(name string, err error) Check {
	if err != nil {
		return Check{name, Failing, err.Error()}
	}
	return Check{Name: name, State: OK}
}

// Warn is a check that warns if there is a reason to.
func Warn(name, reason string) Check {
	if reason != "" {
		return Check{name, Warning, reason}
	}
	return Check{Name: name, State: OK}
}

// Parts of a thing that may be filled: from the first on it is a warning, from the second on nothing more goes in.
const (
	nearlyFull = 0.80
	full       = 0.98
)

// Fill judges how much of a limit is used. What is the limited thing, and help what to do about it.
func Fill(name, what string, used, limit int64, help string) Check {
	if limit <= 0 {
		return Check{Name: name, State: OK}
	}
	part := float64(used) / float64(limit)
	reason := fmt.Sprintf("%s: %d of %d bytes are used (%.0f %%): %s", what, used, limit, 100*part, help)
	switch {
	case part >= full:
		return Check{name, Failing, reason}
	case part >= nearlyFull:
		return Check{name, Warning, reason}
	default:
		return Check{Name: name, State: OK}
	}
}

// AnyFailing tells that at least one check fails.
func AnyFailing(checks []Check) bool {
	for _, c := range checks {
		if c.State == Failing {
			return true
		}
	}
	return false
}
