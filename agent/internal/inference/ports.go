// SPDX-License-Identifier: Apache-2.0

package inference

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// portFinder finds on which of the known ports a process listens, or one of those that started it: the workers that hold
// the GPUs are mostly children of the one that answers. It belongs to Run's goroutine.
type portFinder struct {
	proc  fs.FS
	ports []uint16
	known map[uint32]listening // by process
}

// listening is where a process was found to listen.
type listening struct {
	at   []netip.AddrPort
	till time.Time
}

const (
	generations   = 4       // of parents that are looked at
	maxFiles      = 4096    // open files of a process that are looked at
	maxTableBytes = 4 << 20 // of sockets
	lookAgain     = time.Minute
	tcpListen     = "0A"
)

func newPortFinder(proc fs.FS, ports []uint16) *portFinder {
	if proc == nil || len(ports) == 0 {
		return nil
	}
	return &portFinder{proc: proc, ports: ports, known: make(map[uint32]listening)}
}

// find is where a workload listens. What cannot be read has no answer.
func (f *portFinder) find(w *workload) []netip.AddrPort {
	now := time.Now()
	for pid, l := range f.known {
		if now.After(l.till) {
			delete(f.known, pid)
		}
	}
	var all []netip.AddrPort
	for _, pid := range w.pids {
		l, ok := f.known[pid]
		if !ok {
			l = listening{at: f.look(pid, w.Address), till: now.Add(lookAgain)}
			f.known[pid] = l
		}
		for _, at := range l.at {
			if !slices.Contains(all, at) {
				all = append(all, at)
			}
		}
	}
	return all
}

// look reads the sockets of the network that a process is in, and picks those that it holds, or its parents.
func (f *portFinder) look(pid uint32, address string) []netip.AddrPort {
	dir := strconv.FormatUint(uint64(pid), 10)
	var open []socket
	for _, table := range []string{"tcp", "tcp6"} {
		open = append(open, f.listening(dir+"/net/"+table)...)
	}
	open = slices.DeleteFunc(open, func(s socket) bool { return !slices.Contains(f.ports, s.at.Port()) })
	if len(open) == 0 {
		return nil
	}
	held := f.held(dir)
	here := f.isHere(dir)
	var found []netip.AddrPort
	for _, s := range open {
		if !held[s.inode] {
			continue
		}
		if at, ok := f.reach(s.at, dir, address, here); ok && !slices.Contains(found, at) {
			found = append(found, at)
		}
	}
	return found
}

// reach is how this program can reach a socket; false if it cannot.
func (f *portFinder) reach(at netip.AddrPort, dir, address string, here bool) (netip.AddrPort, bool) {
	loopback := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port())
	switch {
	case at.Addr().IsLoopback():
		return loopback, here
	case !at.Addr().IsUnspecified():
		return at, true
	case here:
		return loopback, true
	}
	own, err := netip.ParseAddr(address)
	if err != nil {
		var ok bool
		if own, ok = f.ownAddress(dir); !ok {
			return netip.AddrPort{}, false
		}
	}
	return netip.AddrPortFrom(own, at.Port()), true
}

// isHere tells whether a process is in the network that this program is in.
func (f *portFinder) isHere(dir string) bool {
	own, err := fs.ReadLink(f.proc, "self/ns/net")
	if err != nil {
		return false
	}
	other, err := fs.ReadLink(f.proc, dir+"/ns/net")
	return err == nil && own == other
}

// socket is one that listens.
type socket struct {
	at    netip.AddrPort
	inode string
}

// listening reads a table of sockets, as proc_pid_net(5) has it:
//
//	sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
//	 0: 00000000:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 41234
func (f *portFinder) listening(name string) []socket {
	file, err := f.proc.Open(name)
	if err != nil {
		return nil
	}
	defer file.Close() //nolint:errcheck // it was only read
	var all []socket
	lines := bufio.NewScanner(io.LimitReader(file, maxTableBytes))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[3] != tcpListen {
			continue
		}
		if at, err := parseAddress(fields[1]); err == nil {
			all = append(all, socket{at, fields[9]})
		}
	}
	return all
}

// parseAddress reads an address as the kernel prints it: words of four bytes in the machine's order, and a port.
func parseAddress(text string) (netip.AddrPort, error) {
	address, port, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(address)
	if err != nil || len(raw) != 4 && len(raw) != 16 {
		return netip.AddrPort{}, fmt.Errorf("address %q of a socket", text)
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	number, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("port of address %q of a socket: %w", text, err)
	}
	at, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(at.Unmap(), uint16(number)), nil
}

// held are the inodes of the sockets that a process holds, and its parents.
func (f *portFinder) held(dir string) map[string]bool {
	held := make(map[string]bool)
	for range generations {
		entries, err := fs.ReadDir(f.proc, dir+"/fd")
		if err == nil {
			for _, e := range entries[:min(len(entries), maxFiles)] {
				to, err := fs.ReadLink(f.proc, dir+"/fd/"+e.Name())
				if inode, is := strings.CutPrefix(to, "socket:["); err == nil && is {
					held[strings.TrimSuffix(inode, "]")] = true
				}
			}
		}
		parent := f.parent(dir)
		if parent <= 1 {
			break
		}
		dir = strconv.FormatUint(parent, 10)
	}
	return held
}

// parent is the number of a process's parent; 0 if it is not known.
func (f *portFinder) parent(dir string) uint64 {
	stat, err := fs.ReadFile(f.proc, dir+"/stat")
	if err != nil {
		return 0
	}
	text := string(stat)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	parent, err := strconv.ParseUint(fields[1], 10, 32)
	if err != nil {
		return 0
	}
	return parent
}

// ownAddress is the address of the network that a process is in, by its table of routes: a container without Kubernetes
// tells it nowhere else.
//
//	|-- 172.17.0.2
//	   /32 host LOCAL
func (f *portFinder) ownAddress(dir string) (netip.Addr, bool) {
	file, err := f.proc.Open(dir + "/net/fib_trie")
	if err != nil {
		return netip.Addr{}, false
	}
	defer file.Close() //nolint:errcheck // it was only read
	var last netip.Addr
	lines := bufio.NewScanner(io.LimitReader(file, maxTableBytes))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if text, is := strings.CutPrefix(line, "|-- "); is {
			last, err = netip.ParseAddr(text)
			continue
		}
		if line == "/32 host LOCAL" && err == nil && last.IsValid() && !last.IsLoopback() {
			return last, true
		}
	}
	return netip.Addr{}, false
}
