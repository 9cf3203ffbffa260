// SPDX-License-Identifier: Apache-2.0

package network

import (
	"os"
	"strconv"
	"testing"
)

// BenchmarkLook is what eight ports cost once a second, and BenchmarkCount what they cost once a minute,
// without what the hardware takes to answer.
func BenchmarkLook(b *testing.B)  { benchmark(b, request{}) }
func BenchmarkCount(b *testing.B) { benchmark(b, request{full: true}) }

func benchmark(b *testing.B, r request) {
	s := newSysfs(b)
	var devices []*device
	for i := range 8 {
		name, pci := "mlx5_"+strconv.Itoa(i), "0000:1"+strconv.Itoa(i)+":00.0"
		s.add(name, pci, "mlx5_core", "0", with(ndrPort(), manyCounters()))
		devices = append(devices, &device{files: newTree(os.DirFS(s.root)), name: name, folder: devicesFolder + "/" + name})
		devices[i].serve(request{attach: true, full: true})
		if len(devices[i].ports) != 1 || !devices[i].ports[0].readings[linkDowned()].ok {
			b.Fatal("the port was not read")
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, d := range devices {
			d.serve(r)
		}
	}
}

// manyCounters are all files of the counters that mlx5 has.
func manyCounters() map[string]string {
	files := map[string]string{}
	for _, c := range allCounters() {
		files["ports/1/"+c.Sources[0].File] = "123456789012"
	}
	delete(files, "ports/1/carrier_changes")
	return files
}
