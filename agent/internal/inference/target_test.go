// SPDX-License-Identifier: Apache-2.0

package inference

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestServersWithoutTokens: each is a row with the reason, at once and then each hour, and no more.
func TestServersWithoutTokens(t *testing.T) {
	long := "vllm:prompt_tokens_total{model_name=\"" + strings.Repeat("m", maxLineBytes) + "\"} 1\n"
	var models strings.Builder
	for i := range mostTallies + 1 {
		models.WriteString(vllmPage(fmt.Sprintf("m%d", i), 1, 1))
	}
	for reason, page := range map[string]string{
		reasonNoPage: "404", reasonUnknown: "go_goroutines 5\n", reasonMalformed: long, reasonModels: models.String(),
		reasonTooLarge: strings.Repeat(strings.Repeat("x", 1023)+"\n", maxPageBytes/1024+1), reasonUnreachable: "",
	} {
		t.Run(reason, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				t.Helper()
				w.options.Servers = []Server{{URL: at, Role: "both", Deployment: "d", Team: "t"}}
				watcher := w.watcher()
				if reason != reasonUnreachable {
					w.set(at, page)
				}
				want := "server=s:8000 role=both deployment=d team=t reason=" + reason
				wantRows(t, w.look(watcher, 0), want)
				for range 20 {
					if rows := w.look(watcher, 15*time.Second); rows != "" {
						t.Errorf("again: %s", rows)
					}
				}
				if asked := w.asked[at]; reason != reasonModels && asked > 6 {
					t.Errorf("it was asked %d times within 5 minutes", asked)
				}
				var later []string
				for range 80 {
					if row := w.look(watcher, time.Minute); row != "" {
						later = append(later, row)
					}
				}
				if len(later) != 1 || later[0] != want {
					t.Errorf("rows within 80 minutes: %q", later)
				}
				if s := watcher.Stats(); s.Servers != 1 || s.Silent != 1 {
					t.Errorf("%+v", s)
				}
				if got := strings.Count(w.log.String(), "counts no tokens"); got != 1 {
					t.Errorf("%d warnings:\n%s", got, w.log.String())
				}
			})
		})
	}
}

// TestServerThatComesBack: what a server counted while it did not answer is in the next row.
func TestServerThatComesBack(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		t.Helper()
		w.options.Servers = []Server{{URL: at}}
		watcher := w.watcher()
		w.set(at, vllmPage("m", 100, 50))
		w.look(watcher, 0)
		w.set(at, "404")
		wantRows(t, w.look(watcher, 15*time.Second), "server=s:8000 reason=no_metrics_page")
		w.set(at, vllmPage("m", 160, 80))
		var rows []string
		for len(rows) == 0 {
			if row := w.look(watcher, 15*time.Second); row != "" {
				rows = append(rows, row)
			}
		}
		wantRows(t, rows[0], "server=s:8000 engine=vllm model=m interval_milliseconds=30000 input_tokens=60 output_tokens=30")
		if s := watcher.Stats(); s.Silent != 0 || s.Failures != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestParseServer(t *testing.T) {
	for text, want := range map[string]Server{
		"http://10.0.0.7:8000": {URL: "http://10.0.0.7:8000/metrics"},
		"gateway:9000/stats,role=gateway,deployment=chat,team=search,model=m": {URL: "http://gateway:9000/stats", Role: "gateway", Deployment: "chat", Team: "search", Model: "m"},
	} {
		if got, err := ParseServer(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"http://h:1,role=main": `role "main"`, "http://h:1,color=red": `"color=red"`, "ftp://h:1": "want http://", "http://u:secret@h:1": "leave it out",
		"http://h:1,team=": `"team="`, "http://h:1,team=" + strings.Repeat("x", 300): "more than 253 bytes", "": "want http://",
	} {
		if _, err := ParseServer(text); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
