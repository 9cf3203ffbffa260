// SPDX-License-Identifier: Apache-2.0

package place

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// FuzzIdentity gives each provider's parser anything. What it accepts is an identity, and all that is kept of it is
// plain text.
func FuzzIdentity(f *testing.F) {
	for _, provider := range []string{AWS, Azure, OCI, Nebius} {
		for _, body := range newCloud(f, provider).answers {
			f.Add([]byte(body))
		}
	}
	f.Add([]byte(`{"id":"ocid1.instance.x","canonicalRegionName":"<script>"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, parse := range []func([]byte) (Place, error){parseAWSDocument, parseAzureInstance, parseOCIInstance, parseNebius} {
			p, err := parse(body)
			if err != nil {
				continue
			}
			if p.Provider == "" || p.Platform == "" || p.InstanceID == "" {
				t.Errorf("accepted %q as %+v", body, p)
			}
			wantPlain(t, p)
		}
	})
}

// FuzzHost gives the parsers of topology anything: with an error or without, what is kept is plain text.
func FuzzHost(f *testing.F) {
	oci, gcp := newCloud(f, OCI), newCloud(f, GCP)
	f.Add([]byte(oci.answers[ociHost]), []byte(nil))
	f.Add([]byte(nil), []byte(`{"customerLocalBlock":"a"}`))
	f.Add([]byte(gcp.answers[gcpTopology]), []byte("null"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		p := Place{InstanceType: "a4x-highgpu-4g"}
		if err := parseOCIHost(first, second, &p); err == nil {
			wantPlain(t, p)
		}
		if err := parseGCPTopology(first, &p); err == nil {
			wantPlain(t, p)
		}
	})
}

// FuzzNode gives the reader of a node's object anything.
func FuzzNode(f *testing.F) {
	for _, name := range []string{"coreweave", "lambda", "crusoe", "eks"} {
		text, err := os.ReadFile(filepath.Join("testdata", "answers", name+".json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"kind":"Node","metadata":{"name":"node-1"},"spec":{"providerID":"aws:///"}}`))
	f.Add([]byte(`{"kind":"Node","metadata":{"name":"node-1"},"spec":{"providerID":"azure:///subscriptions/a/resourceGroups/"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		n, err := parseNode(body, fakeNode)
		if err != nil {
			return
		}
		p := n.place()
		if p.KubernetesNode != fakeNode {
			t.Errorf("took the node %q for %q", p.KubernetesNode, fakeNode)
		}
		wantPlain(t, p)
		wantPlain(t, normalForm(n.Metadata.Labels))
		wantCalm(t, n.notices())
	})
}

// FuzzNotices gives each parser of notices anything.
func FuzzNotices(f *testing.F) {
	for _, seed := range []string{
		`{"action":"terminate","time":"2026-10-05T08:22:00Z"}`, `{"noticeTime":"2026-10-05T08:20:00Z"}`, "Terminated", "NONE", "TRUE", "MIGRATE_ON_HOST_MAINTENANCE",
		`[{"NotBefore":"21 Jan 2027 09:00:43 GMT","Code":"system-reboot","EventId":"e","State":"active"},{"EventId":"e","State":"completed"}]`,
		`{"Events":[{"EventId":"e","EventStatus":"Started","EventType":"Freeze","Resources":["m"],"NotBefore":"Mon, 05 Oct 2026 18:29:47 GMT"}]}`,
		`{"maintenance_status":"PENDING","window_start_time":"2026-12-01T19:00:01Z"}`, `{"error":"none"}`, `{"upcomingMaintenance":{"maintenanceStatus":"COMPLETE"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, parse := range []func([]byte) ([]Notice, error){
			parseAWSSpot, parseAWSRebalance, parseAWSScheduled, parseAWSTarget, parseGCPPreempted, parseGCPMaintenance, parseGCPUpcoming,
			func(body []byte) ([]Notice, error) { return parseAzureEvents(body, "m") },
		} {
			notices, err := parse(body)
			if err != nil && notices != nil {
				t.Errorf("notices besides an error: %+v", notices)
			}
			wantCalm(t, notices)
		}
	})
}

// wantPlain: what a Place takes over is one line of text of bounded length.
func wantPlain(t *testing.T, found Place) {
	t.Helper()
	var p Place
	p.fill("test", found)
	for _, field := range Fields() {
		value := field.Of(p)
		if len(value) > maxValueBytes || !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) || strings.ContainsAny(value, "<>") {
			t.Errorf("%s is %q", field.Name, value)
		}
		if (value != "") != (p.Sources[field.Name] == "test") {
			t.Errorf("%s is %q, from %q", field.Name, value, p.Sources[field.Name])
		}
	}
}

// wantCalm: what is said twice is reported once, and what is no longer said ends once.
func wantCalm(t *testing.T, notices []Notice) {
	t.Helper()
	kinds := []string{Interruption, Rebalance, MaintenanceScheduled, MaintenanceStarted, MaintenanceEnded}
	for _, n := range notices {
		if !slices.Contains(kinds, n.Kind) || n.ID == "" {
			t.Errorf("notice %+v", n)
		}
		if line := oneLine(n.Raw); len(line) > 3*maxValueBytes || !utf8.ValidString(line) || strings.ContainsFunc(line, unicode.IsControl) {
			t.Errorf("raw text %q", line)
		}
	}
	var seen tracker
	seen.changes(notices)
	if again := seen.changes(notices); again != nil {
		t.Errorf("reported again: %+v", again)
	}
	for _, n := range seen.changes(nil) {
		if n.Kind != MaintenanceEnded {
			t.Errorf("ended as %+v", n)
		}
	}
	if again := seen.changes(nil); again != nil {
		t.Errorf("ended again: %+v", again)
	}
}
