// SPDX-License-Identifier: Apache-2.0

package ops

import "runtime/debug"

// version is set by the linker: -ldflags "-X github.com/gpufleet/gpufleet/internal/ops.version=v1.2.3".
// It stays empty in a build without the Makefile.
var version string

// Version returns the version of the running program: what `git describe` said when make built it, else the
// module version or the VCS revision that the Go toolchain recorded, else "unknown". It is never empty.
func Version() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return versionFromBuild(info)
}

// versionFromBuild picks the best name for a build that make did not name.
func versionFromBuild(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	var revision, dirty string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if revision == "" {
		return "unknown"
	}
	const shortRevisionLength = 12 // as long as git's own abbreviation in a large repository
	return revision[:min(len(revision), shortRevisionLength)] + dirty
}
