// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// importRule says what a package may import of ours. A path ends in "/..." to mean a folder and all below it.
type importRule struct {
	pkg      string   // relative to the module; the longest row that matches a package counts
	may      []string // what its shipped files may import
	testsMay []string // what its tests may import besides, on top of anyTestMay
	why      string
}

// anyTestMay is what a test of any package may import besides what the package itself may.
var anyTestMay = []string{"internal/clickhousetest", "internal/docpage", "internal/embedded"}

// importRules is the direction of the whole program: schema in the middle, agent and collector on either side
// of the wire, neither knowing the other, and the mains on top. Every package of ours has a row.
var importRules = []importRule{
	{
		pkg: "schema/...", may: []string{"schema/..."},
		why: "the contract of both sides depends on neither",
	},
	{
		pkg: "schema/wire", may: []string{"schema/..."},
		why: "framing belongs to the contract, not to a transport",
	},

	{
		pkg: "agent", may: []string{"schema/...", "agent/gpu", "agent/recording", "agent/internal/...", "internal/batchtrace", "internal/collectors", "internal/health", "internal/loopback"}, testsMay: []string{"agent/sim"},
		why: "the driver is handed in, so what runs after the driver call is the same for real and simulated GPUs",
	},
	{
		pkg: "agent/internal/...", may: []string{"schema/...", "agent/gpu", "agent/recording", "agent/internal/...", "internal/batchtrace", "internal/collectors", "internal/frames", "internal/loopback"},
		testsMay: []string{"agent/sim"},
		why:      "parts of the agent are wired by agent alone",
	},
	{
		pkg: "agent/control", may: []string{"internal/ownersocket"},
		why: "both ends of the control socket know what travels between them, and nothing of what is controlled",
	},
	{
		pkg: "agent/internal/place", testsMay: []string{"schema/..."},
		why: "where a node is does not depend on what is sampled there",
	},
	{
		pkg: "agent/gpu", testsMay: []string{"schema/..."},
		why: "the interface to a driver is a leaf, so that anything may implement it",
	},
	{
		pkg: "agent/gpu/gputest", may: []string{"schema/...", "agent/gpu"},
		why: "the conformance suite of drivers knows the interface and what the schema reads through it",
	},
	{
		pkg: "agent/recording", may: []string{"schema/..."}, testsMay: []string{"agent/internal/..."},
		why: "a file of batches knows what a batch is, not how it came to be",
	},
	{
		pkg: "agent/recording/internal/mask", may: []string{"agent/recording"},
		why: "copies a recording without the names of its machine",
	},
	{
		pkg: "agent/recording/h100", may: []string{"schema/...", "agent/recording", "agent/internal/..."},
		why: "rows of a capture are made as the agent makes its own",
	},
	{
		pkg: "agent/recording/h100/internal/generate", may: []string{"agent/recording/h100"},
		why: "writes the recording to its file",
	},
	{
		pkg: "agent/loadgen", may: []string{"schema/...", "agent/gpu", "agent/internal/..."}, testsMay: []string{"agent/sim"},
		why: "a load is made by the agent's own code, from any driver",
	},
	{
		pkg: "agent/nvml", may: []string{"agent/gpu"}, testsMay: []string{"agent/gpu/gputest", "schema/..."},
		why: "the only cgo knows the driver's interface and nothing of batches",
	},
	{
		pkg: "agent/sim", may: []string{"agent/gpu"}, testsMay: []string{"agent/gpu/gputest", "schema/..."},
		why: "a simulated driver knows no more than the real one",
	},

	{
		pkg: "collector", may: []string{"schema/...", "collector/internal/...", "collector/quarantine", "collector/trust", "internal/batchtrace", "internal/health", "internal/loopback", "internal/account", "internal/rollups", "internal/token"},
		why: "logger and metrics are handed in, and agents are known by the wire alone",
	},
	{
		pkg: "collector/control", may: []string{"schema/...", "internal/ownersocket"},
		why: "both ends of the control socket know what travels between them, and nothing of who carries it out",
	},
	{
		pkg: "collector/quarantine", may: []string{"schema/..."},
		why: "what a collector keeps of refused batches, also for the operator's tool",
	},
	{
		pkg: "collector/trust", may: []string{"internal/token"},
		why: "by what agents are known is handed in by the program, and looked at by the receiver",
	},
	{
		pkg: "collector/internal/...", may: []string{"schema/...", "collector/internal/...", "collector/quarantine", "collector/trust", "internal/batchtrace", "internal/clickhouseerror", "internal/frames", "internal/loopback", "internal/token"},
		why: "parts of the collector are wired by collector alone",
	},

	{
		pkg: "internal/health",
		why: "how a program says whether it works does not depend on what it does",
	},
	{
		pkg: "internal/batchtrace", may: []string{"schema/..."},
		why: "both sides of the wire choose the same batches, so it belongs to neither",
	},
	{
		pkg: "internal/ops", may: []string{"internal/health"},
		why: "what an operator sees of a program is the same for all of them",
	},
	{
		pkg: "internal/docpage",
		why: "a page of the documentation does not depend on what is in it",
	},
	{
		pkg: "internal/loopback",
		why: "what only this machine can reach does not depend on who listens there",
	},
	{
		pkg: "internal/collectors",
		why: "how collectors are named does not depend on who looks for them",
	},
	{
		pkg: "internal/frames",
		why: "how records lie in a file does not depend on whose they are",
	},
	{
		pkg: "internal/ownersocket",
		why: "the socket of an owner is the same for every program, whatever is said over it",
	},
	{
		pkg: "internal/token", may: []string{"schema/wire"},
		why: "both sides of the wire check a token alike, so it belongs to neither",
	},
	{
		pkg: "internal/embedded", may: []string{"internal/loopback"},
		why: "starting a ClickHouse needs nothing of what is stored in it",
	},
	{
		pkg: "internal/audit", may: []string{"schema/..."},
		why: "what was lost or doubled is a question to the store, whoever wrote it",
	},
	{
		pkg: "internal/rollups", may: []string{"schema/..."},
		why: "rollups are made of what is stored, whoever stored it and whoever has them made",
	},
	{
		pkg: "internal/clickhouseerror",
		why: "whatever asks a ClickHouse says alike why it could not",
	},
	{
		pkg: "internal/clickhouseclient", may: []string{"schema", "internal/clickhouseerror", "internal/embedded"},
		why: "finding and opening a ClickHouse needs nothing of what is stored in it",
	},
	{
		pkg: "internal/account", may: []string{"schema/..."},
		why: "the account is made of what is stored, whoever stored it and whoever has it made",
	},
	{
		pkg: "internal/prices", may: []string{"schema/..."},
		why: "what a machine costs does not depend on who asks, nor on what runs on it",
	},
	{
		pkg: "internal/bills", may: []string{"schema/...", "internal/prices"},
		why: "what a provider charges is read with the names that its prices have",
	},
	{
		pkg: "internal/query", may: []string{"internal/clickhouseerror"},
		why: "any SQL, to any ClickHouse",
	},
	{
		pkg: "internal/catalog", may: []string{"schema/..."},
		why: "what there is to ask follows from the schema alone",
	},
	{
		pkg:      "internal/doctor",
		may:      []string{"schema/...", "agent/control", "internal/catalog", "internal/clickhouseclient", "internal/clickhouseerror", "internal/collectors", "internal/embedded", "internal/query"},
		testsMay: []string{"collector"},
		why:      "it looks at a node and at services from outside, and links no driver",
	},
	{
		pkg:      "internal/replay",
		may:      []string{"schema/...", "collector/quarantine", "internal/loopback", "internal/token"},
		testsMay: []string{"collector", "internal/audit"},
		why:      "it speaks to a collector as an agent does, by the wire alone",
	},
	{
		pkg: "internal/terminal",
		why: "how text is shown does not depend on what it says",
	},
	{
		pkg: "internal/top", may: []string{"schema/...", "internal/clickhouseclient", "internal/query", "internal/terminal"}, testsMay: []string{"agent/loadgen", "collector", "internal/ops"},
		why: "it looks at collectors by their metrics and at the store by SQL, as any other program could",
	},
	{
		pkg: "internal/up", may: []string{"..."},
		why: "the whole pipeline on one machine",
	},
	{
		pkg: "internal/clickhousetest", may: []string{"internal/embedded"},
		why: "a real server for the tests of any package, so it depends on none of them",
	},
	{
		pkg: "internal/rules",
		why: "rules look at the checkout from outside",
	},
	{
		pkg: "internal/e2e", may: []string{"..."},
		why: "the whole path, as tests",
	},

	{
		pkg: "cmd/gpufleet-agent", may: []string{"schema/...", "agent", "agent/control", "agent/gpu", "agent/nvml", "agent/recording", "internal/batchtrace", "internal/health", "internal/ops", "internal/token"},
		why: "what runs on every node is the agent and the driver, with no simulator",
	},
	{
		pkg: "cmd/gpufleet-collector", may: []string{"schema/...", "collector", "collector/control", "collector/trust", "internal/batchtrace", "internal/health", "internal/ops"},
		why: "the collector runs without the embedded ClickHouse",
	},
	{
		pkg: "cmd/gpufleet", may: []string{"..."},
		why: "the operator's tool reaches every part",
	},
	{
		pkg: "bench", may: []string{"..."},
		why: "benchmarks measure every part",
	},
	{
		pkg: "bench/peers", may: []string{"schema/..."},
		why: "other pipelines are given readings, and know nothing of ours",
	},
}

