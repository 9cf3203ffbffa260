// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

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

// countingFS counts the listings of a folder.
type countingFS struct {
	fstest.MapFS

	listed *int
}

func (c countingFS) ReadDir(name string) ([]fs.DirEntry, error) {
	*c.listed++
	return c.MapFS.ReadDir(name)
}

// TestFinder keeps an answer for less than the second after which bursts look again.
func TestFinder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listed := 0
		proc := countingFS{fstest.MapFS{"1/comm": {Data: []byte("systemd\n")}}, &listed}
		finder := NewFinder(proc)
		for range 100 {
			if got := finder.Find(); got != "" {
				t.Fatalf("found %q", got)
			}
			<-time.After(time.Millisecond)
		}
		proc.MapFS["2/comm"] = &fstest.MapFile{Data: []byte("nsys\n")}
		<-time.After(900 * time.Millisecond)
		if got := finder.Find(); got != "nsys" || listed != 2 {
			t.Errorf("found %q with %d looks, want nsys with the second one", got, listed)
		}
	})
}
