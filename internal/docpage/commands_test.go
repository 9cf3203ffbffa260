// SPDX-License-Identifier: Apache-2.0

package docpage

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestCommands(t *testing.T) {
	for name, c := range map[string]struct {
		file, text string
		want       []string // line and arguments
	}{
		"span":      {"a.md", "See `gpufleet up --nodes 8` and `gpufleet-agent --help`, or `make up`.\n`bin/gpufleet top`", []string{"1 up --nodes 8", "2 top"}},
		"fence":     {"a.md", "```\nPASSWORD=x gpufleet readers g --cluster | clickhouse client\ncd a && gpufleet up # --none\n```\ngpufleet is a tool", []string{"2 readers g --cluster", "3 up"}},
		"indented":  {"a.md", "    gpufleet token n > n.token\n    for n in a; do gpufleet token $n; done", []string{"1 token n", "2 token $n"}},
		"goes on":   {"a.md", "```\ngpufleet up \\\n    --nodes 8\n```\n", []string{"2 up --nodes 8"}},
		"span ends": {"a.md", "`a`\n```\n```\n`gpufleet doctor`", []string{"4 doctor"}},
		"unit":      {"a.service", "[Service]\n# gpufleet no\nExecStart=-/usr/local/bin/gpufleet up \\\n    --nodes 8\nExecReload=/bin/kill -HUP", []string{"3 up --nodes 8"}},
		"manifest": {
			"a.yaml", "kind: A\n---\nspec:\n  containers:\n    - name: x\n      command: [gpufleet]\n      args:\n        - up\n        - --nodes=8\n    - command: [other]\n      args: [--gpufleet]\n",
			[]string{"5 up --nodes=8"},
		},
		"other": {"a.sh", "gpufleet up", nil},
	} {
		found, err := Commands(c.file, c.text, "gpufleet")
		var got []string
		for _, f := range found {
			got = append(got, fmt.Sprintf("%d %s", f.Line, strings.Join(f.Args, " ")))
		}
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
	}
	if found, err := Commands("a.yaml", "a: [", "gpufleet"); err == nil {
		t.Errorf("a broken manifest has %v", found)
	}
}
