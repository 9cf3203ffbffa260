// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Rights of Landlock, grouped by what is done with them. The names are the kernel's.
const (
	mayRead  = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	mayWrite = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SYM |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_REFER
	mayRun   = unix.LANDLOCK_ACCESS_FS_EXECUTE
	ofFiles  = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_EXECUTE
	controls = mayRead | mayWrite | mayRun | unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK
)

// minLandlockVersion is the first that allows a file to move from one directory to another, which ClickHouse does.
const minLandlockVersion = 2

// systemFiles is what ClickHouse and the C library read of a machine. It holds nobody's secrets: of /proc only what
// is about the machine and about this process, whose environment we chose.
func systemFiles() []string {
	return []string{
		"/proc/self", "/proc/meminfo", "/proc/cpuinfo", "/proc/stat", "/proc/loadavg", "/proc/uptime", "/proc/vmstat", "/proc/sys", "/sys",
		"/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo",
		"/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/localtime", "/etc/ld.so.cache",
	}
}

// sandbox takes from this thread, and from all that it will start, the right to open files other than the
// system's and those given.
//
// libchdb takes itself for a tool on its user's own files: formats and functions that are confined to a directory in
// a server reach everywhere in it. Grants and constraints close the ways that are known; this closes the others.
// On a kernel without Landlock (before 5.19, or switched off) nothing is restricted.
func sandbox(read, write []string) error {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 || version < minLandlockVersion {
		return nil
	}
	attributes := unix.LandlockRulesetAttr{Handled_access_fs: controls}
	// Only the first field is passed: the later ones do not exist in the kernel's first versions.
	//nolint:gosec // a system call's argument
	ruleset, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET,
		uintptr(unsafe.Pointer(&attributes)), unsafe.Sizeof(attributes.Handled_access_fs), 0)
	if errno != 0 {
		return fmt.Errorf("create sandbox: %w", errno)
	}
	defer unix.Close(int(ruleset)) //nolint:errcheck // a descriptor that was only read from
	for _, path := range append(systemFiles(), read...) {
		if err := allow(int(ruleset), path, mayRead|mayRun); err != nil {
			return err
		}
	}
	for _, path := range append([]string{"/dev/null"}, write...) {
		if err := allow(int(ruleset), path, mayRead|mayWrite); err != nil {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new privileges: %w", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0, 0); errno != 0 {
		return fmt.Errorf("enter sandbox: %w", errno)
	}
	return nil
}

// allow lets the sandbox use a file, or all that is under a directory. A path that this machine lacks is passed over.
func allow(ruleset int, path string, access uint64) error {
	file, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s for the sandbox: %w", path, err)
	}
	defer unix.Close(file) //nolint:errcheck // a descriptor that was only named
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		access &= ofFiles
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(file)}
	//nolint:gosec // a system call's argument
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("allow %s in the sandbox: %w", path, errno)
	}
	return nil
}
