// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/owner/process"
)

// BenchmarkLook is one look at eight GPUs with a process each, which an agent makes every ten seconds.
func BenchmarkLook(b *testing.B) {
	root := b.TempDir()
	write := func(name, text string) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	write("stat", "btime 1790000000\n")
	var gpus []gpuUse
	for i := range uint32(8) {
		pid := 4700 + i
		write(fmt.Sprintf("%d/stat", pid), fmt.Sprintf("%d (python3) S%s 360050 0\n", pid, strings.Repeat(" 1", 18)))
		write(fmt.Sprintf("%d/cgroup", pid), "0::"+jobCgroup+"\n")
		write(fmt.Sprintf("%d/status", pid), "Name:\tpython3\nUid:\t1000\t1000\t1000\t1000\n")
		use := minorOf(fmt.Sprintf("GPU-%d", i), int64(i))
		use.Processes = []gpu.Process{{PID: pid, MemoryBytes: 1 << 30, MemoryKnown: true, GI: gpu.NoInstance, CI: gpu.NoInstance}}
		gpus = append(gpus, use)
	}
	l := newLooker(Config{
		Options: Options{Proc: os.DirFS(root), View: process.View{All: true, Resolves: true}, Interval: time.Hour}, Logger: slog.New(slog.DiscardHandler),
	})
	t := newTracker("node-a")
	b.ReportAllocs()
	for b.Loop() {
		seen := l.look(b.Context(), gpus)
		if t.update(time.Now(), seen); len(seen.found) != 8 || seen.found[0].owners[0].Kind != kindSlurm {
			b.Fatalf("%+v", seen)
		}
	}
}
