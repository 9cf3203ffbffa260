// SPDX-License-Identifier: Apache-2.0

package place

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// azureEvents is where Azure announces what will happen to a machine and its neighbours. The first question
// switches the service on, which can take it two minutes.
const azureEvents = "/metadata/scheduledevents?api-version="

func azureEventVersions() []string { return []string{"2020-07-01", "2019-08-01"} }

func azureNotices(s service, machine string) []noticeSource {
	return []noticeSource{{name: "azure scheduledevents", ask: func(ctx context.Context) ([]Notice, error) {
		var body []byte
		var err error
		for _, version := range azureEventVersions() {
			body, err = s.get(ctx, azureEvents+version)
			if !hasStatus(err, http.StatusBadRequest) {
				break
			}
		}
		if err != nil {
			return nil, err
		}
		return parseAzureEvents(body, machine)
	}}}
}

// azureKinds has what each type of event means; a Freeze is a pause of seconds.
var azureKinds = map[string]string{
	"Freeze": MaintenanceScheduled, "Reboot": MaintenanceScheduled, "Redeploy": MaintenanceScheduled,
	"Preempt": Interruption, "Terminate": Interruption,
}

// parseAzureEvents reads the events that concern the machine; those of its scale set's other machines are listed
// too. A machine without a known name is taken to be meant by all.
func parseAzureEvents(body []byte, machine string) ([]Notice, error) {
	var document struct {
		Events *[]json.RawMessage `json:"Events"`
	}
	if err := json.Unmarshal(body, &document); err != nil || document.Events == nil {
		return nil, otherFormat("GET /metadata/scheduledevents")
	}
	var notices []Notice
	for _, raw := range *document.Events {
		var e struct {
			EventID     string   `json:"EventId"`
			EventType   string   `json:"EventType"`
			EventStatus string   `json:"EventStatus"`
			Resources   []string `json:"Resources"`
			NotBefore   string   `json:"NotBefore"`
			Description string   `json:"Description"`
		}
		if err := json.Unmarshal(raw, &e); err != nil || e.EventID == "" {
			return nil, otherFormat("GET /metadata/scheduledevents")
		}
		mine := func(name string) bool { return strings.EqualFold(name, machine) }
		if machine != "" && len(e.Resources) > 0 && !slices.ContainsFunc(e.Resources, mine) {
			continue
		}
		notices = append(notices, Notice{
			Kind: azureKind(e.EventType, e.EventStatus), ID: e.EventID, State: e.EventStatus, NotBefore: parseTime(e.NotBefore),
			Description: joined(e.EventType, e.Description), Raw: string(raw),
		})
	}
	return notices, nil
}

// azureKind: a type that is not known yet is taken for work on the machine.
func azureKind(eventType, status string) string {
	kind := azureKinds[eventType]
	switch {
	case kind == Interruption:
		return kind
	case status == "Started":
		return MaintenanceStarted
	case status == "Completed", status == "Canceled":
		return MaintenanceEnded
	}
	return MaintenanceScheduled
}
