// SPDX-License-Identifier: Apache-2.0

package network

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/schema"
)

// ib makes one InfiniBand port; state sets it.
func ib(t *testing.T) (s sysfs, state func(state, physical string)) {
	t.Helper()
	s = newSysfs(t)
	s.add("mlx5_0", pciFirst, "mlx5_core", "0", with(ndrPort(), map[string]string{"ports/1/counters/link_downed": "0"}))
	return s, func(state, physical string) {
		s.set("mlx5_0", map[string]string{"ports/1/state": state, "ports/1/phys_state": physical})
	}
}

// wantKinds fails unless the events so far are these.
func wantKinds(t *testing.T, r *recorder, when string, want ...string) {
	t.Helper()
	if got := r.kinds(); got != strings.Join(want, ", ") {
		t.Errorf("%s: events %q, want %q", when, got, strings.Join(want, ", "))
	}
}

func wantMessage(t *testing.T, r *recorder, kind, want string) {
	t.Helper()
	got := r.messages(kind)
	if len(got) == 0 || got[len(got)-1] != want {
		t.Errorf("%s: %q, want %q", kind, got, want)
	}
}

func TestDownAndUp(t *testing.T) {
	s, set := ib(t)
	s.addNet("ib0", pciFirst, map[string]string{"operstate": "up"})
	watch(t, os.DirFS(s.root), nil, func(r *recorder) {
		pass(5 * time.Second)
		wantKinds(t, r, "while all is well")
		set(stopped, polling)
		s.set("mlx5_0", map[string]string{"ports/1/counters/link_downed": "1", "ports/1/rate": "10 Gb/sec (4X SDR)"})
		s.write(map[string]string{netFolder + "/ib0/operstate": "down"})
		pass(time.Second)
		wantKinds(t, r, "a second after the link was lost", "mlx5_0 port_down")
		wantMessage(t, r, kindDown, "mlx5_0 port 1: DOWN, Polling; ib0 is down; link_downed stands at 1 (was ACTIVE, LinkUp)")
		e := r.events[0]
		if e.Source != schema.SourceNetwork || e.NetworkDevice != "mlx5_0" || e.NetworkPort == nil || *e.NetworkPort != 1 {
			t.Errorf("event %+v", e)
		}
		set("2: INIT", linkUp) // still no data passes
		pass(time.Second)
		set(active, linkUp)
		s.set("mlx5_0", map[string]string{"ports/1/rate": ndr})
		pass(time.Second)
		wantKinds(t, r, "when it is back", "mlx5_0 port_down", "mlx5_0 port_up")
		wantMessage(t, r, kindUp, "mlx5_0 port 1: ACTIVE, LinkUp; 400 Gb/s (4X NDR); ib0 is down; link_downed stands at 1 (was INIT, LinkUp)")
	})
}

// TestAPortThatIsDownFromTheStart: unused ports are down for ever; that is no news.
func TestAPortThatIsDownFromTheStart(t *testing.T) {
	s, set := ib(t)
	set(stopped, "3: Disabled")
	watch(t, os.DirFS(s.root), nil, func(r *recorder) {
		pass(2 * time.Hour)
		wantKinds(t, r, "of an unused port")
		if row := shown(r.of("mlx5_0")[0]); row["state"] != "DOWN" || row["physical_state"] != "Disabled" || row["rate_gigabits_per_second"] != "" {
			t.Errorf("row %v", row)
		}
		set(active, linkUp)
		pass(time.Second)
		wantKinds(t, r, "when it is taken into use", "mlx5_0 port_up")
	})
}

