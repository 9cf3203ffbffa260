// SPDX-License-Identifier: Apache-2.0

package inference

import (
	"fmt"
	"io/fs"
	"net/netip"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gpufleet/gpufleet/agent/internal/owner"
)

// TestServersThatAreFound has a pod with a page and four GPUs, one without, a job, and a server that was named.
func TestServersThatAreFound(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		t.Helper()
		w.options.Find = true
		w.options.Servers = []Server{{URL: "http://10.0.0.6:9000/metrics", Team: "ours"}, {URL: "http://gateway:8000/metrics", Role: "gateway", Deployment: "chat"}}
		pod := func(uuid, name, address, page, role string) owner.Holder {
			return owner.Holder{UUID: uuid, Kind: "kubernetes", Namespace: "serving", Pod: name, PodUID: name, Deployment: "chat", Team: "search", Model: "llama", Role: role, Address: address, Page: page}
		}
		w.held = []owner.Holder{
			pod("GPU-1", "a", "10.0.0.5", "http://10.0.0.5:8000/metrics", "prefill"), pod("GPU-2", "a", "10.0.0.5", "http://10.0.0.5:8000/metrics", "prefill"),
			pod("GPU-3", "b", "10.0.0.6", "", "strange"),
			{UUID: "GPU-4", Kind: "process", PID: 7, Process: "ollama"},
			{UUID: "GPU-5", Kind: "slurm", Job: "12", PID: 8, Process: "python3"},
		}
		watcher := w.watcher()
		w.set("http://10.0.0.5:8000/metrics", "tgi_request_input_length_sum 5\n")
		w.set("http://10.0.0.6:9000/metrics", "tgi_request_input_length_sum 5\n")
		w.set("http://gateway:8000/metrics", "dynamo_frontend_input_sequence_tokens_sum{model=\"m\"} 5\n")
		wantRows(t, w.look(watcher, 0),
			"server=10.0.0.5:8000 engine=tgi model=llama role=prefill namespace=serving pod=a deployment=chat team=search gpu_count=2 gpu_uuids=GPU-1,GPU-2",
			"server=10.0.0.6:9000 engine=tgi model=llama namespace=serving pod=b deployment=chat team=ours gpu_count=1 gpu_uuids=GPU-3",
			"server=gateway:8000 engine=dynamo model=m role=gateway deployment=chat",
			"server=process 7 engine=ollama gpu_count=1 gpu_uuids=GPU-4 reason=no_metrics_page")
		if s := watcher.Stats(); s.Servers != 4 || s.Silent != 1 {
			t.Errorf("%+v", s)
		}
		w.held = nil // who has no GPU any more is forgotten, but not at once
		w.look(watcher, time.Minute)
		w.look(watcher, forgetTarget)
		if s := watcher.Stats(); s.Servers != 2 {
			t.Errorf("%d servers, want those that were named", s.Servers)
		}
	})
}

// TestOneServerUnderTwoNames is read once: named as localhost, and said by its pod, in the node's network, as 127.0.0.1.
func TestOneServerUnderTwoNames(t *testing.T) {
	page := "http://127.0.0.1:8000/metrics"
	f := finder{options: Options{Find: true, Servers: []Server{{URL: "http://localhost:8000/metrics", Team: "ours"}, {URL: "http://[::1]:8001/metrics"}}}, holders: func() []owner.Holder {
		return []owner.Holder{{UUID: "GPU-1", Kind: "kubernetes", Pod: "a", PodUID: "a", Address: "127.0.0.1", Page: page}}
	}}
	var got []string
	for _, one := range f.find() {
		got = append(got, one.url)
	}
	if diff := cmp.Diff([]string{"http://localhost:8000/metrics", "http://[::1]:8001/metrics"}, got); diff != "" {
		t.Error(diff)
	}
}

