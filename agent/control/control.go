// SPDX-License-Identifier: Apache-2.0

// Package control is how an operator on a node talks to the agent that runs there: HTTP over a socket of its owner.
// Both ends are here, and what travels between them:
//
//	GET  /v1/status                        → 200 and a Status
//	POST /v1/release   {"reason": "…"}     → 200 and a Status, when the GPU driver is closed
//	POST /v1/resume                        → 200 and a Status
//	POST /v1/burst     {"gpu": "…", "seconds": 10, "reason": "…"} → 200 and a Burst, when it has begun
//	anything that cannot be done           → 4xx or 5xx and {"error": "…"}
//
// A socket that cannot be made costs the commands and nothing else: see package ownersocket.
package control

import (
	"context"
	"time"
)

// DefaultPath is where an agent listens, if it may.
const DefaultPath = "/run/gpufleet/agent.sock"

const (
	statusPath  = "/v1/status"
	releasePath = "/v1/release"
	resumePath  = "/v1/resume"
	burstPath   = "/v1/burst"

	// releaseWithin bounds how long a release waits for calls of the driver to return.
	releaseWithin = 30 * time.Second
)

// Status is what an agent says of itself.
type Status struct {
	Node      string    `json:"node"`
	Version   string    `json:"version"`
	ProcessID int       `json:"process_id"`
	Started   time.Time `json:"started"`   // the program
	Epoch     uint64    `json:"epoch"`     // the agent in it
	Collector string    `json:"collector"` // host:port

	CollectorAway string `json:"collector_away,omitempty"` // what was wrong when it was last tried; empty if it answers

	GPUs          int64      `json:"gpus"`                     // that answer
	DriverMissing string     `json:"driver_missing,omitempty"` // why the driver does not; empty if it does
	Released      string     `json:"released,omitempty"`       // why the driver is; empty if it is not
	ReleasedSince *time.Time `json:"released_since,omitempty"`

	Ticks       uint64 `json:"ticks"`
	MissedTicks uint64 `json:"missed_ticks"`
	DriverCalls uint64 `json:"driver_calls"`

	BatchesStored   uint64 `json:"batches_stored"`
	BatchesWaiting  int64  `json:"batches_waiting"`
	BytesWaiting    int64  `json:"bytes_waiting"`
	OldestWaiting   int64  `json:"oldest_waiting_seconds"`
	BatchesRejected uint64 `json:"batches_rejected"`
	BatchesDropped  uint64 `json:"batches_dropped"`
	SpoolBytes      int64  `json:"spool_bytes"`
	SpoolFailing    bool   `json:"spool_failing"` // batches are kept in memory alone

	Config         string    `json:"config,omitempty"`          // its file
	Configured     time.Time `json:"configured"`                // when what is in force was read
	ConfigRejected string    `json:"config_rejected,omitempty"` // why what was read since is not in force
}

// Agent is what is controlled. It may be called by several goroutines.
type Agent interface {
	Status() Status
	// Release lets go of the GPU driver, and returns when it is closed.
	Release(ctx context.Context, reason string) error
	// Resume takes it up again.
	Resume() error
	// Burst has GPUs read at 10 Hz for a while, and returns when that has begun.
	Burst(ctx context.Context, r BurstRequest) (Burst, error)
}

// releaseRequest is the body of a release.
type releaseRequest struct {
	Reason string `json:"reason"`
}

// BurstRequest says which GPUs are to be read at 10 Hz.
type BurstRequest struct {
	GPU     string  `json:"gpu,omitempty"`     // UUID; "": all of the node
	Seconds float64 `json:"seconds,omitempty"` // 0: as the agent is configured
	Reason  string  `json:"reason,omitempty"`
}

// mostSeconds is more than any agent takes, and little enough to count with.
const mostSeconds = 3600

// Burst is what is read at 10 Hz now.
type Burst struct {
	GPUs    []string `json:"gpus"` // UUIDs
	Seconds float64  `json:"seconds"`
}
