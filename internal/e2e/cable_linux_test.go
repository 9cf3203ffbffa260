// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cable is a way between two hosts, of which one is a network namespace of its own. Packets of the kernel's TCP go over it, and are
// delayed, lost or held up as they would be between hosts:
//
//	agents ── TCP ── tun ═ cable ═ tun ── listener in the namespace ── TCP ── target
//	   this host's namespace    │    its own namespace                 this host's namespace
//
// It needs the right to make namespaces and tunnels.
type cable struct {
	address string // where the target is reached over it
	gate    *gate  // behind it
	near    *os.File
	far     *os.File
	ended   sync.WaitGroup
	timers  sync.WaitGroup // packets on their way

	delay    atomic.Int64 // of each packet, ns
	loss     atomic.Int64 // of a million packets
	up, down direction
}

// direction is one of the two.
type direction struct {
	cut     atomic.Bool // nothing comes through
	packets atomic.Int64
	lost    atomic.Int64
}

// cableAddresses are of a network that is set aside for benchmarks of networks (RFC 2544): no host has them.
func cableAddresses() (near, far netip.Addr) {
	n := uint32(os.Getpid()) & 0x3fff << 2
	at := func(host uint32) netip.Addr {
		n := n | host
		return netip.AddrFrom4([4]byte{198, 18 | byte(n>>16), byte(n >> 8), byte(n)})
	}
	return at(1), at(2)
}

// newCable lays a cable to a target; the test is skipped, aloud, where that is not allowed.
func newCable(t *testing.T, target string) *cable {
	t.Helper()
	nearAddress, farAddress := cableAddresses()
	c := &cable{}
	var listener net.Listener
	var err error
	if c.near, err = openTunnel("gfn"+strconv.Itoa(os.Getpid()), nearAddress); err != nil {
		t.Skipf("SKIPPED: no tunnel can be made here: %v", err)
	}
	if c.far, listener, err = inNamespace("gff", farAddress); err != nil {
		_ = c.near.Close()
		t.Skipf("SKIPPED: no network namespace can be made here: %v", err)
	}
	c.address = listener.Addr().String()
	c.gate = gateBehind(t, listener, target)
	c.ended.Go(func() { c.carry(c.near, c.far, &c.up) })
	c.ended.Go(func() { c.carry(c.far, c.near, &c.down) })
	t.Cleanup(func() {
		c.gate.close()
		_, _ = c.near.Close(), c.far.Close()
		c.ended.Wait()
		c.timers.Wait()
	})
	return c
}

// carry brings packets from one end to the other.
func (c *cable) carry(from, to *os.File, d *direction) {
	buffer := make([]byte, 1<<16)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		d.packets.Add(1)
		if d.cut.Load() || rand.Int64N(1_000_000) < c.loss.Load() {
			d.lost.Add(1)
			continue
		}
		packet := append([]byte(nil), buffer[:n]...)
		delay := time.Duration(c.delay.Load())
		if delay == 0 {
			_, _ = to.Write(packet) // a packet that the other end does not take is lost
			continue
		}
		c.timers.Add(1)
		time.AfterFunc(delay, func() {
			defer c.timers.Done()
			_, _ = to.Write(packet)
		})
	}
}

// heal makes it a good cable again.
func (c *cable) heal() {
	c.delay.Store(0)
	c.loss.Store(0)
	c.up.cut.Store(false)
	c.down.cut.Store(false)
}

// inNamespace makes a namespace with one end of a cable, and a listener in it. Both live on when the thread that was
// in the namespace has ended.
func inNamespace(name string, address netip.Addr) (far *os.File, listener net.Listener, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with its goroutine
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("make a network namespace: %w", err)
			return
		}
		if far, err = openTunnel(name, address); err != nil {
			return
		}
		if listener, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", net.JoinHostPort(address.String(), "0")); err != nil {
			err = errors.Join(err, far.Close())
		}
	}()
	<-done
	return far, listener, err
}

// openTunnel makes a network device whose packets are read from, and written to, a file; the device goes with it.
func openTunnel(name string, address netip.Addr) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return nil, errors.Join(fmt.Errorf("make tunnel %s: %w", name, err), unix.Close(fd))
	}
	if err := raise(name, address); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}

// raise gives a device its address in a network of two hosts, and lets it work.
func raise(name string, address netip.Addr) error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("raise %s: %w", name, err)
	}
	defer unix.Close(socket)
	four := address.As4()
	for _, step := range []struct {
		request uint
		set     func(*unix.Ifreq) error
	}{
		{unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(four[:]) }},
		{unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr([]byte{255, 255, 255, 252}) }},
		{unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }},
	} {
		request, err := unix.NewIfreq(name)
		if err == nil {
			err = step.set(request)
		}
		if err == nil {
			err = unix.IoctlIfreq(socket, step.request, request)
		}
		if err != nil {
			return fmt.Errorf("raise %s: %w", name, err)
		}
	}
	return nil
}
