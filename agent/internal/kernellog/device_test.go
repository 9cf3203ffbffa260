// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestDeviceIsReadAfterADeadline has a pipe in the place of the kernel's log: the kernel lets one wait for both alike.
// A Wait that ended at its time must not keep the next Read from reading.
func TestDeviceIsReadAfterADeadline(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kmsg")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	dev, err := openDevice(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	kernel, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer kernel.Close()
	room := make([]byte, 100)
	for range 2 {
		if err := dev.Wait(time.Now().Add(-time.Second)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("waiting for what has passed: %v", err)
		}
		if _, err := dev.Read(room); !errors.Is(err, unix.EAGAIN) {
			t.Fatalf("reading where there is nothing: %v", err)
		}
		if _, err := kernel.WriteString("record"); err != nil {
			t.Fatal(err)
		}
		if n, err := dev.Read(room); err != nil || string(room[:n]) != "record" {
			t.Fatalf("read %q, %v", room[:n], err)
		}
	}
	if _, err := kernel.WriteString("more"); err != nil {
		t.Fatal(err)
	}
	if err := dev.Wait(time.Time{}); err != nil {
		t.Errorf("waiting without an end for what is there: %v", err)
	}
}

func TestDeviceMustBeOneToWaitFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kmsg")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openDevice(path); !errors.Is(err, errNotPollable) {
		t.Errorf("a plain file: %v", err)
	}
	if _, err := openDevice(path + "none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
}
