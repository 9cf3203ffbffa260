// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"os"
	"strings"
)

// ThisNode is what the operating system tells of the node that this process runs on.
func ThisNode() Node {
	name, err := os.Hostname()
	if err != nil {
		name = ""
	}
	return Node{
		Name: name, ReadingSource: "nvml",
		System: operatingSystem(readText("/etc/os-release")), Kernel: firstLine("/proc/sys/kernel/osrelease"),
		BootID: firstLine("/proc/sys/kernel/random/boot_id"),
	}
}

// readText reads a small text file; "" if it is not there.
func readText(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(text)
}

func firstLine(path string) string {
	line, _, _ := strings.Cut(readText(path), "\n")
	return strings.TrimSpace(line)
}

// operatingSystem finds the name in the text of /etc/os-release.
func operatingSystem(release string) string {
	for line := range strings.Lines(release) {
		if value, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return ""
}
