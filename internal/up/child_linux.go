// SPDX-License-Identifier: Apache-2.0

package up

import "syscall"

// dieWithParent has the kernel end the child when we end, however we do; and keeps Ctrl-C from it, so
// that it can store what we still send.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
}