// TestFlapping loses a link three times in ten minutes, and asks what is said while it goes on, and after.
func TestFlapping(t *testing.T) {
	s, set := ib(t)
	lose := func(down time.Duration) {
		set(stopped, polling)
		pass(down)
		set(active, linkUp)
		pass(3 * time.Second)
	}
	watch(t, os.DirFS(s.root), nil, func(r *recorder) {
		lose(2 * time.Second)
		pass(3 * time.Minute)
		lose(2 * time.Second)
		wantKinds(t, r, "after two losses", "mlx5_0 port_down", "mlx5_0 port_up", "mlx5_0 port_down", "mlx5_0 port_up")
		pass(3 * time.Minute)
		before := r.kinds()
		lose(2 * time.Second)
		wantKinds(t, r, "after three", before, "mlx5_0 port_down", "mlx5_0 port_flapping")
		wantMessage(t, r, kindFlapping, "mlx5_0 port 1: it lost its link 3 times within 6m10s; it counts as flapping until it is quiet for 30m0s")
		for range 20 {
			lose(2 * time.Second)
		}
		before += ", mlx5_0 port_down, mlx5_0 port_flapping"
		wantKinds(t, r, "while it goes on", before)
		pass(61 * time.Second)
		before += ", mlx5_0 port_up"
		wantKinds(t, r, "when it has been up for a minute", before)
		if row := r.of("mlx5_0"); row[len(row)-1]["flapping"].Int != 1 {
			t.Error("its row does not say that it flaps")
		}
		set(stopped, polling)
		pass(59 * time.Second)
		wantKinds(t, r, "when it has just been lost again", before)
		pass(2 * time.Second)
		before += ", mlx5_0 port_down"
		wantKinds(t, r, "when it stays down", before)
		wantMessage(t, r, kindDown, "mlx5_0 port 1: DOWN, Polling; so for 1m0s")
		pass(29 * time.Minute)
		before += ", mlx5_0 port_steady"
		wantKinds(t, r, "after half an hour without a change", before)
		if count := r.events[len(r.events)-1].Count; count == nil || *count != 24 {
			t.Errorf("count of losses %v, want 24", count)
		}
		pass(time.Minute)
		if row := r.of("mlx5_0"); row[len(row)-1]["flapping"].Int != 0 {
			t.Error("its row still says that it flaps")
		}
		set(active, linkUp)
		pass(time.Second)
		wantKinds(t, r, "when all is over", before, "mlx5_0 port_up")
	})
}

func TestSlowLossesAreNoFlapping(t *testing.T) {
	s, set := ib(t)
	watch(t, os.DirFS(s.root), nil, func(r *recorder) {
		for range 10 {
			set(stopped, polling)
			pass(2 * time.Second)
			set(active, linkUp)
			pass(5 * time.Minute)
		}
		if len(r.messages(kindFlapping)) != 0 || len(r.messages(kindDown)) != 10 {
			t.Errorf("events %s", r.kinds())
		}
	})
}

// TestLossesTooShortToBeSeen: only link_downed tells of them.
func TestLossesTooShortToBeSeen(t *testing.T) {
	s, _ := ib(t)
	watch(t, os.DirFS(s.root), nil, func(r *recorder) {
		pass(time.Minute)
		s.set("mlx5_0", map[string]string{"ports/1/counters/link_downed": "2"})
		pass(time.Minute)
		wantKinds(t, r, "after two")
		s.set("mlx5_0", map[string]string{"ports/1/counters/link_downed": "3"})
		pass(time.Minute)
		wantKinds(t, r, "after three", "mlx5_0 port_flapping")
		if got := r.messages(kindFlapping)[0]; !strings.Contains(got, "3 times within 1m0s, of which 3 were too short to be seen") {
			t.Errorf("message %q", got)
		}
	})
}

// TestALossIsCountedOnce although the state and link_downed both tell of it, the counter as late as it likes.
func TestALossIsCountedOnce(t *testing.T) {
	for name, late := range map[string]time.Duration{"at once": 0, "late": 45 * time.Second, "a minute later": 70 * time.Second} {
		t.Run(name, func(t *testing.T) {
			s, set := ib(t)
			watch(t, os.DirFS(s.root), func(c *Config) { c.Flapping.Losses = 2 }, func(r *recorder) {
				pass(30 * time.Second)
				set(stopped, polling)
				pass(2 * time.Second)
				set(active, linkUp)
				pass(late)
				s.set("mlx5_0", map[string]string{"ports/1/counters/link_downed": "1"})
				pass(10 * time.Minute)
				if len(r.messages(kindFlapping)) != 0 {
					t.Errorf("one loss counted twice: %s", r.kinds())
				}
				s.set("mlx5_0", map[string]string{"ports/1/counters/link_downed": "2"})
				pass(2 * time.Minute)
				if len(r.messages(kindFlapping)) != 0 {
					t.Errorf("the second loss came more than ten minutes later: %s", r.kinds())
				}
			})
		})
	}
}

