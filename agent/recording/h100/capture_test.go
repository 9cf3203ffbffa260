// SPDX-License-Identifier: Apache-2.0

package h100

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// capturePath is where the capture lies on machines that have it, beside the checkout. It is not part of
// this project.
const capturePath = "../../../../shared/data/nvidia-smi_capture_h100-80gb-hbm3.txt"

// capture is the sections of the file by their headings, without what stands in parentheses.
type capture map[string][]string

// head is what stands before the first heading.
const head = "head"

func readCapture(t *testing.T) capture {
	t.Helper()
	file, err := os.ReadFile(capturePath)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("NOT CHECKED: the figures of this package against the capture that they come from, which is not at %s; see Provenance for where it is published", capturePath)
	}
	if err != nil {
		t.Fatal(err)
	}
	sections := capture{}
	name := head
	for line := range strings.Lines(string(file)) {
		line = strings.TrimSuffix(line, "\n")
		if heading, ok := strings.CutPrefix(line, "# "); ok && strings.Contains(heading, " :: ") {
			name, _, _ = strings.Cut(heading, " (")
		}
		sections[name] = append(sections[name], line)
	}
	return sections
}

func (c capture) section(t *testing.T, name string) []string {
	t.Helper()
	if len(c[name]) == 0 {
		t.Fatalf("the capture has no section %q", name)
	}
	return c[name]
}

// figures are all that the capture says of the GPU in one of its states, by the names that facts use.
func (c capture) figures(t *testing.T, state string) map[string]string {
	t.Helper()
	found := map[string]string{}
	c.queryGPU(t, state, found)
	c.query(t, state, found)
	for heading, prefix := range map[string]string{head: inHead, "capabilities :: version": inVer} {
		for _, line := range c.section(t, heading) {
			if name, value, ok := strings.Cut(line, ":"); ok {
				found[prefix+strings.TrimSpace(name)] = strings.TrimSpace(value)
			}
		}
	}
	var speeds []string
	for _, line := range c.section(t, "capabilities :: nvlink -s") {
		if _, speed, ok := strings.Cut(line, ": "); ok && strings.HasPrefix(line, "\t Link ") {
			speeds = append(speeds, speed)
		}
	}
	found[ofNVLink+"count"] = strconv.Itoa(len(speeds))
	found[ofNVLink+"speed"] = slices.Min(speeds) // they are all of one length
	return found
}

// queryGPU reads the table whose heading has units in brackets.
func (c capture) queryGPU(t *testing.T, state string, found map[string]string) {
	t.Helper()
	var table [][]string
	for _, line := range c.section(t, state+" :: query-gpu") {
		if !strings.HasPrefix(line, "#") && line != "" {
			table = append(table, strings.Split(line, ", "))
		}
	}
	if len(table) != 2 || len(table[0]) != len(table[1]) {
		t.Fatalf("%s: the table of query-gpu has %d rows", state, len(table))
	}
	for i, heading := range table[0] {
		name, _, _ := strings.Cut(heading, " [")
		found[name] = table[1][i]
	}
}

// query reads the tree that nvidia-smi -q prints of the GPU, four spaces deeper at each level.
func (c capture) query(t *testing.T, state string, found map[string]string) {
	t.Helper()
	var path []string
	for _, line := range c.section(t, state+" :: query") {
		name, value, leaf := strings.Cut(strings.TrimSpace(line), " : ")
		depth := (len(line) - len(strings.TrimLeft(line, " "))) / 4
		if depth == 0 || depth > len(path)+1 {
			path = nil
			continue
		}
		path = append(path[:depth-1:depth-1], strings.TrimSpace(name))
		if leaf {
			found[inQuery+strings.Join(path, " / ")] = strings.TrimSpace(value)
		}
	}
}

func TestFiguresAreThoseOfTheCapture(t *testing.T) {
	c := readCapture(t)
	for _, state := range []string{"idle", "load"} {
		said := c.figures(t, state)
		for _, f := range slices.Concat(metricFacts, linkFacts, gpuFacts, nodeFacts) {
			want, ok := said[f.name]
			if got := f.text(state == "load"); !ok || got != want {
				t.Errorf("%s, %s: %q, the capture has %q", state, f.name, got, want)
			}
		}
	}
	for state, want := range map[string]string{"idle": idleAt, "load": loadAt} {
		if got := c.figures(t, state)["timestamp"]; got != want {
			t.Errorf("%s snapshot at %s, the capture has %s", state, want, got)
		}
	}
}

func TestSecondsAreThoseOfTheCapture(t *testing.T) {
	c := readCapture(t)
	for state, seconds := range map[string][]second{"idle": idleSeconds, "load": loadSeconds} {
		var said []second
		for _, line := range c.section(t, state+" :: dmon") {
			n := strings.Fields(line)
			if len(n) != 12 || strings.HasPrefix(line, "#") {
				continue
			}
			var v [12]int64
			for i := range n {
				var err error
				if v[i], err = strconv.ParseInt(n[i], 10, 64); err != nil {
					t.Fatal(err)
				}
			}
			said = append(said, second{v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9], v[10], v[11]})
		}
		if !slices.Equal(seconds, said) {
			t.Errorf("%s: %v, the capture has %v", state, seconds, said)
		}
	}
}

// TestProvenanceIsThatOfTheCapture compares what Provenance says in prose.
func TestProvenanceIsThatOfTheCapture(t *testing.T) {
	said := readCapture(t).figures(t, "load")
	p := Provenance()
	for name, where := range map[string]string{
		inHead + "kernel": p.Machine, inHead + "arch": p.Machine, inHead + "load": p.Notes[0], "driver_version": p.Driver,
		"name": p.GPUs[0], inVer + "NVIDIA-SMI version": p.Version, inHead + "masked": "yes", "count": strconv.Itoa(len(p.GPUs)),
	} {
		if value := said[name]; value == "" || !strings.Contains(where, value) {
			t.Errorf("%s: %q does not say %q", name, where, value)
		}
	}
	if got := said[inQuery+"GPU Virtualization Mode / Virtualization Mode"]; got != "Pass-Through" || !strings.Contains(p.Machine, "passed through") {
		t.Errorf("virtualization mode %q, provenance %q", got, p.Machine)
	}
	for _, name := range []string{inQuery + "Platform Info / Slot Number", inQuery + "Module Power Readings / Average Power Draw", "retired_pages.pending"} {
		if got := said[name]; !strings.Contains(got, "N/A") {
			t.Errorf("%s: %q, and the tables leave it out", name, got)
		}
	}
}
