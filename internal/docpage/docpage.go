// SPDX-License-Identifier: Apache-2.0

// Package docpage puts tables that code makes into pages of the documentation. A table stands between two lines:
//
//	<!-- NAME -->
//	<!-- /NAME -->
package docpage

import (
	"fmt"
	"strings"
)

// WithTable is the page with a table in its place, and an empty line on either side.
func WithTable(page, name, table string) (string, error) {
	begin, end := "<!-- "+name+" -->", "<!-- /"+name+" -->"
	before, rest, begins := strings.Cut(page, begin+"\n")
	_, after, ends := strings.Cut(rest, end+"\n")
	if !begins || !ends {
		return "", fmt.Errorf("no line %q with a line %q after it", begin, end)
	}
	return before + begin + "\n\n" + strings.TrimSpace(table) + "\n\n" + end + "\n" + after, nil
}