// TestCarrierOfRoCE: its network device counts losses that the state did not show. Once a second it is asked, in both
// of its ways.
func TestCarrierOfRoCE(t *testing.T) {
	for file, counts := range map[string][]string{"carrier_down_count": {"7", "8", "9", "10"}, "carrier_changes": {"14", "16", "18", "20"}} {
		t.Run(file, func(t *testing.T) {
			s := newSysfs(t)
			s.add("mlx5_0", pciFirst, "mlx5_core", "0", rocePort())
			s.addNet("eth0", pciFirst, map[string]string{"operstate": "up", file: counts[0]})
			watch(t, os.DirFS(s.root), nil, func(r *recorder) {
				// One that is seen, and that the counter tells of a second later.
				s.set("mlx5_0", map[string]string{"ports/1/state": stopped})
				pass(time.Second)
				s.write(map[string]string{netFolder + "/eth0/" + file: counts[1]})
				pass(2 * time.Second)
				s.set("mlx5_0", map[string]string{"ports/1/state": active})
				pass(2 * time.Second)
				s.write(map[string]string{netFolder + "/eth0/" + file: counts[2]})
				pass(time.Second)
				wantKinds(t, r, "after one that was seen and one that was not", "mlx5_0 port_down", "mlx5_0 port_up")
				s.write(map[string]string{netFolder + "/eth0/" + file: counts[3]})
				pass(time.Second)
				wantKinds(t, r, "after three", "mlx5_0 port_down", "mlx5_0 port_up", "mlx5_0 port_flapping")
				if got := r.messages(kindFlapping)[0]; !strings.Contains(got, "of which 2 were too short") {
					t.Errorf("message %q", got)
				}
			})
		})
	}
}

// TestCarrierOfIPoIB is the subnet manager's business: it says nothing of the link.
func TestCarrierOfIPoIB(t *testing.T) {
	s, _ := ib(t)
	s.addNet("ib0", pciFirst, map[string]string{"operstate": "up", "carrier_down_count": "0"})
	watch(t, os.DirFS(s.root), nil, func(r *recorder) {
		s.write(map[string]string{netFolder + "/ib0/carrier_down_count": "50"})
		pass(2 * time.Minute)
		wantKinds(t, r, "when IPoIB joins its group again")
	})
}

func TestDegraded(t *testing.T) {
	s, set := ib(t)
	watch(t, os.DirFS(s.root), nil, func(r *recorder) {
		pass(2 * time.Second)
		s.set("mlx5_0", map[string]string{"ports/1/rate": "200 Gb/sec (2X NDR)"}) // by itself: found with the row
		pass(time.Minute)
		wantKinds(t, r, "a minute after it fell", "mlx5_0 port_degraded")
		wantMessage(t, r, kindDegraded, "mlx5_0 port 1: it runs at 200 Gb/s (2X NDR), and has run at 400 Gb/s (4X NDR)")
		pass(time.Hour)
		wantKinds(t, r, "an hour later", "mlx5_0 port_degraded")
		if row := r.of("mlx5_0"); row[len(row)-1]["degraded"].Int != 1 {
			t.Error("its row does not say that it is degraded")
		}
		set(stopped, polling)
		s.set("mlx5_0", map[string]string{"ports/1/rate": "10 Gb/sec (4X SDR)"}) // means nothing while it is down
		pass(2 * time.Second)
		s.set("mlx5_0", map[string]string{"ports/1/rate": ndr})
		set(active, linkUp)
		pass(time.Second)
		wantKinds(t, r, "when it has trained again", "mlx5_0 port_degraded", "mlx5_0 port_down", "mlx5_0 port_up", "mlx5_0 port_restored")
	})
}

func TestDegradedByConfiguration(t *testing.T) {
	s, _ := ib(t)
	s.add("mlx5_9", "0000:19:00.0", "mlx5_core", "0", ndrPort())
	watch(t, os.DirFS(s.root), func(c *Config) { c.Expect = []Expectation{{"mlx5_[0-8]", 800}, {"*", 400}} }, func(r *recorder) {
		wantKinds(t, r, "at the start", "mlx5_0 port_degraded")
		wantMessage(t, r, kindDegraded, "mlx5_0 port 1: it runs at 400 Gb/s (4X NDR), and 800 Gb/s is expected by configuration")
	})
}

