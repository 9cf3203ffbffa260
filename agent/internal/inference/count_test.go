// SPDX-License-Identifier: Apache-2.0

package inference

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const at = "http://s:8000/metrics"

// vllmPage is a short page.
func vllmPage(model string, prompts, answers float64, more ...string) string {
	return fmt.Sprintf("vllm:prompt_tokens_total{engine=\"0\",model_name=%q} %f\nvllm:generation_tokens_total{engine=\"0\",model_name=%[1]q} %[3]f\n", model, prompts, answers) +
		strings.Join(more, "\n") + "\n"
}

// TestCountersThatBeginAnew goes through what becomes of a server's counters. Each step is one reading, 10 s after the one
// before.
func TestCountersThatBeginAnew(t *testing.T) {
	const row, interval = "server=s:8000 engine=vllm ", " interval_milliseconds=10000 "
	started := func(at int) string { return fmt.Sprintf("process_start_time_seconds %d", at) }
	gained := func(model string, prompts, answers int) string {
		return fmt.Sprintf(row+"model=%s"+interval+"input_tokens=%d output_tokens=%d", model, prompts, answers)
	}
	tests := map[string]struct{ pages, rows []string }{
		"a server that starts anew counts from 0": {
			[]string{vllmPage("m", 100, 50), vllmPage("m", 110, 60), vllmPage("m", 7, 3), vllmPage("m", 8, 4)},
			[]string{row + "model=m", gained("m", 10, 10), gained("m", 7, 3), gained("m", 1, 1)},
		},
		"one that has passed its former counts by then is known by its start": {
			[]string{vllmPage("m", 100, 50, started(1000)), vllmPage("m", 120, 90, started(2000)), vllmPage("m", 121, 91, started(2000))},
			[]string{row + "model=m", gained("m", 120, 90), gained("m", 1, 1)},
		},
		"a model that is served under another name goes on": {
			[]string{vllmPage("m", 100_000, 50_000), vllmPage("n", 100_010, 50_003), vllmPage("n", 100_011, 50_004)},
			[]string{row + "model=m", gained("n", 10, 3), gained("n", 1, 1)},
		},
		"another model in a server that starts anew begins with 0": {
			[]string{vllmPage("m", 100_000, 50_000), vllmPage("n", 12, 5)},
			[]string{row + "model=m", gained("n", 12, 5)},
		},
		"a model that is loaded later counts from 0": {
			[]string{vllmPage("m", 100, 50), vllmPage("m", 100, 50) + vllmPage("n", 3, 2)},
			[]string{row + "model=m", gained("m", 0, 0) + "\n" + gained("n", 3, 2)},
		},
		"a model that is away for a page goes on": {
			[]string{vllmPage("m", 100, 50) + vllmPage("n", 100, 50), vllmPage("m", 101, 51), vllmPage("m", 102, 52) + vllmPage("n", 104, 52)},
			[]string{row + "model=m\n" + row + "model=n", gained("m", 1, 1), gained("m", 1, 1) + "\n" + gained("n", 4, 2)},
		},
		"what no server can have done is left out": {
			[]string{vllmPage("m", 100, 50), vllmPage("m", 1e15, 51), vllmPage("m", 1e15+1, 52)},
			[]string{row + "model=m", row + "model=m" + interval + "output_tokens=1", gained("m", 1, 1)},
		},
		"what is no count is left out": {
			[]string{vllmPage("m", 100, 50), strings.Replace(vllmPage("m", 1, 51), " 1.000000", " NaN", 1), strings.Replace(vllmPage("m", 1, 52), " 1.000000", " -5", 1), vllmPage("m", 101, 53)},
			[]string{row + "model=m", row + "model=m" + interval + "output_tokens=1", row + "model=m" + interval + "output_tokens=1", gained("m", 1, 1)},
		},
		"a line that is there twice counts once": {
			[]string{vllmPage("m", 100, 50) + vllmPage("m", 900, 900), vllmPage("m", 101, 51) + vllmPage("m", 950, 950)},
			[]string{row + "model=m", gained("m", 1, 1)},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				t.Helper()
				w.options.Servers = []Server{{URL: at}}
				watcher := w.watcher()
				for i, page := range tt.pages {
					w.set(at, page)
					wantRows(t, w.look(watcher, 10*time.Second), tt.rows[i])
				}
			})
		})
	}
}

