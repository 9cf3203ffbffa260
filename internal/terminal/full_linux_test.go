// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openPTY is both ends of a terminal of its own.
func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no terminals here: ", err)
	}
	t.Cleanup(func() { master.Close() })
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Skip("no terminals here: ", err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

func TestFullGivesTheTerminalBack(t *testing.T) {
	master, slave := openPTY(t)
	before, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	full, err := Take(slave, &out)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []byte{'q', 3} {
		if _, err := master.Write([]byte{key}); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-full.Keys():
			if got != key {
				t.Errorf("key %d, want %d", got, key)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("key %d has not come", key)
		}
	}
	full.Draw([]string{"a long line", "b", "c"}, func() (int, int) { return 6, 2 })
	if _, err := master.WriteString("keys that nobody reads"); err != nil {
		t.Fatal(err)
	}
	if err := full.Close(); err != nil {
		t.Fatal(err)
	}
	after, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	if *after != *before {
		t.Errorf("the terminal was %+v and is %+v", *before, *after)
	}
	if want := enter + "\x1b[Ha lon…\x1b[K\r\nb\x1b[K\x1b[J" + leave; out.String() != want {
		t.Errorf("wrote %q, want %q", out.String(), want)
	}
}

func TestFullOfNoTerminal(t *testing.T) {
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := Take(file, &strings.Builder{}); err == nil || !strings.Contains(err.Error(), "take the terminal") {
		t.Errorf("took %s: %v", os.DevNull, err)
	}
}