func TestImportsFollowTheTable(t *testing.T) {
	files, err := checkout(t).goFiles()
	if err != nil {
		t.Fatal(err)
	}
	report(t, importViolations(files, importRules))
}

// importViolations compares files with the table, and the table with files.
func importViolations(files []goFile, rules []importRule) []string {
	var found []string
	used := map[string]bool{}
	unknown := map[string]bool{}
	for _, f := range files {
		rule, ok := ruleFor(f.dir(), rules)
		if !ok {
			unknown[f.dir()] = true
			continue
		}
		used[rule.pkg] = true
		allowed := append([]string{f.dir()}, rule.may...)
		if f.isTest() {
			allowed = slices.Concat(allowed, rule.testsMay, anyTestMay)
		}
		for _, imported := range ownImports(f) {
			if !matchesAny(imported, allowed) {
				found = append(found, fmt.Sprintf("%s imports %s, which %s may not: %s", f.path, imported, rule.pkg, rule.why))
			}
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(unknown)) {
		found = append(found, fmt.Sprintf("package %s has no row in importRules", dir))
	}
	for _, rule := range rules {
		if !used[rule.pkg] {
			found = append(found, fmt.Sprintf("importRules has a row for %s, which no package needs: remove it", rule.pkg))
		}
		if rule.why == "" {
			found = append(found, fmt.Sprintf("importRules gives no reason for %s", rule.pkg))
		}
	}
	return found
}

// ownImports returns what f imports of our module, relative to it.
func ownImports(f goFile) []string {
	var own []string
	for _, spec := range f.ast.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser has accepted it, so this cannot be
		}
		if rest, ok := strings.CutPrefix(imported, module+"/"); ok {
			own = append(own, rest)
		}
	}
	return own
}