func TestMissingAndFound(t *testing.T) {
	s, _ := ib(t)
	s.add("mlx5_1", "0000:19:00.0", "mlx5_core", "0", with(ndrPort(), map[string]string{"ports/1/counters/link_downed": "5"}))
	watch(t, os.DirFS(s.root), nil, func(r *recorder) {
		pass(2 * time.Second)
		s.vanish("mlx5_1", "0000:19:00.0")
		pass(time.Second)
		wantKinds(t, r, "a second after it vanished", "mlx5_1 port_missing")
		wantMessage(t, r, kindMissing, "mlx5_1 port 1: it is no longer listed (was ACTIVE, LinkUp)")
		pass(2 * time.Minute)
		rows := r.of("mlx5_1")
		if got := shown(rows[len(rows)-1]); got["state"] != "MISSING" || got["rate_gigabits_per_second"] != "" || got["link_downed_total"] != "" {
			t.Errorf("row of a port that is missing: %v", got)
		}
		if len(r.of("mlx5_0")) != len(rows) {
			t.Errorf("%d rows of the other device, %d of this one", len(r.of("mlx5_0")), len(rows))
		}
		s.add("mlx5_1", "0000:19:00.0", "mlx5_core", "1", with(ndrPort(), map[string]string{"ports/1/counters/link_downed": "0", "ports/1/state": stopped}))
		pass(time.Second)
		wantKinds(t, r, "when it is there again", "mlx5_1 port_missing", "mlx5_1 port_found")
		wantMessage(t, r, kindFound, "mlx5_1 port 1: DOWN, LinkUp; link_downed stands at 0 (was missing)")
		rows = r.of("mlx5_1")
		got := shown(rows[len(rows)-1])
		if got["state"] != "DOWN" || got["numa_node"] != number(1) || got["counter_epoch"] != number(2) {
			t.Errorf("row of the port that came back: %v", got)
		}
	})
}

// TestGoneForGood: a device that does not come back has rows for a time, and no more after that.
func TestGoneForGood(t *testing.T) {
	s, _ := ib(t)
	s.add("mlx5_1", "0000:19:00.0", "mlx5_core", "0", ndrPort())
	watch(t, os.DirFS(s.root), func(c *Config) { c.RemoveAfter = 10 * time.Minute }, func(r *recorder) {
		pass(2 * time.Second)
		s.vanish("mlx5_1", "0000:19:00.0")
		pass(9 * time.Minute)
		wantKinds(t, r, "after nine minutes", "mlx5_1 port_missing")
		pass(2 * time.Minute)
		wantKinds(t, r, "after eleven", "mlx5_1 port_missing", "mlx5_1 port_removed")
		before, others := len(r.of("mlx5_1")), len(r.of("mlx5_0"))
		pass(10 * time.Minute)
		if now := len(r.of("mlx5_1")); now != before || len(r.of("mlx5_0")) < others+9 {
			t.Errorf("%d rows of what was removed, then %d; %d of what is there, then %d", before, now, others, len(r.of("mlx5_0")))
		}
		s.add("mlx5_1", "0000:19:00.0", "mlx5_core", "0", ndrPort())
		pass(2 * time.Minute)
		if now := len(r.of("mlx5_1")); now < before+2 {
			t.Errorf("%d rows, then %d of the device that came back", before, now)
		}
	})
}

// TestRenamed: udev gives a device another name soon after it has come.
func TestRenamed(t *testing.T) {
	s, _ := ib(t)
	watch(t, os.DirFS(s.root), nil, func(r *recorder) {
		pass(2 * time.Second)
		s.vanish("mlx5_0", pciFirst)
		s.add("ibp24s0", pciFirst, "mlx5_core", "0", ndrPort())
		pass(3 * time.Minute)
		wantKinds(t, r, "after another name")
		if old, now := len(r.of("mlx5_0")), len(r.of("ibp24s0")); old != 1 || now < 3 {
			t.Errorf("%d rows by the old name, %d by the new one", old, now)
		}
	})
}

func TestDevicesThatComeLater(t *testing.T) {
	s := newSysfs(t)
	s.remove(devicesFolder) // the drivers are not loaded yet
	watch(t, os.DirFS(s.root), nil, func(r *recorder) {
		pass(time.Minute)
		s.add("mlx5_0", pciFirst, "mlx5_core", "0", ndrPort())
		pass(11 * time.Second)
		if len(r.of("mlx5_0")) != 1 {
			t.Error("a device that came later was not found")
		}
		s.addNet("ib0", pciFirst, map[string]string{"operstate": "up"})
		pass(2 * time.Minute)
		rows := r.of("mlx5_0")
		if got := rows[len(rows)-1]["net_device"].Text; got != "ib0" {
			t.Errorf("network device %q", got)
		}
		wantKinds(t, r, "of what is new")
	})
}

// hanging is a sysfs in which a read of one file does not return.
type hanging struct {
	fs.FS
	mu    sync.Mutex
	file  string // whose path holds this
	until chan struct{}
}

func (h *hanging) Open(name string) (fs.File, error) {
	h.mu.Lock()
	hangs := h.file != "" && strings.Contains(name, h.file)
	h.mu.Unlock()
	if hangs {
		<-h.until
	}
	return h.FS.Open(name)
}

