// SPDX-License-Identifier: Apache-2.0

package process

import (
	"io"
	"io/fs"
	"os"
	"strings"
)

// View is what can be seen from where this program runs. A program in a container has numbers of its own
// for processes, unless it shares the host's.
type View struct {
	All      bool // the driver lists the processes of the whole host to us
	Resolves bool // their numbers are those of /proc
}

// hostNamespace is how the kernel names the first namespace of process numbers: its inode is fixed
// (PROC_PID_INIT_INO).
const hostNamespace = "pid:[4026531836]"

// Look finds out what can be seen. self is the program's own /proc/self; root is the file system that
// processes are read from, which may be the host's /proc, mounted elsewhere.
func Look(root fs.FS) View {
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err != nil || namespace == hostNamespace {
		return View{All: true, Resolves: true}
	}
	return View{Resolves: ofAncestor(root)}
}

// ofAncestor tells whether root is the /proc of a namespace above ours: there, we have a number in each
// of the namespaces from that one down to our own.
func ofAncestor(root fs.FS) bool {
	f, err := root.Open("self/status")
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		if numbers, found := strings.CutPrefix(line, "NSpid:"); found {
			return len(strings.Fields(numbers)) > 1
		}
	}
	return false
}