// ruleFor returns the row whose package matches dir with the longest path.
func ruleFor(dir string, rules []importRule) (best importRule, ok bool) {
	for _, rule := range rules {
		if matches(dir, rule.pkg) && (!ok || moreExact(rule.pkg, best.pkg)) {
			best, ok = rule, true
		}
	}
	return best, ok
}

// moreExact reports whether pattern a says more than b; both match the same package.
func moreExact(a, b string) bool {
	aFolder, aWide := strings.CutSuffix(a, "/...")
	bFolder, bWide := strings.CutSuffix(b, "/...")
	if aWide != bWide {
		return bWide
	}
	return len(aFolder) > len(bFolder)
}

// matches reports whether pattern means pkg.
func matches(pkg, pattern string) bool {
	if pattern == "..." {
		return true
	}
	folder, wide := strings.CutSuffix(pattern, "/...")
	return pkg == folder || wide && strings.HasPrefix(pkg, folder+"/")
}

func matchesAny(pkg string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pkg, pattern) })
}

func TestImportRuleCatches(t *testing.T) {
	rules := []importRule{
		{pkg: "schema/...", may: []string{"schema/..."}, why: "contract"},
		{pkg: "agent", may: []string{"schema/..."}, testsMay: []string{"agent/sim"}, why: "agents"},
		{pkg: "agent/sim", why: "leaf"},
	}
	clean := tree{
		"schema/wire/wire.go":   "package wire\nimport _ \"" + module + "/schema\"\n",
		"agent/agent.go":        "package agent\nimport (\n_ \"fmt\"\n_ \"" + module + "/schema/wire\"\n)\n",
		"agent/agent_test.go":   "package agent_test\nimport (\n_ \"" + module + "/agent\"\n_ \"" + module + "/agent/sim\"\n)\n",
		"agent/sim/sim.go":      "package sim\n",
		"agent/sim/sim_test.go": "package sim\nimport _ \"" + module + "/internal/clickhousetest\"\n",
	}
	tests := []struct {
		name string
		path string
		text string
		want []string
	}{
		{"nothing", "agent/more.go", "package agent\n", nil},
		{"sideways", "agent/x.go", "package agent\nimport _ \"" + module + "/collector\"\n", []string{"agent/x.go imports collector"}},
		{"what only a test may", "agent/x.go", "package agent\nimport _ \"" + module + "/agent/sim\"\n", []string{"imports agent/sim"}},
		{"test too far", "schema/x_test.go", "package schema\nimport _ \"" + module + "/agent\"\n", []string{"imports agent"}},
		{"the exact row wins", "agent/sim/x.go", "package sim\nimport _ \"" + module + "/schema\"\n", []string{"which agent/sim may not"}},
		{"no row", "collector/collector.go", "package collector\n", []string{"package collector has no row"}},
		{"no package", "agent/sim/sim.go", "", []string{"row for agent/sim, which no package needs"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := maps.Clone(clean)
			files[tt.path] = tt.text
			if tt.text == "" {
				delete(files, "agent/sim/sim_test.go")
				delete(files, tt.path)
			}
			parsed, err := files.goFiles()
			if err != nil {
				t.Fatal(err)
			}
			wantViolations(t, importViolations(parsed, rules), tt.want...)
		})
	}
	t.Run("no reason", func(t *testing.T) {
		parsed, err := tree{"agent/sim/sim.go": "package sim\n"}.goFiles()
		if err != nil {
			t.Fatal(err)
		}
		wantViolations(t, importViolations(parsed, []importRule{{pkg: "agent/sim"}}), "no reason for agent/sim")
	})
}