func (h *hanging) ReadLink(name string) (string, error) { return fs.ReadLink(h.FS, name) }

func (h *hanging) Lstat(name string) (fs.FileInfo, error) { return fs.Lstat(h.FS, name) }

func (h *hanging) hang(file string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.file = file
}

// release lets the reads that hang return, and no other hang.
func (h *hanging) release() {
	h.hang("")
	close(h.until)
}

// TestOneDeviceHangs: the others go on.
func TestOneDeviceHangs(t *testing.T) {
	s, _ := ib(t)
	s.add("mlx5_1", "0000:19:00.0", "mlx5_core", "0", ndrPort())
	h := &hanging{FS: os.DirFS(s.root)}
	watch(t, h, func(*Config) { h.until = make(chan struct{}) }, func(r *recorder) {
		pass(2 * time.Second)
		h.hang("mlx5_1/ports")
		pass(10 * time.Second)
		wantKinds(t, r, "while it hangs", "mlx5_1 port_stuck")
		wantMessage(t, r, kindStuck, "mlx5_1: a read of sysfs has not returned for 5s")
		s.set("mlx5_0", map[string]string{"ports/1/state": stopped})
		pass(2 * time.Minute)
		wantKinds(t, r, "of the other device", "mlx5_1 port_stuck", "mlx5_0 port_down")
		if rows := r.of("mlx5_1"); len(rows) != 1 {
			t.Errorf("%d rows of a device that hangs", len(rows))
		}
		h.release()
		pass(time.Second)
		wantKinds(t, r, "when it returns", "mlx5_1 port_stuck", "mlx5_0 port_down", "mlx5_1 port_unstuck")
	})
}

// TestStopLeavesAHangingReadBehind, and says so.
func TestStopLeavesAHangingReadBehind(t *testing.T) {
	s, _ := ib(t)
	h := &hanging{FS: os.DirFS(s.root)}
	var log bytes.Buffer
	watch(t, h, func(c *Config) {
		h.until = make(chan struct{})
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	}, func(*recorder) {
		h.hang("ports/1/state")
		pass(2 * time.Second)
		time.AfterFunc(10*time.Second, func() { close(h.until) }) // after the stop; or the test would never end
	})
	if !strings.Contains(log.String(), `leaving them behind" devices=mlx5_0`) {
		t.Errorf("log:\n%s", log.String())
	}
}

// TestARowThatCannotBeWrittenEndsIt: the agent has to know.
func TestARowThatCannotBeWrittenEndsIt(t *testing.T) {
	s, _ := ib(t)
	watch(t, os.DirFS(s.root), nil, func(r *recorder) {
		r.mu.Lock()
		r.err = errors.New("no room")
		r.mu.Unlock()
		pass(2 * time.Minute)
	})
}

func TestOptionsThatCannotBeHonoured(t *testing.T) {
	tests := []struct {
		change func(*Options)
		want   string
	}{
		{func(o *Options) { o.Flapping.Losses = 1 }, "after 1 link losses"},
		{func(o *Options) { o.Flapping.Within = 0 }, "losses within 0s"},
		{func(o *Options) { o.Flapping.Quiet = -time.Second }, "quiet for -1s"},
		{func(o *Options) { o.Expect = []Expectation{{"[", 400}} }, `expected rate of "["`},
		{func(o *Options) { o.Expect = []Expectation{{"", 400}} }, `expected rate of ""`},
		{func(o *Options) { o.Expect = []Expectation{{"*", 0}} }, "0 gigabits per second"},
	}
	for _, tt := range tests {
		o := DefaultOptions()
		tt.change(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Validate() = %v, want %q", err, tt.want)
		}
	}
	if err := DefaultOptions().Validate(); err != nil || DefaultOptions().Sysfs != nil {
		t.Errorf("the default is invalid or watches something: %v", err)
	}
}

// TestAPortThatComesAfterItsDevice: the kernel lists a device before it has made its ports.
func TestAPortThatComesAfterItsDevice(t *testing.T) {
	s := newSysfs(t)
	s.add("mlx5_0", pciFirst, "mlx5_core", "0", nil)
	watch(t, os.DirFS(s.root), nil, func(r *recorder) {
		s.set("mlx5_0", ndrPort())
		pass(3 * time.Minute)
		if rows := r.of("mlx5_0"); len(rows) == 0 {
			t.Error("its port is not watched")
		}
	})
}
