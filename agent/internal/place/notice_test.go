// SPDX-License-Identifier: Apache-2.0

package place

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// listener keeps what a Watch reports, as "kind, id, state, not before".
type listener struct {
	mu    sync.Mutex
	heard []string
	whole []Notice
}

func (l *listener) report(n Notice) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := "-"
	if !n.NotBefore.IsZero() {
		at = n.NotBefore.Format(time.RFC3339)
	}
	l.heard = append(l.heard, strings.Join([]string{n.Kind, n.ID, n.State, at}, ", "))
	l.whole = append(l.whole, n)
}

// sinceLast is what was heard since it was asked last.
func (l *listener) sinceLast() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	heard := l.heard
	l.heard = nil
	return heard
}

// watching runs a Watch in a bubble for as long as the test's function does.
func watching(t *testing.T, cfg Config, p Place, test func(*listener)) {
	t.Helper()
	var l listener
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- Watch(ctx, cfg, p, l.report) }()
	test(&l)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// step changes what a service says, and has what is reported then.
type step struct {
	path, says string
	want       []string
}

// TestEachNoticeIsReportedOnce plays what happens to machines, over the real protocol in virtual time.
func TestEachNoticeIsReportedOnce(t *testing.T) {
	const azureEvent = `{"DocumentIncarnation":%d,"Events":[{"EventId":"602d9444","EventStatus":%q,"EventType":%q,"ResourceType":"VirtualMachine","Resources":[%q],"NotBefore":%q,"Description":"Host server is undergoing maintenance.","EventSource":"Platform","DurationInSeconds":9}]}`
	const soon = "Mon, 05 Oct 2026 18:29:47 GMT"
	azureMachine := Place{Provider: Azure, InstanceName: "gpu-pool_7"}
	tests := []struct {
		name  string
		place Place
		steps []step
	}{
		{"a spot instance is taken back", Place{Provider: AWS}, []step{
			{awsRebalance, `{"noticeTime":"2026-10-05T08:20:00Z"}`, []string{"rebalance_notice, rebalance 2026-10-05T08:20:00Z, recommended, -"}},
			{awsSpot, `{"action":"terminate","time":"2026-10-05T08:22:00Z"}`, []string{"interruption_notice, spot terminate 2026-10-05T08:22:00Z, terminate, 2026-10-05T08:22:00Z"}},
			{awsTarget, "Terminated", []string{"interruption_notice, autoscaling Terminated, Terminated, -"}},
			{awsSpot, "", nil},
			{awsSpot, `{"action":"terminate","time":"2026-10-05T08:22:00Z"}`, nil}, // told already
		}},
		{"a warm instance is ended", Place{Provider: AWS}, []step{{awsTarget, "Warmed:Terminated", []string{"interruption_notice, autoscaling Warmed:Terminated, Warmed:Terminated, -"}}}},
		{"a reboot is planned, put off and done", Place{Provider: AWS}, []step{
			{
				awsScheduled, `[{"NotBefore":"21 Jan 2027 09:00:43 GMT","Code":"system-reboot","Description":"scheduled reboot","EventId":"instance-event-0d59","NotAfter":"21 Jan 2027 09:17:23 GMT","State":"active"}]`,
				[]string{"maintenance_scheduled, instance-event-0d59, active, 2027-01-21T09:00:43Z"},
			},
			{
				awsScheduled, `[{"NotBefore":"28 Jan 2027 09:00:43 GMT","Code":"system-reboot","Description":"scheduled reboot","EventId":"instance-event-0d59","State":"active"}]`,
				[]string{"maintenance_scheduled, instance-event-0d59, active, 2027-01-28T09:00:43Z"},
			},
			{
				awsScheduled, `[{"NotBefore":"28 Jan 2027 09:00:43 GMT","Code":"system-reboot","Description":"[Completed] scheduled reboot","EventId":"instance-event-0d59","State":"completed"}]`,
				[]string{"maintenance_ended, instance-event-0d59, completed, 2027-01-28T09:00:43Z"},
			},
			{awsScheduled, `[]`, nil},
			{awsScheduled, "", nil},
		}},
		{"what had ended before is no news", Place{Provider: AWS}, []step{
			{awsScheduled, `[{"NotBefore":"28 Jan 2027 09:00:43 GMT","Code":"instance-stop","EventId":"instance-event-1","State":"canceled"}]`, nil},
		}},
		{"a freeze is planned, begins and is over", azureMachine, []step{
			{"/metadata/scheduledevents", fmt.Sprintf(azureEvent, 2, "Scheduled", "Freeze", "gpu-pool_7", soon), []string{"maintenance_scheduled, 602d9444, Scheduled, 2026-10-05T18:29:47Z"}},
			{"/metadata/scheduledevents", fmt.Sprintf(azureEvent, 3, "Started", "Freeze", "GPU-POOL_7", ""), []string{"maintenance_started, 602d9444, Started, -"}},
			{"/metadata/scheduledevents", `{"DocumentIncarnation":4,"Events":[]}`, []string{"maintenance_ended, 602d9444, no longer listed, -"}},
		}},
		{"a spot machine is taken back", azureMachine, []step{
			{"/metadata/scheduledevents", fmt.Sprintf(azureEvent, 2, "Scheduled", "Preempt", "gpu-pool_7", soon), []string{"interruption_notice, 602d9444, Scheduled, 2026-10-05T18:29:47Z"}},
		}},
		{"another machine of the scale set", azureMachine, []step{
			{"/metadata/scheduledevents", fmt.Sprintf(azureEvent, 2, "Scheduled", "Reboot", "gpu-pool_8", soon), nil},
		}},
		{"an instance is preempted", Place{Provider: GCP}, []step{{gcpPreempted, "TRUE", []string{"interruption_notice, preempted, TRUE, -"}}}},
		{"a host is worked on", Place{Provider: GCP}, []step{
			{strings.TrimSuffix(gcpUpcoming, "?alt=json"), `{"can_reschedule":"true","latest_window_start_time":"2026-12-01T19:00:01Z","maintenance_reasons":["PLANNED_UPDATE","PLANNED_NETWORK_UPDATE"],"maintenance_status":"PENDING","type":"SCHEDULED","window_end_time":"2026-12-01T21:00:01Z","window_start_time":"2026-12-01T19:00:01Z"}`, []string{"maintenance_scheduled, upcoming-maintenance, PENDING, 2026-12-01T19:00:01Z"}},
			{gcpMaintenance, "TERMINATE_ON_HOST_MAINTENANCE", []string{"maintenance_scheduled, maintenance-event, TERMINATE_ON_HOST_MAINTENANCE, -"}},
			{strings.TrimSuffix(gcpUpcoming, "?alt=json"), `{"upcomingMaintenance":{"maintenanceStatus":"ONGOING","windowStartTime":"2026-12-01T19:00:01Z"}}`, []string{"maintenance_started, upcoming-maintenance, ONGOING, 2026-12-01T19:00:01Z"}},
			{gcpMaintenance, "NONE", []string{"maintenance_ended, maintenance-event, no longer listed, -"}},
			{strings.TrimSuffix(gcpUpcoming, "?alt=json"), `{ "error": "no notifications have been received yet, try again later" }`, []string{"maintenance_ended, upcoming-maintenance, no longer listed, 2026-12-01T19:00:01Z"}},
			{strings.TrimSuffix(gcpUpcoming, "?alt=json"), `"NONE"`, nil},
			{strings.TrimSuffix(gcpUpcoming, "?alt=json"), `{}`, nil},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cloud := newCloud(t, tt.place.Provider)
			synctest.Test(t, func(t *testing.T) {
				watching(t, Config{dial: overPipes(t, cloud)}, tt.place, func(l *listener) {
					for i, s := range append([]step{{}}, tt.steps...) { // nothing, at first
						if s.path != "" {
							cloud.say(s.path, s.says)
						}
						wait(defaultPoll + time.Second)
						if diff := cmp.Diff(s.want, l.sinceLast()); diff != "" {
							t.Errorf("step %d, %s says %s (-want +got):\n%s", i, s.path, s.says, diff)
						}
						wait(2 * defaultPoll)
						if again := l.sinceLast(); again != nil {
							t.Errorf("step %d: reported again: %q", i, again)
						}
					}
				})
			})
		})
	}
}

