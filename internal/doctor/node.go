// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// What /sys says of NVIDIA's GPUs: vendor 10de, class VGA or 3D controller.
const (
	vendorNVIDIA = "0x10de"
	classVGA     = "0x0300"
	class3D      = "0x0302"
)

// nvmlName is the driver's library, and nvmlFolders is where package agent/nvml looks for it.
const nvmlName = "libnvidia-ml.so.1"

var nvmlFolders = []string{
	"/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib",
	"/run/nvidia/driver/usr/lib/x86_64-linux-gnu", "/run/nvidia/driver/usr/lib/aarch64-linux-gnu", "/run/nvidia/driver/usr/lib64",
	"/home/kubernetes/bin/nvidia/lib64", "/usr/local/nvidia/lib64", "/run/opengl-driver/lib", "/usr/local/glibc/usr/lib", "/usr/lib/wsl/lib",
}

var driverVersion = regexp.MustCompile(`\b(\d{3,}\.\d+(?:\.\d+)?)\b`)

// gpus looks for GPUs and for what an agent needs to read them.
func (m machine) gpus() []Finding {
	const check = "GPUs"
	if m.system != "linux" {
		return nil
	}
	count := m.countGPUs()
	driver := m.read("proc/driver/nvidia/version")
	switch {
	case count == 0 && driver == "":
		return []Finding{warn(check, "no NVIDIA GPU on this machine", "on a node with GPUs: check what is passed through to it; elsewhere `gpufleet up` simulates a fleet")}
	case count == 0:
		return append([]Finding{ok(check, "the NVIDIA driver is loaded; PCI devices are not visible here")}, m.driver(driver)...)
	default:
		return append([]Finding{ok(check, "%d NVIDIA GPUs on the PCI bus", count)}, m.driver(driver)...)
	}
}

func (m machine) countGPUs() (count int) {
	devices, _ := filepath.Glob(m.path("sys/bus/pci/devices/*/vendor")) // the pattern is well formed
	for _, path := range devices {
		vendor, _ := os.ReadFile(path)
		class, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "class"))
		kind := string(class[:min(len(class), len(classVGA))])
		if strings.TrimSpace(string(vendor)) == vendorNVIDIA && (kind == classVGA || kind == class3D) {
			count++
		}
	}
	return count
}

func (m machine) driver(version string) []Finding {
	const check = "NVIDIA driver"
	if version == "" {
		return []Finding{
			fail(check, "not loaded", "install NVIDIA's driver and load it: modprobe nvidia; then nvidia-smi must list the GPUs"),
			m.library(),
		}
	}
	name := driverVersion.FindString(version)
	if name == "" {
		name = "of an unknown version"
	}
	return []Finding{ok(check, "%s", name), m.library(), m.deviceFiles()}
}

func (m machine) library() Finding {
	const check = "NVML"
	for _, folder := range nvmlFolders {
		path := m.path(filepath.Join(folder, nvmlName))
		if _, err := os.Stat(path); err == nil {
			return ok(check, "%s", path)
		}
	}
	if strings.Contains(m.read("etc/ld.so.cache"), nvmlName) {
		return ok(check, "%s, by the loader's cache", nvmlName)
	}
	return fail(check, nvmlName+" is in none of the places where drivers put it",
		"install the driver's libraries (Debian: libnvidia-ml1); in a container use NVIDIA's runtime; or name it with --nvml")
}

func (m machine) deviceFiles() Finding {
	const check = "device files"
	files, _ := filepath.Glob(m.path("dev/nvidia[0-9]*")) // the pattern is well formed
	if len(files) == 0 {
		return fail(check, "no /dev/nvidia0", "nvidia-smi makes them on the host; in a container use NVIDIA's runtime")
	}
	for _, path := range append(files, m.path("dev/nvidiactl")) {
		if err := m.mayAccess(path, unix.R_OK|unix.W_OK); err != nil {
			return fail(check, fmt.Sprintf("%s: %v", path, err), "run the agent as a user who may read and write them (group video on some systems), or set the driver's NVreg_DeviceFileMode")
		}
	}
	return ok(check, "%d GPUs can be opened", len(files))
}

// kernelLog: the driver writes every fault there, those that NVML does not report among them.
func (m machine) kernelLog() Finding {
	const check = "kernel log"
	if m.system != "linux" {
		return ok(check, "not on this system")
	}
	path := m.path("dev/kmsg")
	if err := m.mayRead(path); err != nil {
		return warn(check, fmt.Sprintf("%v: the driver's own fault messages, XIDs 62, 79, 119 and 120 among them, cannot be read here", err),
			"as root, or with the capability CAP_SYSLOG; in a container also mount /dev/kmsg. Faults that NVML reports are seen without it")
	}
	return ok(check, "%s can be read", path)
}
