// SPDX-License-Identifier: Apache-2.0

package embedded

import "syscall"

// dieWithParent makes the kernel kill a program when the thread that started it is gone, however that came about.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