// TestWhatANoticeHas looks at the words.
func TestWhatANoticeHas(t *testing.T) {
	cloud := newCloud(t, AWS)
	cloud.say(awsScheduled, `[{"NotBefore":"21 Jan 2027 09:00:43 GMT","Code":"system-reboot","Description":"scheduled\n reboot","EventId":"instance-event-0d59","State":"active"}]`)
	synctest.Test(t, func(t *testing.T) {
		watching(t, Config{dial: overPipes(t, cloud)}, Place{Provider: AWS}, func(l *listener) {
			wait(time.Second)
			want := []Notice{{
				Kind: MaintenanceScheduled, ID: "instance-event-0d59", State: "active", NotBefore: time.Date(2027, 1, 21, 9, 0, 43, 0, time.UTC),
				Description: "system-reboot: scheduled reboot", Source: "aws events/maintenance/scheduled",
				Raw: `{"NotBefore":"21 Jan 2027 09:00:43 GMT","Code":"system-reboot","Description":"scheduled\n reboot","EventId":"instance-event-0d59","State":"active"}`,
			}}
			if diff := cmp.Diff(want, l.whole); diff != "" {
				t.Errorf("notice (-want +got):\n%s", diff)
			}
		})
	})
}

// TestATokenIsRenewed before it ends, and when the service has forgotten it.
func TestATokenIsRenewed(t *testing.T) {
	cloud := newCloud(t, AWS)
	synctest.Test(t, func(t *testing.T) {
		watching(t, Config{dial: overPipes(t, cloud)}, Place{Provider: AWS}, func(l *listener) {
			wait(5 * time.Hour)
			if cloud.issued != 1 {
				t.Errorf("%d tokens in five hours, want 1", cloud.issued)
			}
			wait(time.Hour)
			if cloud.issued != 2 {
				t.Errorf("%d tokens in six hours, want 2", cloud.issued)
			}
			cloud.revoke()
			cloud.say(awsTarget, "Terminated")
			wait(defaultPoll + time.Second)
			if heard := l.sinceLast(); len(heard) != 1 {
				t.Errorf("heard %q after the tokens were revoked", heard)
			}
		})
	})
}

