// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSandbox asks as the writer, whom no constraint on settings holds: the kernel must.
func TestSandbox(t *testing.T) {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 || version < minLandlockVersion {
		t.Skipf("this kernel has no Landlock that serves: version %d, %v", version, errno)
	}
	cfg, _ := small(t)
	server := start(t, cfg)
	for _, path := range []string{layout(cfg.Dir).state(), "/etc/passwd", "/proc/1/environ", os.Args[0]} {
		_, err := server.Writer().Ask(t.Context(), "SELECT 1 FORMAT Template SETTINGS format_template_resultset = '"+sqlText(path)+"'")
		if err == nil || !strings.Contains(err.Error(), "Permission denied") {
			t.Errorf("read %s: %v", path, err)
		}
	}
}

// TestChildHasItsOwnEnvironment looks where SQL could: at /proc/self/environ of ClickHouse.
func TestChildHasItsOwnEnvironment(t *testing.T) {
	t.Setenv("CLOUD_SECRET_KEY", "keep me out of children")
	cfg, _ := small(t)
	server := start(t, cfg)
	environment, err := os.ReadFile("/proc/" + strconv.Itoa(server.PID()) + "/environ")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(environment), "CLOUD_SECRET_KEY") || !strings.Contains(string(environment), "TZ=UTC") {
		t.Errorf("environment of the child: %q", environment)
	}
}
