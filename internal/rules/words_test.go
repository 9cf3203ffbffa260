// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// strayWord is text that belongs to one machine or site and not to the project.
type strayWord struct {
	pattern *regexp.Regexp
	why     string
}

// strayWords are matched line by line. They are put together from pieces, so that this file, too, is checked.
var strayWords = []strayWord{
	{
		regexp.MustCompile(`(?i)\b(proxy\.` + `golang\.org|goproxy\.` + `(io|cn)|sum\.` + `golang\.org|registry\.` + `(npmjs\.org|npmmirror\.com|yarnpkg\.com)|npm\.` + `pkg\.github\.com)\b`),
		"names a package registry; which one to use is the builder's setting",
	},
	{
		regexp.MustCompile(`"resolved":\s*"` + `https?://`),
		"ties the lock file to one registry; write it with `npm --omit-lockfile-registry-resolved`",
	},
	{
		regexp.MustCompile(`(^|[^\w.\-/*])/(wo` + `rk|ro` + `ot)/`),
		"is a path of one machine",
	},
}

func TestNoWordsOfOneMachine(t *testing.T) {
	report(t, strayWordViolations(checkout(t)))
}

// strayWordViolations finds stray words in text files.
func strayWordViolations(files tree) []string {
	var found []string
	for _, name := range files.paths() {
		if !utf8.ValidString(files[name]) {
			continue // binary
		}
		for number, line := range strings.Split(files[name], "\n") {
			for _, word := range strayWords {
				if match := word.pattern.FindString(line); match != "" {
					found = append(found, fmt.Sprintf("%s:%d: %q %s", name, number+1, match, word.why))
				}
			}
		}
	}
	return found
}

func TestStrayWordRuleCatches(t *testing.T) {
	wantViolations(t, strayWordViolations(tree{
		"ok.md":     "https://go.dev/root/x network/work/ ./work/x https://www.npmjs.com/package/x\n",
		"ok.bin":    "\xff /wo" + "rk/x",
		"lock.json": "{\n\"resolved\": \"" + "https://example.com/x.tgz\"\n}",
	}), "lock.json:2")
	for _, line := range []string{
		"GOPROXY=https://proxy." + "golang.org,direct", "https://registry." + "npmjs.org/x", "path: /wo" + "rk/main", "/ro" + "ot/go",
		"(see /wo" + "rk/x)", "`/ro" + "ot/.cache`",
	} {
		wantViolations(t, strayWordViolations(tree{"a.txt": "first\n" + line + "\n"}), "a.txt:2")
	}
}
