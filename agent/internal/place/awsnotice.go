// SPDX-License-Identifier: Apache-2.0

package place

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Paths under which EC2 announces what will happen to an instance. A path without news answers 404.
const (
	awsSpot      = awsMetadata + "spot/instance-action"
	awsRebalance = awsMetadata + "events/recommendations/rebalance"
	awsScheduled = awsMetadata + "events/maintenance/scheduled"
	awsTarget    = awsMetadata + "autoscaling/target-lifecycle-state"
)

func awsNotices(s *awsService) []noticeSource {
	source := func(path string, parse func([]byte) ([]Notice, error)) noticeSource {
		return noticeSource{name: "aws " + strings.TrimPrefix(path, awsMetadata), ask: func(ctx context.Context) ([]Notice, error) {
			body, err := s.get(ctx, path)
			switch {
			case absent(err):
				return nil, nil
			case err != nil:
				return nil, err
			}
			return parse(body)
		}}
	}
	return []noticeSource{
		source(awsSpot, parseAWSSpot), source(awsRebalance, parseAWSRebalance),
		source(awsScheduled, parseAWSScheduled), source(awsTarget, parseAWSTarget),
	}
}

// parseAWSSpot reads {"action": "terminate", "time": "2026-01-02T15:04:05Z"}: two minutes ahead, as a rule.
func parseAWSSpot(body []byte) ([]Notice, error) {
	var a struct {
		Action string `json:"action"`
		Time   string `json:"time"`
	}
	if err := json.Unmarshal(body, &a); err != nil || a.Action == "" {
		return nil, otherFormat("GET " + awsSpot)
	}
	return []Notice{{
		Kind: Interruption, ID: "spot " + a.Action + " " + a.Time, State: a.Action, NotBefore: parseTime(a.Time),
		Description: "the spot instance will be taken back: " + a.Action, Raw: string(body),
	}}, nil
}

// parseAWSRebalance reads {"noticeTime": "2026-01-02T15:04:05Z"}. The time is that of the notice; nothing is
// announced for a time.
func parseAWSRebalance(body []byte) ([]Notice, error) {
	var r struct {
		NoticeTime string `json:"noticeTime"`
	}
	if err := json.Unmarshal(body, &r); err != nil || r.NoticeTime == "" {
		return nil, otherFormat("GET " + awsRebalance)
	}
	return []Notice{{
		Kind: Rebalance, ID: "rebalance " + r.NoticeTime, State: "recommended",
		Description: "the spot instance is at a higher risk of being taken back", Raw: string(body),
	}}, nil
}

// parseAWSScheduled reads a list of events with Code, State (active, completed, canceled), NotBefore and more.
func parseAWSScheduled(body []byte) ([]Notice, error) {
	var events []json.RawMessage
	if err := json.Unmarshal(body, &events); err != nil {
		return nil, otherFormat("GET " + awsScheduled)
	}
	var notices []Notice
	for _, raw := range events {
		var e struct {
			EventID     string `json:"EventId"`
			Code        string `json:"Code"`
			State       string `json:"State"`
			NotBefore   string `json:"NotBefore"`
			Description string `json:"Description"`
		}
		if err := json.Unmarshal(raw, &e); err != nil || e.EventID == "" {
			return nil, otherFormat("GET " + awsScheduled)
		}
		kind := MaintenanceScheduled
		if e.State == "completed" || e.State == "canceled" {
			kind = MaintenanceEnded
		}
		notices = append(notices, Notice{
			Kind: kind, ID: e.EventID, State: e.State, NotBefore: parseTime(e.NotBefore),
			Description: joined(e.Code, e.Description), Raw: string(raw),
		})
	}
	return notices, nil
}

// parseAWSTarget reads the state that the scaling group wants the instance in. A warm instance may be on its way
// out, too: "Warmed:Terminated".
func parseAWSTarget(body []byte) ([]Notice, error) {
	state := strings.TrimSpace(string(body))
	switch {
	case !plain(state):
		return nil, otherFormat("GET " + awsTarget)
	case state != "Terminated" && !strings.HasSuffix(state, ":Terminated"):
		return nil, nil
	}
	return []Notice{{
		Kind: Interruption, ID: "autoscaling " + state, State: state,
		Description: "the scaling group will end the instance", Raw: state,
	}}, nil
}

// parseTime reads the ways in which the clouds write times; zero if it is none of them.
func parseTime(s string) time.Time {
	for _, layout := range []string{time.RFC3339, "2 Jan 2006 15:04:05 MST", time.RFC1123} {
		if at, err := time.Parse(layout, strings.TrimSpace(s)); err == nil {
			return at.UTC()
		}
	}
	return time.Time{}
}

// joined leaves out the part that is empty.
func joined(code, description string) string {
	if code == "" || description == "" {
		return code + description
	}
	return fmt.Sprintf("%s: %s", code, description)
}
