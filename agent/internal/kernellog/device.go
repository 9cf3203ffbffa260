// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// device is the kernel's log as one opens it: the only place where tests put something else.
type device interface {
	// Read gives the next record. It does not wait: EAGAIN says that there is none. EPIPE says that records were
	// overwritten; the next Read goes on with the oldest that is left. EINVAL says that p is too small for the
	// record, which is lost.
	Read(p []byte) (int, error)
	// Wait returns when a record may be there, or os.ErrDeadlineExceeded at the time; zero means never.
	Wait(until time.Time) error
	// Close ends a Wait, from any goroutine.
	Close() error
}

// kmsg is /dev/kmsg. The runtime's poller waits for it, so that no thread is held and Close wakes.
type kmsg struct {
	file *os.File
	raw  syscall.RawConn
}

var errNotPollable = errors.New("it cannot be waited for: want a device such as " + DefaultDevice)

func openDevice(path string) (device, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := file.SetReadDeadline(time.Time{}); err != nil {
		file.Close() //nolint:errcheck // it was not even read
		return nil, errNotPollable
	}
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close() //nolint:errcheck // it was not even read
		return nil, err
	}
	return &kmsg{file, raw}, nil
}

// Read leaves the poller out: that refuses all reading once the deadline of a Wait has passed.
func (k *kmsg) Read(p []byte) (n int, err error) {
	outer := k.raw.Control(func(fd uintptr) { n, err = unix.Read(int(fd), p) })
	if outer != nil {
		return 0, outer
	}
	return max(n, 0), err
}

func (k *kmsg) Wait(until time.Time) error {
	if err := k.file.SetReadDeadline(until); err != nil {
		return err
	}
	return k.raw.Read(func(fd uintptr) bool {
		ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(ready, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
}

func (k *kmsg) Close() error { return k.file.Close() }

// explain says what would mend an error of the device.
func explain(path string, err error) error {
	advice := ""
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		advice = "; in a container, mount the host's " + DefaultDevice
	case errors.Is(err, unix.EACCES):
		advice = "; let the agent's user read the file"
	case errors.Is(err, unix.EPERM):
		advice = "; give the agent the capability CAP_SYSLOG, which kernel.dmesg_restrict=1 asks for, and in a container the device itself"
	}
	if inner, ok := errors.AsType[*fs.PathError](err); ok {
		err = inner.Err
	}
	return fmt.Errorf("read the kernel log %s: %w%s", path, err, advice)
}
