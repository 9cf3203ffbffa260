// SPDX-License-Identifier: Apache-2.0

package embedded

import "golang.org/x/sys/unix"

// machineMemoryBytes is the memory of this machine.
func machineMemoryBytes() int64 {
	memory, err := unix.SysctlUint64("hw.memsize")
	if err != nil {
		return 0
	}
	return int64(memory)
}
