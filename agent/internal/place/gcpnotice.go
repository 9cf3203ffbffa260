// SPDX-License-Identifier: Apache-2.0

package place

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Keys with which Compute Engine announces what will happen to an instance. A maintenance event is only announced
// ahead of time to those who have asked for it since the one before: asking again and again sees to that.
const (
	gcpPreempted   = gcpRoot + "instance/preempted"
	gcpMaintenance = gcpRoot + "instance/maintenance-event"
	gcpUpcoming    = gcpRoot + "instance/upcoming-maintenance?alt=json"
)

var errHiddenMaintenance = errors.New("there is no such key: Kubernetes Engine's own metadata server hides it from pods; use hostNetwork")

func gcpNotices(s service) []noticeSource {
	get := gcpGet(s)
	return []noticeSource{
		{name: "gcp preempted", ask: func(ctx context.Context) ([]Notice, error) {
			body, err := get(ctx, gcpPreempted)
			if absent(err) {
				return nil, nil // not every instance can be
			}
			if err != nil {
				return nil, err
			}
			return parseGCPPreempted(body)
		}},
		{name: "gcp maintenance-event", ask: func(ctx context.Context) ([]Notice, error) {
			body, err := get(ctx, gcpMaintenance)
			if absent(err) {
				return nil, fmt.Errorf("%w: %w", err, errHiddenMaintenance)
			}
			if err != nil {
				return nil, err
			}
			return parseGCPMaintenance(body)
		}},
		{name: "gcp upcoming-maintenance", ask: func(ctx context.Context) ([]Notice, error) {
			body, err := get(ctx, gcpUpcoming)
			// The server says 503 where nothing was announced yet, and 404 for machines that are told nothing.
			if absent(err) || hasStatus(err, http.StatusServiceUnavailable) {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			return parseGCPUpcoming(body)
		}},
	}
}

// parseGCPPreempted reads TRUE or FALSE. After TRUE there are thirty seconds left.
func parseGCPPreempted(body []byte) ([]Notice, error) {
	switch state := strings.TrimSpace(string(body)); state {
	case "FALSE":
		return nil, nil
	case "TRUE":
		return []Notice{{Kind: Interruption, ID: "preempted", State: state, Description: "the instance is being taken back", Raw: state}}, nil
	}
	return nil, otherFormat("GET " + gcpPreempted)
}

// parseGCPMaintenance reads NONE, MIGRATE_ON_HOST_MAINTENANCE or TERMINATE_ON_HOST_MAINTENANCE. The latter is said
// an hour ahead to an instance with GPUs; the time itself is not.
func parseGCPMaintenance(body []byte) ([]Notice, error) {
	switch state := strings.TrimSpace(string(body)); {
	case state == "NONE":
		return nil, nil
	case strings.HasSuffix(state, "_ON_HOST_MAINTENANCE") && plain(state):
		return []Notice{{Kind: MaintenanceScheduled, ID: "maintenance-event", State: state, Description: "host maintenance is near", Raw: state}}, nil
	}
	return nil, otherFormat("GET " + gcpMaintenance)
}

// gcpWindow is an announced maintenance. The server writes its names with underscores, the API without; both have
// been seen.
type gcpWindow struct {
	Status  string   `json:"maintenance_status"`
	Start   string   `json:"window_start_time"`
	Type    string   `json:"type"`
	Reasons []string `json:"maintenance_reasons"`

	StatusCamel  string   `json:"maintenanceStatus"`
	StartCamel   string   `json:"windowStartTime"`
	ReasonsCamel []string `json:"maintenanceReasons"`
}

// parseGCPUpcoming reads a window, or one of the ways to say that there is none: {}, "NONE" and {"error": …}.
func parseGCPUpcoming(body []byte) ([]Notice, error) {
	if text := string(bytes.TrimSpace(body)); text == "NONE" || text == `"NONE"` {
		return nil, nil
	}
	var answer struct {
		gcpWindow
		Error string     `json:"error"`
		Inner *gcpWindow `json:"upcomingMaintenance"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, otherFormat("GET " + gcpUpcoming)
	}
	window := answer.gcpWindow
	if answer.Inner != nil {
		window = *answer.Inner
	}
	status, start := window.Status+window.StatusCamel, window.Start+window.StartCamel
	if status == "" && start == "" {
		return nil, nil
	}
	kind := MaintenanceScheduled
	switch status {
	case "ONGOING":
		kind = MaintenanceStarted
	case "COMPLETE":
		kind = MaintenanceEnded
	}
	reasons := strings.Join(append(window.Reasons, window.ReasonsCamel...), ", ")
	return []Notice{{
		Kind: kind, ID: "upcoming-maintenance", State: status, NotBefore: parseTime(start),
		Description: joined(window.Type, reasons), Raw: string(body),
	}}, nil
}
