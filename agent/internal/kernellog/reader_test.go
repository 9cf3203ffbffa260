// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const (
	xid79 = "NVRM: Xid (PCI:0000:3b:00): 79, pid=12, name=python3, GPU has fallen off the bus."
	xid31 = "NVRM: Xid (PCI:0000:3b:00): 31, pid=12, name=python3, Ch 00000008, intr 00000000."
)

// TestFirstStart: faults of this boot are told though they are old, and later ones as soon as they come.
func TestFirstStart(t *testing.T) {
	dir := node(t)
	synctest.Test(t, func(t *testing.T) {
		k := newKernel()
		k.print("Linux version")
		k.print(xid31)
		pass(time.Hour)
		w := watch(t, k, dir)
		synctest.Wait()
		pass(time.Minute)
		k.print("something else")
		k.print(xid79)
		synctest.Wait()
		got := w.findings()
		if diff := cmp.Diff([]string{"xid 1 xid 31 backlog", "xid 3 xid 79"}, brief(got)); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		// The first was written an hour and a minute ago, the second now.
		if age := time.Since(got[0].Time); age != time.Hour+time.Minute {
			t.Errorf("the old fault is %v old", age)
		}
		if age := time.Since(got[1].Time); age != 0 {
			t.Errorf("the new fault is %v old", age)
		}
		if got[1].BootID != bootA || got[1].PCIBusID != "0000:3b:00.0" || *got[1].ProcessID != 12 || got[1].ProcessName != "python3" || got[1].Text != xid79 {
			t.Errorf("%+v", got[1])
		}
		w.stop()
		stats := w.reader.Stats()
		if diff := cmp.Diff([]uint64{4, 0, 0, 2, 0}, []uint64{
			stats.Records.Load(), stats.Unreadable.Load(), stats.MissedLines.Load(), stats.Findings.Load(), stats.Throttled.Load(),
		}); diff != "" {
			t.Errorf("stats (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]Health{{Reading: true}}, w.told()); diff != "" {
			t.Errorf("health (-want +got):\n%s", diff)
		}
	})
}

// TestRestart: what was read is not told again, and what came meanwhile is.
func TestRestart(t *testing.T) {
	dir := node(t)
	synctest.Test(t, func(t *testing.T) {
		k := newKernel()
		k.print(xid31)
		w := watch(t, k, dir)
		synctest.Wait()
		w.stop()
		k.print(xid79)
		w = watch(t, k, dir)
		synctest.Wait()
		k.print(xid31)
		if diff := cmp.Diff([]string{"xid 1 xid 79 backlog", "xid 2 xid 31"}, brief(waited(w))); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		w.stop()
	})
}

// pass lets time pass in a bubble.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// waited lets everything happen that needs no time, and returns what was found.
func waited(w *watcher) []Finding {
	synctest.Wait()
	return w.findings()
}

// TestKilled: an agent that is killed tells again at most what it told in its last second.
func TestKilled(t *testing.T) {
	dir := node(t)
	synctest.Test(t, func(t *testing.T) {
		k := newKernel()
		w := watch(t, k, dir)
		synctest.Wait()
		k.print(xid31)
		synctest.Wait()
		pass(2 * time.Second)
		k.print(xid79)
		synctest.Wait()
		saved, err := os.ReadFile(filepath.Join(dir, "state"))
		if err != nil {
			t.Fatal(err)
		}
		w.stop() // which saves, so put back what a kill would have left
		if err := os.WriteFile(filepath.Join(dir, "state"), saved, 0o600); err != nil {
			t.Fatal(err)
		}
		w = watch(t, k, dir)
		got := brief(waited(w))
		if len(got) > 1 || len(got) == 1 && got[0] != "xid 1 xid 79 backlog" {
			t.Errorf("%q", got)
		}
		w.stop()
	})
}

// TestSaves: a finding is saved within a second, a line without one within a minute, and both at the end.
func TestSaves(t *testing.T) {
	dir := node(t)
	state := func() string {
		text, _ := os.ReadFile(filepath.Join(dir, "state"))
		return strings.TrimSpace(string(text))
	}
	at := func(sequence int) string {
		return fmt.Sprintf(`{"version":1,"boot_id":%q,"sequence":%d}`, bootA, sequence)
	}
	synctest.Test(t, func(t *testing.T) {
		k := newKernel()
		k.print("first")
		w := watch(t, k, dir)
		synctest.Wait()
		steps := []struct {
			line string
			wait time.Duration
			want int
		}{
			{"", 0, 0},
			{"nothing", 30 * time.Second, 0},
			{xid31, 0, 2},                      // a save is long past
			{xid31, 500 * time.Millisecond, 2}, // not twice in a second
			{"", 600 * time.Millisecond, 3},
			{"nothing", 59 * time.Second, 3},
			{"", 2 * time.Second, 4},
		}
		for i, step := range steps {
			if step.line != "" {
				k.print("%s", step.line)
			}
			pass(step.wait)
			if got := state(); got != at(step.want) {
				t.Errorf("step %d: %s, want %s", i, got, at(step.want))
			}
		}
		k.print("last")
		synctest.Wait()
		w.stop()
		if got := state(); got != at(5) {
			t.Errorf("at the end: %s", got)
		}
	})
}

// TestReboot: sequences begin anew, and a position of another boot is not one.
func TestReboot(t *testing.T) {
	dir := node(t)
	synctest.Test(t, func(t *testing.T) {
		k := newKernel()
		for range 10 {
			k.print(xid31)
		}
		w := watch(t, k, dir)
		synctest.Wait()
		w.stop()
		reboot(t, dir, bootB)
		k = newKernel()
		k.print(xid79)
		w = watch(t, k, dir)
		got := waited(w)
		if diff := cmp.Diff([]string{"xid 0 xid 79 backlog"}, brief(got)); diff != "" || got[0].BootID != bootB {
			t.Errorf("%+v (-want +got):\n%s", got, diff)
		}
		w.stop()
	})
}

// TestGaps: lines that were overwritten are counted, with the reason.
func TestGaps(t *testing.T) {
	t.Run("before the first start", func(t *testing.T) {
		dir := node(t)
		synctest.Test(t, func(t *testing.T) {
			k := newKernel()
			for range 5 {
				k.print("x")
			}
			k.forget(3)
			w := watch(t, k, dir)
			got := waited(w)
			if diff := cmp.Diff([]string{"kernel_log_gap 3 count 3 start backlog"}, brief(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if len(got) == 1 && got[0].Text != "3 lines of the kernel log are unknown: from sequence 0 to 2" {
				t.Error(got[0].Text)
			}
			w.stop()
		})
	})
	t.Run("while the agent was away", func(t *testing.T) {
		dir := node(t)
		synctest.Test(t, func(t *testing.T) {
			k := newKernel()
			k.print("x")
			w := watch(t, k, dir)
			synctest.Wait()
			w.stop()
			for range 6 {
				k.print(xid31)
			}
			k.forget(5)
			w = watch(t, k, dir)
			want := []string{"kernel_log_gap 5 count 4 restart backlog", "xid 5 xid 31 backlog", "xid 6 xid 31 backlog"}
			if diff := cmp.Diff(want, brief(waited(w))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			w.stop()
		})
	})
	t.Run("while it was reading", func(t *testing.T) {
		dir := node(t)
		synctest.Test(t, func(t *testing.T) {
			k := newKernel()
			k.bound = 10
			release := make(chan struct{})
			stuck := func(c *Config) {
				found := c.OnFinding
				c.OnFinding = func(f Finding) {
					<-release // the first time; then it is closed
					found(f)
				}
			}
			w := watch(t, k, dir, stuck)
			synctest.Wait()
			k.print(xid79)
			synctest.Wait()
			for range 25 {
				k.print("x")
			}
			close(release)
			if diff := cmp.Diff([]string{"xid 0 xid 79", "kernel_log_gap 16 count 15 overrun"}, brief(waited(w))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			w.stop()
			if n := w.reader.Stats().MissedLines.Load(); n != 15 {
				t.Errorf("%d missed lines", n)
			}
		})
	})
	t.Run("records that cannot be read", func(t *testing.T) {
		dir := node(t)
		synctest.Test(t, func(t *testing.T) {
			k := newKernel()
			w := watch(t, k, dir)
			synctest.Wait()
			k.print("x")
			k.raw([]byte("no record"))
			k.put(4, strings.Repeat("x", 20<<10)) // larger than the first buffer
			k.put(4, strings.Repeat("x", 20<<10)) // and not larger than the next
			k.print(xid31)
			if diff := cmp.Diff([]string{"kernel_log_gap 3 count 2 unreadable", "xid 4 xid 31"}, brief(waited(w))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			w.stop()
			if n := w.reader.Stats().Unreadable.Load(); n != 2 {
				t.Errorf("%d unreadable records", n)
			}
		})
	})
}

// TestDamagedState: it is said, the file is kept for a person, and the log is read from its beginning.
func TestDamagedState(t *testing.T) {
	for name, text := range map[string]string{
		"cut":            `{"version":1,"boot_id":"7d5`,
		"empty":          "",
		"binary":         "\x00\x00\x00",
		"another time":   `{"version":2,"boot_id":"` + bootA + `","sequence":5}`,
		"no boot":        `{"version":1,"boot_id":"","sequence":5}`,
		"a field more":   `{"version":1,"boot_id":"` + bootA + `","sequence":5,"x":1}`,
		"a value more":   `{"version":1,"boot_id":"` + bootA + `","sequence":5} {}`,
		"negative":       `{"version":1,"boot_id":"` + bootA + `","sequence":-5}`,
		"too large":      strings.Repeat(" ", 5000) + `{}`,
		"beyond the log": `{"version":1,"boot_id":"` + bootA + `","sequence":1000000}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := node(t)
			state := filepath.Join(dir, "state")
			if err := os.WriteFile(state, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				k := newKernel()
				k.print("x")
				k.print(xid79)
				w := watch(t, k, dir)
				if diff := cmp.Diff([]string{"xid 1 xid 79 backlog"}, brief(waited(w))); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				w.stop()
				said := 0
				for _, h := range w.told() {
					if strings.Contains(h.Problem, "is set aside as "+state+".damaged") {
						said++
					}
				}
				if last := w.told()[len(w.told())-1]; said != 1 || last != (Health{Reading: true}) {
					t.Errorf("said %d times, and at last %+v", said, last)
				}
			})
			if kept, err := os.ReadFile(state + ".damaged"); err != nil || string(kept) != text {
				t.Errorf("set aside: %q, %v", kept, err)
			}
			if p, ok, err := newStateFile(state).load(); err != nil || !ok || p.Sequence != 1 {
				t.Errorf("the new state: %+v, %v, %v", p, ok, err)
			}
		})
	}
}

// TestStateCannotBeWritten: it is told once, and reading goes on.
func TestStateCannotBeWritten(t *testing.T) {
	dir := node(t)
	synctest.Test(t, func(t *testing.T) {
		k := newKernel()
		w := watch(t, k, dir, func(c *Config) { c.StateFile = filepath.Join(dir, "none", "state") })
		synctest.Wait()
		for range 5 {
			k.print(xid31)
			synctest.Wait()
			pass(10 * time.Second)
		}
		if got := len(waited(w)); got != 5 {
			t.Errorf("%d findings", got)
		}
		if err := os.Mkdir(filepath.Join(dir, "none"), 0o700); err != nil {
			t.Fatal(err)
		}
		k.print(xid31)
		synctest.Wait()
		w.stop()
		health := w.told()
		if len(health) != 3 || health[0] != (Health{Reading: true}) || health[2] != (Health{Reading: true}) ||
			!health[1].Reading || !strings.HasPrefix(health[1].Problem, "write state of the kernel log: open ") {
			t.Errorf("%+v", health)
		}
	})
}

// TestDenied: that the log may not be read is told once, with what would mend it, and tried again.
func TestDenied(t *testing.T) {
	dir := node(t)
	synctest.Test(t, func(t *testing.T) {
		k := newKernel()
		k.print(xid31)
		k.deny(unix.EPERM)
		w := watch(t, k, dir)
		pass(10*time.Minute + time.Second)
		if k.opens() != 11 || len(w.findings()) != 0 {
			t.Errorf("%d tries, %d findings", k.opens(), len(w.findings()))
		}
		k.deny(nil)
		pass(time.Minute)
		if diff := cmp.Diff([]string{"xid 0 xid 31 backlog"}, brief(w.findings())); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		w.stop()
		want := []Health{
			{Problem: "read the kernel log /dev/kmsg: operation not permitted; give the agent the capability CAP_SYSLOG, which kernel.dmesg_restrict=1 asks for, and in a container the device itself"},
			{Reading: true},
		}
		if diff := cmp.Diff(want, w.told()); diff != "" {
			t.Errorf("health (-want +got):\n%s", diff)
		}
	})
}

// TestBrokenDevice: reading goes on where it was, and nothing is told twice.
func TestBrokenDevice(t *testing.T) {
	dir := node(t)
	synctest.Test(t, func(t *testing.T) {
		k := newKernel()
		w := watch(t, k, dir)
		synctest.Wait()
		k.print(xid31)
		synctest.Wait()
		k.fail(unix.EIO)
		synctest.Wait()
		k.print(xid79)
		k.fail(nil)
		pass(time.Minute)
		if diff := cmp.Diff([]string{"xid 0 xid 31", "xid 1 xid 79 backlog"}, brief(waited(w))); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		w.stop()
		want := []Health{{Reading: true}, {Problem: "read the kernel log /dev/kmsg: input/output error"}, {Reading: true}}
		if diff := cmp.Diff(want, w.told()); diff != "" {
			t.Errorf("health (-want +got):\n%s", diff)
		}
	})
}

func TestNoBootID(t *testing.T) {
	for name, text := range map[string]string{"missing": "", "nonsense": "not an id"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if text != "" {
				reboot(t, dir, text)
			}
			synctest.Test(t, func(t *testing.T) {
				k := newKernel()
				k.print(xid31)
				w := watch(t, k, dir)
				synctest.Wait()
				reboot(t, dir, bootA)
				pass(time.Minute)
				if got := waited(w); len(got) != 1 {
					t.Errorf("%d findings", len(got))
				}
				w.stop()
				if h := w.told(); len(h) != 2 || !strings.HasPrefix(h[0].Problem, "read the boot id: ") || h[0].Reading {
					t.Errorf("%+v", h)
				}
			})
		})
	}
}

// TestProgramsCannotForge: only the kernel's own lines count, unless a drill wants others.
func TestProgramsCannotForge(t *testing.T) {
	for _, drill := range []bool{false, true} {
		dir := node(t)
		synctest.Test(t, func(t *testing.T) {
			k := newKernel()
			w := watch(t, k, dir, func(c *Config) { c.UserLines = drill })
			synctest.Wait()
			const user = 1 << 3 // the facility of programs
			k.put(user|4, xid79)
			k.print(xid31)
			want := []string{"xid 1 xid 31"}
			if drill {
				want = []string{"xid 0 xid 79", "xid 1 xid 31"}
			}
			if diff := cmp.Diff(want, brief(waited(w))); diff != "" {
				t.Errorf("drill %v (-want +got):\n%s", drill, diff)
			}
			w.stop()
		})
	}
}

// TestStormIsThrottled: a second has a bound, and what is dropped is counted.
func TestStormIsThrottled(t *testing.T) {
	dir := node(t)
	synctest.Test(t, func(t *testing.T) {
		k := newKernel()
		w := watch(t, k, dir)
		synctest.Wait()
		for range 1000 {
			k.print(xid31)
		}
		if got := len(waited(w)); got != maxFindingsPerSecond {
			t.Errorf("%d findings at once", got)
		}
		pass(time.Second)
		got := brief(waited(w))
		if len(got) != maxFindingsPerSecond+1 || got[maxFindingsPerSecond] != "kernel_log_throttled 999 count 800" {
			t.Errorf("%d findings, the last %q", len(got), got[len(got)-1])
		}
		k.print(xid79)
		if got := brief(waited(w)); got[len(got)-1] != "xid 1000 xid 79" {
			t.Errorf("afterwards %q", got[len(got)-1])
		}
		w.stop()
		if n := w.reader.Stats().Throttled.Load(); n != 800 {
			t.Errorf("%d throttled", n)
		}
	})
}

// TestStopTellsWhatIsHeldBack: a message whose end has not come is told at a stop, and not again.
func TestStopTellsWhatIsHeldBack(t *testing.T) {
	dir := node(t)
	synctest.Test(t, func(t *testing.T) {
		k := newKernel()
		w := watch(t, k, dir)
		synctest.Wait()
		k.print("nvidia 0000:3b:00.0: PCIe Bus Error: severity=Uncorrected (Fatal), type=Transaction Layer, (Requester ID)")
		synctest.Wait()
		if n := len(w.findings()); n != 0 {
			t.Errorf("%d findings before the end of the message", n)
		}
		if diff := cmp.Diff([]string{"pcie_fatal 0"}, brief(w.stop())); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		w = watch(t, k, dir)
		if got := waited(w); len(got) != 0 {
			t.Errorf("again: %q", brief(got))
		}
		w.stop()
	})
}

// TestHeldBackIsNotLost: a position does not pass over a message that was not told yet.
func TestHeldBackIsNotLost(t *testing.T) {
	dir := node(t)
	synctest.Test(t, func(t *testing.T) {
		k := newKernel()
		k.print("x")
		w := watch(t, k, dir)
		synctest.Wait()
		pass(time.Hour) // a save is due
		k.print("pcieport 0000:00:01.0: PCIe Bus Error: severity=Corrected, type=Physical Layer, (Receiver ID)")
		k.print(xid31)
		synctest.Wait()
		if p, _, err := newStateFile(filepath.Join(dir, "state")).load(); err != nil || p.Sequence != 0 {
			t.Errorf("saved %+v, %v", p, err)
		}
		pass(2 * time.Second)
		if p, _, err := newStateFile(filepath.Join(dir, "state")).load(); err != nil || p.Sequence != 2 {
			t.Errorf("saved %+v, %v", p, err)
		}
		w.stop()
	})
}

func TestValidate(t *testing.T) {
	err := Config{}.Validate()
	for _, want := range []string{"no device", "no file of the boot id", "no OnFinding", "no OnHealth", "no logger", "want at least 1s"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
}
