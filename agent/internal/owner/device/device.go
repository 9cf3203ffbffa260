// SPDX-License-Identifier: Apache-2.0

// Package device reads the names by which schedulers call a GPU or a part of one, and finds what they
// mean on this node. It promises that a name is never matched by guess: what it does not know is
// reported as unknown, and belongs to nobody.
//
//	GPU-5c89852c-0000-…                 a whole GPU, by UUID
//	MIG-6bd1a2ab-0000-…                 a MIG instance, by UUID
//	MIG-GPU-5c89852c-0000-…/9/0         the same, as drivers before R470 wrote it: GPU, GPU and compute instance
//	GPU-5c89852c-0000-…::3              one of several replicas (time slicing, MPS); so for MIG-…::3
//	GPU-5c89852c-0000-…-3, …-_-3        one of several shares, as other device plugins write it
//	nvidia0, nvidia0/gi1, nvidia0/vgpu1 on GKE: minor number, GPU instance, time share
//	gpu-0, gpu-0-mig-1g10gb-19-4        in DRA: minor number, MIG profile id and start
//	gpu-0-mig-19-4-1                    the same as older drivers wrote it: profile id, start, size
package device

import (
	"strconv"
	"strings"
)

// None is a number that a name does not tell.
const None = -1

// Name is what a device is called by.
type Name struct {
	UUID    string // of a GPU or MIG instance; "" if the name has the minor number instead
	Minor   int    // of /dev/nvidiaN
	GI, CI  int    // MIG instances within the GPU; None if the name does not tell
	Profile int    // id of the MIG profile, with Start the place of the instance on the GPU; None
	Start   int
	Share   bool // one of several shares of the same device
}

// uuidLength is that of a UUID in the usual form.
const uuidLength = 36

// Parse reads the name of a device of the device plugin's kind. ok is false if it names no GPU.
func Parse(id string) (Name, bool) {
	n := Name{Minor: None, GI: None, CI: None, Profile: None, Start: None}
	switch {
	case strings.HasPrefix(id, "MIG-GPU-"):
		return n.oldInstance(id[len("MIG-"):])
	case strings.HasPrefix(id, "GPU-"), strings.HasPrefix(id, "MIG-"):
		return n.byUUID(id)
	case strings.HasPrefix(id, "nvidia"):
		return n.byFile(id[len("nvidia"):])
	default:
		return n, false
	}
}

// byUUID reads GPU-… and MIG-…; after the UUID comes nothing, or which share it is.
func (n Name) byUUID(id string) (Name, bool) {
	length := len("GPU-") + uuidLength
	if len(id) < length || !isUUID(id[len("GPU-"):length]) {
		return n, false
	}
	rest := id[length:]
	for _, separator := range []string{"::", "-_-", "-"} {
		if share, found := strings.CutPrefix(rest, separator); found && number(share) != None {
			n.Share, rest = true, ""
		}
	}
	n.UUID = id[:length]
	return n, rest == ""
}

// oldInstance reads GPU-…/9/0.
func (n Name) oldInstance(id string) (Name, bool) {
	id, share, isShare := strings.Cut(id, "::")
	parts := strings.Split(id, "/")
	if len(parts) != 3 || isShare && number(share) == None {
		return n, false
	}
	n, ok := n.byUUID(parts[0])
	n.GI, n.CI = number(parts[1]), number(parts[2])
	ok = ok && !n.Share && n.GI != None && n.CI != None
	n.Share = isShare
	return n, ok
}

// byFile reads 0, 0/gi1, 0/vgpu1 and 0/gi1/vgpu1.
func (n Name) byFile(id string) (Name, bool) {
	parts := strings.Split(id, "/")
	n.Minor = number(parts[0])
	parts = parts[1:]
	if len(parts) > 0 {
		if gi, found := strings.CutPrefix(parts[0], "gi"); found {
			n.GI = number(gi)
			parts = parts[1:]
			if n.GI == None {
				return n, false
			}
		}
	}
	if len(parts) > 0 {
		share, found := strings.CutPrefix(parts[0], "vgpu")
		n.Share = found && number(share) != None
		if n.Share {
			parts = parts[1:]
		}
	}
	return n, n.Minor != None && len(parts) == 0
}

// ParseDynamic reads the name of a device of NVIDIA's DRA driver.
func ParseDynamic(device string) (Name, bool) {
	n := Name{Minor: None, GI: None, CI: None, Profile: None, Start: None}
	rest, found := strings.CutPrefix(device, "gpu-")
	if !found {
		return n, false
	}
	minor, instance, isInstance := strings.Cut(rest, "-mig-")
	n.Minor = number(minor)
	if n.Minor == None || !isInstance {
		return n, n.Minor != None
	}
	// Three numbers are profile id, start and size. With the profile's name before them they are two: a name
	// such as 1g10gb is no number, and may have dashes itself (1g10gb-me).
	parts := strings.Split(instance, "-")
	if len(parts) == 3 && number(parts[0]) != None {
		n.Profile, n.Start = number(parts[0]), number(parts[1])
		return n, n.Start != None && number(parts[2]) != None
	}
	if len(parts) < 3 || parts[0] == "" {
		return n, false
	}
	n.Profile, n.Start = number(parts[len(parts)-2]), number(parts[len(parts)-1])
	return n, n.Profile != None && n.Start != None
}

// number reads digits; None if there is anything else, or more than a device can have.
func number(s string) int {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || s != strconv.FormatUint(n, 10) {
		return None
	}
	return int(n)
}

// isUUID tells whether s is 8-4-4-4-12 hexadecimal digits.
func isUUID(s string) bool {
	if len(s) != uuidLength {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
				return false
			}
		}
	}
	return true
}
