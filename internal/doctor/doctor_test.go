// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gpufleet/gpufleet/agent/control"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
)

func TestMain(m *testing.M) { clickhousetest.Main(m) }

// node is a machine whose files a test writes.
type node struct {
	testing.TB
	machine
}

// healthy is a node with two GPUs that lacks nothing.
func healthy(t *testing.T) *node {
	t.Helper()
	n := &node{t, machine{
		root: t.TempDir(), system: "linux",
		mayAccess:  func(path string, _ uint32) error { _, err := os.Stat(path); return err },
		mayRead:    mayRead,
		freeBytes:  func(string) (int64, error) { return 100 << 30, nil },
		clockState: func() (bool, error) { return true, nil },
	}}
	for name, text := range map[string]string{
		"proc/sys/kernel/osrelease":                  "6.8.0-1018-aws\n",
		"proc/meminfo":                               "MemTotal:       33554432 kB\nMemFree:  1 kB\nMemAvailable:   16777216 kB\n",
		"sys/fs/cgroup/memory.max":                   "max\n",
		"sys/bus/pci/devices/0000:00:01.0/vendor":    "0x8086\n",
		"sys/bus/pci/devices/0000:00:01.0/class":     "0x030000\n",
		"sys/bus/pci/devices/0000:10:00.0/vendor":    "0x10de\n",
		"sys/bus/pci/devices/0000:10:00.0/class":     "0x030200\n",
		"sys/bus/pci/devices/0000:20:00.0/vendor":    "0x10de\n",
		"sys/bus/pci/devices/0000:20:00.0/class":     "0x030200\n",
		"sys/bus/pci/devices/0000:30:00.0/vendor":    "0x10de\n", // an NVSwitch
		"sys/bus/pci/devices/0000:30:00.0/class":     "0x068000\n",
		"proc/driver/nvidia/version":                 "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n",
		"usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1": "",
		"dev/nvidia0":    "",
		"dev/nvidia1":    "",
		"dev/nvidiactl":  "",
		"dev/nvidia-uvm": "",
		"dev/kmsg":       "",
	} {
		n.write(name, text)
	}
	n.namespace(firstPIDNamespace)
	return n
}

// namespace says which PID namespace the node's programs are in.
func (n *node) namespace(name string) {
	n.Helper()
	link := n.path("proc/self/ns/pid")
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		n.Fatal(err)
	}
	if err := os.RemoveAll(link); err != nil {
		n.Fatal(err)
	}
	if err := os.Symlink(name, link); err != nil {
		n.Fatal(err)
	}
}

// forbid makes one file one that may not be used.
func (n *node) forbid(part string) {
	may := n.mayAccess
	n.mayAccess = func(path string, mode uint32) error {
		if strings.HasSuffix(path, part) {
			return os.ErrPermission
		}
		return may(path, mode)
	}
}

func (n *node) write(name, text string) {
	n.Helper()
	if err := os.MkdirAll(filepath.Dir(n.path(name)), 0o755); err != nil {
		n.Fatal(err)
	}
	if err := os.WriteFile(n.path(name), []byte(text), 0o600); err != nil {
		n.Fatal(err)
	}
}

func (n *node) remove(pattern string) {
	n.Helper()
	paths, err := filepath.Glob(n.path(pattern))
	if err != nil || len(paths) == 0 {
		n.Fatalf("nothing matches %s: %v", pattern, err)
	}
	for _, path := range paths {
		if err := os.RemoveAll(path); err != nil {
			n.Fatal(err)
		}
	}
}

func find(r Report, check string) Finding {
	if i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.Check == check }); i >= 0 {
		return r.Findings[i]
	}
	return Finding{}
}

func TestHealthyNode(t *testing.T) {
	r := Run(t.Context(), Config{DataDir: t.TempDir(), machine: healthy(t).machine})
	if r.Failures != 0 || r.Warnings != 0 || r.OK != len(r.Findings) {
		t.Errorf("%d failures, %d warnings, %d of %d ok: %+v", r.Failures, r.Warnings, r.OK, len(r.Findings), r.Findings)
	}
	for check, says := range map[string]string{
		"system": "Linux 6.8.0-1018-aws, ", "GPUs": "2 NVIDIA GPUs", "NVIDIA driver": "580.95.05", "NVML": "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
		"device files": "2 GPUs can be opened", "kernel log": "can be read",
		"SRAM errors": "root may", "processes": "all of the host's", "kubelet": "none here", "network ports": "no InfiniBand", "spool": "can be written", "agent": "none listens", "clock": "synchronised", "memory": "16.0 GiB free", "disk": "100.0 GiB free",
		"clickhouse program": "libchdb.so", "pipeline": "none runs",
	} {
		if got := find(r, check); !strings.Contains(got.Says, says) {
			t.Errorf("%s says %q, want %q", check, got.Says, says)
		}
	}
}