// TestAServiceThatIsAway is asked less and less, up to once a minute, and is not taken to say that all is over.
func TestAServiceThatIsAway(t *testing.T) {
	const path, document = "/metadata/scheduledevents", `{"Events":[{"EventId":"e1","EventStatus":"Scheduled","EventType":"Reboot","Resources":["m"]}]}`
	for name, breaks := range map[string]func(http.ResponseWriter, *http.Request){
		"hangs":                  hang,
		"says 500":               code(http.StatusInternalServerError),
		"says 403":               code(http.StatusForbidden),
		"garbage":                says("{[\x00"),
		"another cloud's answer": says("InService"),
		"events of nothing":      says(`{"Events":[{}]}`),
		"an empty object":        says(`{}`),
	} {
		t.Run(name, func(t *testing.T) {
			cloud := newCloud(t, Azure)
			cloud.say(path, document)
			var log bytes.Buffer
			var mu sync.Mutex
			away, asked := false, 0
			h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				asked++
				broken := away
				mu.Unlock()
				if broken {
					breaks(w, r)
					return
				}
				cloud.ServeHTTP(w, r)
			})
			synctest.Test(t, func(t *testing.T) {
				set := func(to bool) {
					mu.Lock()
					defer mu.Unlock()
					away, asked = to, 0
				}
				cfg := Config{dial: overPipes(t, h), Logger: slog.New(slog.NewTextHandler(&log, nil))}
				watching(t, cfg, Place{Provider: Azure, InstanceName: "m"}, func(l *listener) {
					wait(time.Minute)
					if heard := l.sinceLast(); len(heard) != 1 {
						t.Fatalf("heard %q", heard)
					}
					set(true)
					wait(time.Hour)
					mu.Lock()
					if asked < 55 || asked > 130 { // 400 is asked twice, for the older version
						t.Errorf("asked %d times in an hour", asked)
					}
					mu.Unlock()
					set(false)
					wait(2 * time.Minute)
					if heard := l.sinceLast(); heard != nil {
						t.Errorf("heard %q, though nothing changed but the service", heard)
					}
					cloud.say(path, `{"Events":[]}`)
					wait(defaultPoll + time.Second)
					if heard := l.sinceLast(); len(heard) != 1 {
						t.Errorf("heard %q once it answers again", heard)
					}
				})
			})
			if n := strings.Count(log.String(), "level=WARN"); n != 1 {
				t.Errorf("%d warnings of one outage:\n%s", n, log.String())
			}
			if !strings.Contains(log.String(), "notices are answered again") {
				t.Errorf("not told that it answers again:\n%s", log.String())
			}
		})
	}
}