// TestSeveralServersBehindOneAddress: a balancer gives the page of another replica each time, and their counters must not
// be taken for those of one that starts again and again.
func TestSeveralServersBehindOneAddress(t *testing.T) {
	for name, start := range map[string]string{"that tell when they started": "process_start_time_seconds %d", "that do not": "# %d"} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				t.Helper()
				w.options.Servers = []Server{{URL: at}}
				watcher := w.watcher()
				sum, last := 0, ""
				for i := range 20 {
					replica := i % 2
					w.set(at, vllmPage("m", float64(1_000_000*(1+replica)+i), 0, fmt.Sprintf(start, 1000+1000*replica)))
					row := w.look(watcher, 10*time.Second)
					var gained int
					if _, rest, ok := strings.Cut(row, "input_tokens="); ok {
						if _, err := fmt.Sscan(rest, &gained); err != nil {
							t.Fatal(err)
						}
					}
					sum += gained
					if row != "" {
						last = row
					}
				}
				if sum > 6_000_100 {
					t.Errorf("%d tokens were counted of replicas that made 10 each", sum)
				}
				if !strings.Contains(last, "reason=several_servers") {
					t.Errorf("the last row is %s", last)
				}
			})
		})
	}
}

// TestDisaggregated has a prefill and a decode server with the counts of a real pair: whichever way the roles are told,
// the rows have them.
func TestDisaggregated(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		t.Helper()
		w.options.Servers = []Server{{URL: "http://p:8000/metrics", Role: "prefill", Deployment: "d"}, {URL: "http://d:8000/metrics", Role: "decode", Deployment: "d"}}
		watcher := w.watcher()
		page := func(all, local, moved, answers int) string {
			return vllmPage("m", float64(all), float64(answers),
				fmt.Sprintf(`vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="local_compute"} %d`, local),
				fmt.Sprintf(`vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="external_kv_transfer"} %d`, moved))
		}
		w.set("http://p:8000/metrics", page(0, 0, 0, 0))
		w.set("http://d:8000/metrics", page(0, 0, 0, 0))
		w.look(watcher, 0)
		w.set("http://p:8000/metrics", page(16420, 16420, 0, 100))
		w.set("http://d:8000/metrics", page(16420, 256, 16164, 9000))
		wantRows(t, w.look(watcher, time.Minute),
			"server=d:8000 engine=vllm model=m role=decode interval_milliseconds=60000 input_tokens=16420 input_computed_tokens=256 input_transferred_tokens=16164 output_tokens=9000 deployment=d",
			"server=p:8000 engine=vllm model=m role=prefill interval_milliseconds=60000 input_tokens=16420 input_computed_tokens=16420 input_transferred_tokens=0 output_tokens=100 deployment=d")
	})
}

// FuzzPages gives a server two pages that somebody made up.
func FuzzPages(f *testing.F) {
	f.Add(vllmPage("m", 1, 2), vllmPage("m", 3, 4), uint32(10))
	f.Add(vllmPage("m", 1e300, -2), "vllm:prompt_tokens_total{model_name=\"\xff\"} NaN\nvllm:prompt_tokens_total 1e19\n", uint32(1))
	f.Add("tgi_request_input_length_sum +Inf\ndynamo_frontend_requests_total{status=\"success\"} 9223372036854775807\n", "nv_inference_request_success 5 5\n{", uint32(0))
	f.Add("gpufleet_training_lost_seconds_total{cause=\"data\"} 1e13\n", "gpufleet_training_lost_seconds_total{cause=\"data\"} 1e15\n", uint32(1<<31))
	all := engines()
	names := newNames(all)
	f.Fuzz(func(t *testing.T, first, second string, wait uint32) {
		var c counters
		now := time.Unix(1_790_000_000, 0)
		for _, text := range []string{first, second} {
			p, err := names.parse(strings.NewReader(text))
			if err != nil {
				continue
			}
			if len(p.series) > maxSeries {
				t.Fatalf("%d series", len(p.series))
			}
			elapsed := time.Duration(wait%86400) * time.Second
			now = now.Add(elapsed)
			o := c.take(all, p, found{}, now)
			if len(o.tallies) > mostTallies {
				t.Fatalf("%d rows", len(o.tallies))
			}
			for key, n := range o.tallies {
				n.derive(&all[key.engine])
				bound := uint64(len(p.series)) * 2 * uint64((elapsed.Seconds()+1)*mostPerSecond)
				for k := range kinds {
					if !k.isGauge() && n.known[k] && n.n[k] > bound {
						t.Fatalf("kind %d gained %d in %s", k, n.n[k], elapsed)
					}
				}
				if rejected, ok := n.rejected(); ok && rejected > bound {
					t.Fatalf("%d rejected", rejected)
				}
				if len(key.model) > 4*maxLabelRunes {
					t.Fatalf("model of %d bytes", len(key.model))
				}
			}
		}
	})
}