// node is the /proc of a node with a worker, 11, on a GPU; its parent, 10, answers on port 8000.
func node() fstest.MapFS {
	link := func(to string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(to), Mode: fs.ModeSymlink} }
	stat := func(pid, parent int) *fstest.MapFile {
		return &fstest.MapFile{Data: fmt.Appendf(nil, "%d (VLLM::(Worker) 1) S %d 1 1", pid, parent)}
	}
	const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	line := func(at, state, inode string) string {
		return "   0: " + at + " 00000000:0000 " + state + " 00000000:00000000 00:00000000 00000000  1000        0 " + inode + " 1 0 100\n"
	}
	return fstest.MapFS{
		"self/ns/net": link("net:[1]"), "11/ns/net": link("net:[2]"), "11/stat": stat(11, 10), "10/stat": stat(10, 1), "11/fd/3": link("socket:[55]"), "11/fd/4": link("/dev/nvidia0"),
		"10/fd/3": link("socket:[77]"), "10/fd/4": link("socket:[78]"),
		"11/net/tcp":      {Data: []byte(head + line("00000000:1F40", "0A", "77") + line("0100007F:1F90", "0A", "78") + line("00000000:1F42", "0A", "99") + line("00000000:7530", "01", "77") + line("00000000:0050", "0A", "77") + "broken\n")},
		"11/net/tcp6":     {Data: []byte(head + line("00000000000000000000000000000000:5BA5", "0A", "78") + line("0000000000000000FFFF00000500000A:1F41", "0A", "78"))},
		"11/net/fib_trie": {Data: []byte("Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 172.17.0.0\n        /16 link UNICAST\n     |-- 172.17.0.2\n        /32 host LOCAL\n")},
	}
}

// TestPorts: only ports that are known are found, of sockets that the process or a parent holds, at an address that can be
// reached.
func TestPorts(t *testing.T) {
	tests := map[string]struct {
		address string
		change  func(fstest.MapFS)
		want    []string
	}{
		"in a pod":                    {"10.0.0.9", nil, []string{"10.0.0.9:8000", "10.0.0.9:23461", "10.0.0.5:8001"}},
		"in a container":              {"", nil, []string{"172.17.0.2:8000", "172.17.0.2:23461", "10.0.0.5:8001"}},
		"in the network of the agent": {"", func(proc fstest.MapFS) { proc["11/ns/net"] = proc["self/ns/net"] }, []string{"127.0.0.1:8000", "127.0.0.1:8080", "127.0.0.1:23461", "10.0.0.5:8001"}},
		"nothing is readable":         {"", func(proc fstest.MapFS) { clear(proc) }, nil},
		"the parent is hidden":        {"10.0.0.9", func(proc fstest.MapFS) { delete(proc, "11/stat") }, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			proc := node()
			if tt.change != nil {
				tt.change(proc)
			}
			f := newPortFinder(proc, []uint16{8000, 8001, 8080, 23461, 30000})
			var got []string
			for _, at := range f.find(&workload{Holder: owner.Holder{Address: tt.address}, pids: []uint32{11}}) {
				got = append(got, at.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestGuessedPorts: what listens on a known port and is no server is no row, and is left alone for a while.
func TestGuessedPorts(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		t.Helper()
		w.options.Find, w.options.Proc = true, node()
		w.held = []owner.Holder{{UUID: "GPU-1", Kind: "kubernetes", PodUID: "u", Address: "10.0.0.9", PID: 11, Process: "python3"}}
		watcher := w.watcher()
		w.set("http://10.0.0.9:8000/metrics", "404")
		for range 20 {
			if row := w.look(watcher, 15*time.Second); row != "" {
				t.Errorf("row %s", row)
			}
		}
		if asked := w.asked["http://10.0.0.9:8000/metrics"]; asked == 0 || asked > 6 {
			t.Errorf("asked %d times within 5 minutes", asked)
		}
		w.set("http://10.0.0.9:8000/metrics", vllmPage("m", 1, 2))
		w.look(watcher, longestWait)
		if s := watcher.Stats(); s.Servers != 1 || w.log.Len() == 0 {
			t.Errorf("%+v, log %s", s, w.log.String())
		}
	})
}

func FuzzSocketAddresses(f *testing.F) {
	f.Add("0100007F:1F40")
	f.Add("0000000000000000FFFF00000500000A:FFFF")
	f.Add(":")
	f.Fuzz(func(t *testing.T, text string) {
		if at, err := parseAddress(text); err == nil && (!at.IsValid() || at == (netip.AddrPort{})) {
			t.Errorf("%q is %v", text, at)
		}
	})
}