func TestWhatANodeCanLack(t *testing.T) {
	tests := []struct {
		name   string
		change func(n *node)
		check  string
		level  Level
		says   string
		fix    string
	}{
		{"old kernel", func(n *node) { n.write("proc/sys/kernel/osrelease", "5.15.0\n") }, "system", Warn, "5.15.0", "5.19"},
		{"no proc", func(n *node) { n.remove("proc/sys") }, "system", Warn, "unknown version", "mount /proc"},
		{"darwin", func(n *node) { n.system = "darwin" }, "system", Warn, "darwin", "gpufleet-agent on the Linux nodes"},
		{"no GPU", func(n *node) {
			n.remove("sys/bus")
			n.remove("proc/driver")
		}, "GPUs", Warn, "no NVIDIA GPU", "gpufleet up"},
		{"GPU without a driver", func(n *node) { n.remove("proc/driver") }, "NVIDIA driver", Fail, "not loaded", "modprobe nvidia"},
		{"PCI hidden", func(n *node) { n.remove("sys/bus") }, "GPUs", OK, "not visible", ""},
		{"odd driver", func(n *node) { n.write("proc/driver/nvidia/version", "NVRM") }, "NVIDIA driver", OK, "unknown version", ""},
		{"no library", func(n *node) { n.remove("usr/lib/*/libnvidia-ml.so.1") }, "NVML", Fail, "libnvidia-ml.so.1", "container"},
		{"library in the cache", func(n *node) {
			n.remove("usr/lib/*/libnvidia-ml.so.1")
			n.write("etc/ld.so.cache", "\x00libnvidia-ml.so.1\x00/opt/nvidia/libnvidia-ml.so.1\x00")
		}, "NVML", OK, "cache", ""},
		{"no device files", func(n *node) { n.remove("dev/nvidia[0-9]") }, "device files", Fail, "/dev/nvidia0", "nvidia-smi"},
		{"no control device", func(n *node) { n.remove("dev/nvidiactl") }, "device files", Fail, "nvidiactl", "run the agent as"},
		{"no kernel log", func(n *node) { n.remove("dev/kmsg") }, "kernel log", Warn, "XIDs 62", "CAP_SYSLOG"},
		{"kernel log forbidden", func(n *node) { n.mayRead = func(string) error { return os.ErrPermission } }, "kernel log", Warn, "permission denied", "CAP_SYSLOG"},
		{"not root", func(n *node) { n.user = 1000 }, "SRAM errors", Warn, "this is user 1000", "as root"},
		{"not root, processes", func(n *node) { n.user = 1000 }, "processes", OK, "CAP_SYS_PTRACE", ""},
		{"in a container", func(n *node) { n.namespace("pid:[4026532000]") }, "processes", Warn, "its own processes alone", "hostPID: true"},
		{"no namespaces", func(n *node) { n.remove("proc/self") }, "processes", Warn, "not known whose", "mount /proc"},
		{"kubelet", func(n *node) { n.write(kubeletSocket, "") }, "kubelet", OK, "can be asked", ""},
		{"kubelet forbidden", func(n *node) {
			n.write(kubeletSocket, "")
			n.forbid("kubelet.sock")
		}, "kubelet", Warn, "permission denied: the pods", "mount /var/lib/kubelet/pod-resources"},
		{"kubelet not mounted", func(n *node) { n.write(kubeletFolder+"/config.yaml", "") }, "kubelet", Warn, "no such file", "mount /var/lib/kubelet/pod-resources"},
		{"RDMA", func(n *node) { n.write(rdmaFolder+"/mlx5_0", "") }, "network ports", OK, "1 devices", ""},
		{"RDMA is a file", func(n *node) { n.write(rdmaFolder, "") }, "network ports", Warn, "are not read", "mount /sys"},
		{"spool forbidden", func(n *node) {
			n.write(spoolFolder+"/life", "")
			n.forbid(spoolFolder)
		}, "spool", Warn, "in memory alone", "--spool-dir"},
		{"spool cannot be made", func(n *node) { n.mayAccess = func(string, uint32) error { return os.ErrPermission } }, "spool", Warn, "in memory alone", "--spool-dir"},
		{"agent that was killed", func(n *node) { n.write(control.DefaultPath, "") }, "agent", Warn, "none listens there", "the agent's user"},
		{"clock drifts", func(n *node) { n.clockState = func() (bool, error) { return false, nil } }, "clock", Warn, "synchronised", "chrony"},
		{"clock unknown", func(n *node) {
			n.clockState = func() (bool, error) { return false, errors.New("forbidden") }
		}, "clock", Warn, "forbidden", "another machine"},
		{"clock of another system", func(n *node) {
			n.clockState = func() (bool, error) { return false, errors.ErrUnsupported }
		}, "clock", OK, "not known", ""},
		{"little memory", func(n *node) { n.write("proc/meminfo", "MemAvailable: 524288 kB\n") }, "memory", Fail, "512 MiB free", "4 GiB"},
		{"small container", func(n *node) { n.write("sys/fs/cgroup/memory.max", "2147483648\n") }, "memory", Warn, "2.0 GiB allowed by the container", "4 GiB"},
		{"memory unknown", func(n *node) { n.remove("proc/meminfo") }, "memory", OK, "not known", ""},
		{"full disk", func(n *node) { n.freeBytes = func(string) (int64, error) { return 100 << 20, nil } }, "disk", Fail, "100 MiB free", "--data"},
		{"small disk", func(n *node) { n.freeBytes = func(string) (int64, error) { return 5 << 30, nil } }, "disk", Warn, "5.0 GiB", "--data"},
		{"disk unknown", func(n *node) {
			n.freeBytes = func(string) (int64, error) { return 0, errors.New("stale") }
		}, "disk", Warn, "stale", "--data"},
		{"disk of another", func(n *node) {
			n.mayAccess = func(string, uint32) error { return os.ErrPermission }
		}, "disk", Fail, "cannot be written", "owner"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := healthy(t)
			tt.change(n)
			got := find(Run(t.Context(), Config{DataDir: filepath.Join(t.TempDir(), "not", "yet"), machine: n.machine}), tt.check)
			if got.Level != tt.level || !strings.Contains(got.Says, tt.says) || !strings.Contains(got.Fix, tt.fix) || (got.Fix == "") != (tt.level == OK) {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestNoClickHouseProgram(t *testing.T) {
	r := Run(t.Context(), Config{DataDir: t.TempDir(), Library: filepath.Join(t.TempDir(), "none.so"), machine: healthy(t).machine})
	if got := find(r, "clickhouse program"); got.Level != Warn || !strings.Contains(got.Fix, "make deps") || r.Warnings != 1 {
		t.Errorf("%+v", got)
	}
}

// TestThisMachine makes every check for real; what it finds is the machine's business.
func TestThisMachine(t *testing.T) {
	r := Run(t.Context(), Config{DataDir: t.TempDir()})
	for _, f := range r.Findings {
		if f.Says == "" || f.Level != OK && f.Fix == "" {
			t.Errorf("%+v", f)
		}
	}
	if r.OK+r.Warnings+r.Failures != len(r.Findings) || len(r.Findings) < 8 {
		t.Errorf("%d findings, %d ok, %d warnings, %d failures", len(r.Findings), r.OK, r.Warnings, r.Failures)
	}
}

// TestFoldersAreThoseOfTheAgent: the agent's own list is in a package with C in it.
func TestFoldersAreThoseOfTheAgent(t *testing.T) {
	source, err := os.ReadFile("../../agent/nvml/search.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, match := range regexp.MustCompile(`"(/[^"]+)"`).FindAllStringSubmatch(string(source), -1) {
		folder := match[1]
		covered := slices.ContainsFunc(nvmlFolders, func(f string) bool { return f == folder || filepath.Dir(f) == folder })
		if !covered {
			t.Errorf("the agent looks in %s, and doctor does not", folder)
		}
		found++
	}
	if found < 5 {
		t.Errorf("%d folders in the agent's source: is its list elsewhere now?", found)
	}
}

func TestReport(t *testing.T) {
	r := Report{OK: 1, Warnings: 1, Findings: []Finding{ok("clock", "synchronised"), warn("disk", "5.0 GiB free", "free some\nor more")}}
	var text, encoded strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	want := "ok    clock              synchronised\nwarn  disk               5.0 GiB free\n                         → free some\n                           or more\nok: 1, warnings: 1, failures: 0\n"
	if text.String() != want {
		t.Errorf("got\n%s", text.String())
	}
	if err := r.WriteJSON(&encoded); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal([]byte(encoded.String()), &back); err != nil || back.Warnings != 1 || back.Findings[1].Fix != r.Findings[1].Fix {
		t.Errorf("%s: %v", encoded.String(), err)
	}
}
