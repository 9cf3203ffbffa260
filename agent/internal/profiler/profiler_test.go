// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFind(t *testing.T) {
	proc := func(files map[string]string) fs.FS {
		made := fstest.MapFS{"self": {Data: nil}, "uptime": {Data: []byte("1 1\n")}}
		for name, text := range files {
			made[name] = &fstest.MapFile{Data: []byte(text)}
		}
		return made
	}
	for name, tt := range map[string]struct {
		proc fs.FS
		want string
	}{
		"no proc":           {nil, ""},
		"nobody":            {proc(nil), ""},
		"others":            {proc(map[string]string{"1/comm": "systemd\n", "4711/comm": "python3\n", "4712/comm": "nsys-ui-x\n"}), ""},
		"nsys":              {proc(map[string]string{"1/comm": "systemd\n", "4711/comm": "nsys\n"}), "nsys"},
		"ncu":               {proc(map[string]string{"99/comm": "ncu\n", "100/stat": "no comm"}), "ncu"},
		"cut by the kernel": {proc(map[string]string{"99/comm": "nv-nsight-cu-cl\n"}), "nv-nsight-cu-cl"},
		"not a process":     {proc(map[string]string{"ncu/comm": "ncu\n", "-5/comm": "ncu\n"}), ""},
		"a long name":       {proc(map[string]string{"5/comm": "ncu\n" + strings.Repeat("x", 1<<20)}), ""},
		"no folder":         {fstest.MapFS{".": {Mode: 0}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Find(tt.proc); got != tt.want {
				t.Errorf("found %q, want %q", got, tt.want)
			}
		})
	}
}
