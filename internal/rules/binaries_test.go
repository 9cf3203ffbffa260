// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
)

// linked is one package that a program consists of, as `go list -deps` prints it.
type linked struct {
	ImportPath string
	Standard   bool
	CgoFiles   []string
}

// mustNotLink is a package, and all below it, that a program may not contain.
type mustNotLink struct {
	pkg string
	why string
}

// agentMustNotLink keeps the program that runs on every node small and free of what only tests and servers need.
var agentMustNotLink = []mustNotLink{
	{module + "/agent/sim", "recordings and load knobs never reach a production node"},
	{module + "/agent/loadgen", "recordings and load knobs never reach a production node"},
	{module + "/agent/recording/h100", "recordings and load knobs never reach a production node"},
	{module + "/collector", "the two sides share the wire and nothing else"},
	{module + "/internal/embedded", "a node carries no database"},
	{module + "/internal/clickhousetest", "tests only"},
	{"github.com/ClickHouse", "agents talk to collectors, never to the store"},
	{"github.com/ebitengine/purego", "the agent's only foreign code is the GPU driver, through cgo"},
	{"os/exec", "an agent with privileges on every node starts no programs"},
	{"testing", "tests only"},
}

// collectorMustNotLink keeps the collector a static program.
var collectorMustNotLink = []mustNotLink{
	{module + "/agent", "the two sides share the wire and nothing else"},
	{module + "/internal/embedded", "the store is reached over the network"},
	{module + "/internal/clickhousetest", "tests only"},
	{"github.com/NVIDIA/go-nvml", "a collector has no GPU"},
	{"github.com/ebitengine/purego", "a collector loads no foreign code"},
	{"testing", "tests only"},
}

func TestAgentLinksNothingItMustNot(t *testing.T) {
	deps := dependencies(t, "./cmd/gpufleet-agent", "CGO_ENABLED=1")
	report(t, linkViolations("gpufleet-agent", deps, agentMustNotLink))
	for _, needed := range []string{module + "/agent", module + "/agent/nvml"} {
		if !slices.ContainsFunc(deps, func(d linked) bool { return d.ImportPath == needed }) {
			t.Errorf("gpufleet-agent does not link %s: is this still the agent?", needed)
		}
	}
}

func TestCollectorLinksNothingItMustNot(t *testing.T) {
	// With cgo allowed, so that a package that would use it shows that it would.
	deps := dependencies(t, "./cmd/gpufleet-collector", "CGO_ENABLED=1")
	report(t, linkViolations("gpufleet-collector", deps, collectorMustNotLink))
	report(t, cgoViolations("gpufleet-collector", deps))
}

func TestForbiddenPackagesOfOursExist(t *testing.T) {
	files := checkout(t)
	for _, entry := range slices.Concat(agentMustNotLink, collectorMustNotLink) {
		if rest, ours := strings.CutPrefix(entry.pkg, module+"/"); ours && !files.has(rest) {
			t.Errorf("the rules forbid %s, which is no more: a rule about nothing", rest)
		}
	}
}

func TestCollectorBuildsWithoutCgo(t *testing.T) {
	// -trimpath as in the Makefile, so that both builds share the build cache.
	goCommand(t, []string{"CGO_ENABLED=0"}, "build", "-trimpath", "-o", os.DevNull, "./cmd/gpufleet-collector")
}

// dependencies lists the packages of a program, itself included.
func dependencies(t *testing.T, program, env string) []linked {
	t.Helper()
	out := goCommand(t, []string{env}, "list", "-deps", "-json=ImportPath,Standard,CgoFiles", program)
	deps, err := decodeAll[linked](string(out))
	if err != nil {
		t.Fatalf("read go list: %v", err)
	}
	return deps
}

// decodeAll reads JSON values that follow one another, the way the go command writes them.
func decodeAll[T any](text string) ([]T, error) {
	var all []T
	decoder := json.NewDecoder(strings.NewReader(text))
	for {
		var one T
		err := decoder.Decode(&one)
		switch {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("decode value %d: %w", len(all), err)
		}
		all = append(all, one)
	}
}

// linkViolations lists what the program links and must not.
func linkViolations(program string, deps []linked, forbidden []mustNotLink) []string {
	var found []string
	for _, dep := range deps {
		for _, entry := range forbidden {
			if matches(dep.ImportPath, entry.pkg+"/...") {
				found = append(found, fmt.Sprintf("%s links %s: %s", program, dep.ImportPath, entry.why))
			}
		}
	}
	return found
}

// cgoViolations lists the packages that would use cgo if it were there. The standard library does so for host
// names and users, and does without when built without.
func cgoViolations(program string, deps []linked) []string {
	var found []string
	for _, dep := range deps {
		if len(dep.CgoFiles) > 0 && !dep.Standard {
			found = append(found, fmt.Sprintf("%s links %s, which uses cgo in %v", program, dep.ImportPath, dep.CgoFiles))
		}
	}
	return found
}

func TestLinkRuleCatches(t *testing.T) {
	deps, err := decodeAll[linked](`{"ImportPath":"net","Standard":true,"CgoFiles":["cgo_linux.go"]}
{"ImportPath":"` + module + `/agent/sim/fleet"}
{"ImportPath":"` + module + `/agent/simple"}
{"ImportPath":"github.com/NVIDIA/go-nvml/pkg/dl","CgoFiles":["dl.go"]}`)
	if err != nil {
		t.Fatal(err)
	}
	wantViolations(t, linkViolations("p", deps, []mustNotLink{{module + "/agent/sim", "no simulator"}}), "p links "+module+"/agent/sim/fleet")
	wantViolations(t, cgoViolations("p", deps), "p links github.com/NVIDIA/go-nvml/pkg/dl, which uses cgo")
	if _, err := decodeAll[linked](`{"ImportPath":"a"} {"ImportPath":`); err == nil {
		t.Error("half an answer of the go command was taken for a whole one")
	}
}