// TestOneEndpointThatHangsHoldsUpNoOther, and ends with its context.
func TestOneEndpointThatHangsHoldsUpNoOther(t *testing.T) {
	cloud := newCloud(t, AWS)
	synctest.Test(t, func(t *testing.T) {
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == awsScheduled {
				hang(w, r)
			}
			cloud.ServeHTTP(w, r)
		})
		watching(t, Config{dial: overPipes(t, h)}, Place{Provider: AWS}, func(l *listener) {
			wait(time.Minute)
			cloud.say(awsSpot, `{"action":"stop","time":"2026-10-05T08:22:00Z"}`)
			wait(defaultPoll)
			if heard := l.sinceLast(); len(heard) != 1 {
				t.Errorf("heard %q", heard)
			}
		})
	})
}

// TestKubernetesEngineHidesMaintenance: what is not told must not look like peace.
func TestKubernetesEngineHidesMaintenance(t *testing.T) {
	cloud := newCloud(t, GCP)
	cloud.say(gcpMaintenance, "")
	var log bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		watching(t, Config{dial: overPipes(t, cloud), Logger: slog.New(slog.NewTextHandler(&log, nil))}, Place{Provider: GCP}, func(*listener) {
			wait(10 * time.Minute)
		})
	})
	if strings.Count(log.String(), "use hostNetwork") != 1 {
		t.Errorf("log:\n%s", log.String())
	}
}

// TestTooManyNotices: a list without an end is not believed.
func TestTooManyNotices(t *testing.T) {
	cloud := newCloud(t, AWS)
	event := `{"EventId":"e%d","State":"active"},`
	var events strings.Builder
	for i := range maxNotices + 1 {
		fmt.Fprintf(&events, event, i)
	}
	cloud.say(awsScheduled, "["+strings.TrimSuffix(events.String(), ",")+"]")
	synctest.Test(t, func(t *testing.T) {
		watching(t, Config{dial: overPipes(t, cloud)}, Place{Provider: AWS}, func(l *listener) {
			wait(time.Minute)
			if heard := l.sinceLast(); heard != nil {
				t.Errorf("heard %d notices", len(heard))
			}
		})
	})
}

// TestProvidersWithoutNotices are told at once.
func TestProvidersWithoutNotices(t *testing.T) {
	for _, provider := range []string{"", OCI, Nebius, CoreWeave, "own"} {
		if err := Watch(t.Context(), Config{}, Place{Provider: provider}, func(Notice) {}); err == nil {
			t.Errorf("%q: no error", provider)
		}
	}
}

// TestNebiusTellsThroughKubernetes reads the condition of the node's object.
func TestNebiusTellsThroughKubernetes(t *testing.T) {
	object := `{"kind":"Node","metadata":{"name":"node-1"},"status":{"conditions":[
		{"type":"Ready","status":"True"},
		{"type":"NebiusMaintenanceScheduled","status":"True","reason":"MaintenanceScheduled","message":"Node scheduled for urgent maintenance, SLA deadline is 2026-12-13T12:26:00Z"}]}}`
	w := watch{cfg: Config{Kubernetes: clusterOf(t, fakeNode, apiServer(fakeNode, func() string { return object })), Cap: 5 * time.Second}.withDefaults()}
	sources, done := w.sources(Place{Provider: Nebius})
	defer done()
	heard, err := w.ask(t.Context(), sources[0]) // that Watch asks it, once a minute, others have shown
	if err != nil || len(sources) != 1 || len(heard) != 1 {
		t.Fatalf("%d sources, heard %v, %v", len(sources), heard, err)
	}
	if n := heard[0]; n.Kind != MaintenanceScheduled || n.State != "MaintenanceScheduled: 2026-12-13T12:26:00Z" || !n.NotBefore.IsZero() {
		t.Errorf("%+v", n)
	}
}

// TestNodesAreSpared: a cluster's nodes all ask one API server.
func TestNodesAreSpared(t *testing.T) {
	for _, s := range kubernetesNotices(Kubernetes{APIServer: "https://192.0.2.1", Node: "n"}) {
		if s.every < time.Minute {
			t.Errorf("%s is asked every %s", s.name, s.every)
		}
	}
}

// TestConditionsOfNodes: what is false, or not about maintenance, is no notice.
func TestConditionsOfNodes(t *testing.T) {
	var n node
	n.Status.Conditions = []condition{{Type: "Ready", Status: "True"}, {Type: nebiusMaintenance, Status: "False"}, {Type: nebiusMaintenance, Status: "Unknown"}}
	if notices := n.notices(); notices != nil {
		t.Errorf("%+v", notices)
	}
}
