// SPDX-License-Identifier: Apache-2.0

package mapping

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/gpufleet/gpufleet/internal/docpage"
	"github.com/gpufleet/gpufleet/schema"
)

// TestDocumentHasTheNames compares the table of docs/neighbours.md with the names.
func TestDocumentHasTheNames(t *testing.T) {
	const document = "../../../../docs/neighbours.md"
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	want, err := docpage.WithTable(string(text), "table of collector/internal/foreign/mapping", namesTable())
	if err != nil {
		t.Fatalf("%s: %v", document, err)
	}
	if want != string(text) {
		t.Errorf("the table of %s is not that of the names:\n%s", document, namesTable())
	}
}

// namesTable is the table of names as docs/neighbours.md has it.
func namesTable() string {
	metrics := make(map[string]schema.Metric)
	for _, m := range schema.Metrics() {
		metrics[m.Name] = m
	}
	var b strings.Builder
	b.WriteString("| metric | in | goes to | × |\n| --- | --- | --- | --- |\n")
	for _, n := range Names() {
		var where []string
		for _, a := range n.Where {
			where = append(where, fmt.Sprintf("`%s` %s", a.Key, cmp.Or(a.Value, "not set")))
		}
		name := "`" + n.Metric + "`"
		if len(where) > 0 {
			name += " (" + strings.Join(where, ", ") + ")"
		}
		if n.Column == "" {
			fmt.Fprintf(&b, "| %s | %s | not kept: %s |  |\n", name, n.Unit, n.Note)
			continue
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", name, n.Unit, places(metrics[n.Column]), scale(n))
	}
	return b.String()
}

// places are the columns that a metric fills.
func places(m schema.Metric) string {
	var columns []string
	if c, ok := m.SamplesColumn(); ok {
		columns = append(columns, "`gpu_samples."+c.Name+"`")
	}
	for _, c := range m.HealthColumns() {
		columns = append(columns, "`gpu_health."+c.Name+"`")
	}
	return strings.Join(columns, ", ")
}

func scale(n Name) string {
	switch {
	case n.Divide > 1:
		return fmt.Sprintf("1/%d", n.Divide)
	case n.Multiply > 1:
		return strconv.FormatInt(n.Multiply, 10)
	default:
		return "1"
	}
}
