// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"runtime/debug"
	"testing"
)

func TestVersionIsNeverEmpty(t *testing.T) {
	if Version() == "" {
		t.Error("Version() is empty: a bug report would not say what ran")
	}
}

func TestVersionFromBuild(t *testing.T) {
	const revision = "0123456789abcdef0123456789abcdef01234567"
	tests := []struct {
		name string
		info debug.BuildInfo
		want string
	}{
		{"go install of a release", debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}}, "v1.2.3"},
		{"go build in a clean checkout", debug.BuildInfo{
			Main:     debug.Module{Version: "(devel)"},
			Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: revision}, {Key: "vcs.modified", Value: "false"}},
		}, "0123456789ab"},
		{"go build in a changed checkout", debug.BuildInfo{
			Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: revision}, {Key: "vcs.modified", Value: "true"}},
		}, "0123456789ab-dirty"},
		{"a revision shorter than expected", debug.BuildInfo{
			Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "42"}},
		}, "42"},
		{"a source archive without version control", debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "unknown"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := versionFromBuild(&tt.info); got != tt.want {
				t.Errorf("versionFromBuild() = %q, want %q", got, tt.want)
			}
		})
	}
}
