// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package up

import "syscall"

// dieWithParent keeps Ctrl-C from the child, so that it can store what we still send.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
