// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"path"
	"regexp"
	"strings"
	"testing"
)

// adrName is how a decision record is called.
var adrName = regexp.MustCompile(`^docs/adr/(\d{3})-[a-z0-9-]+\.md$`)

func TestTopLevelFoldersHaveOwners(t *testing.T) {
	report(t, ownerViolations(checkout(t)))
}

func TestDecisionRecordsAreIndexed(t *testing.T) {
	report(t, adrViolations(checkout(t)))
}

// ownerViolations compares the folders at the top with CODEOWNERS.
func ownerViolations(files tree) []string {
	owned := map[string]bool{}
	var found []string
	for number, line := range strings.Split(files["CODEOWNERS"], "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] == "*" || strings.HasPrefix(fields[0], "#") {
			continue
		}
		folder := strings.Trim(fields[0], "/")
		owned[folder] = true
		if !files.has(folder) {
			found = append(found, fmt.Sprintf("CODEOWNERS:%d: %s is not in the checkout", number+1, folder))
		}
	}
	for _, name := range files.paths() {
		folder, _, nested := strings.Cut(name, "/")
		if nested && !owned[folder] {
			owned[folder] = true
			found = append(found, fmt.Sprintf("CODEOWNERS has no line for /%s/", folder))
		}
	}
	return found
}

// adrViolations: records are numbered without gaps, and each has a line in the index.
func adrViolations(files tree) []string {
	const folder, index = "docs/adr/", "docs/adr/README.md"
	var found []string
	number := 0
	for _, name := range files.paths() {
		if !strings.HasPrefix(name, folder) || name == index {
			continue
		}
		number++
		match := adrName.FindStringSubmatch(name)
		if match == nil || match[1] != fmt.Sprintf("%03d", number) {
			found = append(found, fmt.Sprintf("%s: want %s%03d-short-title.md", name, folder, number))
		}
		if !strings.Contains(files[index], "]("+path.Base(name)+")") {
			found = append(found, fmt.Sprintf("%s: no line in %s", name, index))
		}
	}
	return found
}

func TestOwnerRuleCatches(t *testing.T) {
	wantViolations(t, ownerViolations(tree{
		"CODEOWNERS":     "# who\n* @a/b\n\n/agent/ @a/b\n/gone/ @a/b\n",
		"agent/agent.go": "", "schema/a.go": "", "schema/b.go": "", "README.md": "",
	}), "CODEOWNERS:5: gone is not", "no line for /schema/")
}

func TestDecisionRecordRuleCatches(t *testing.T) {
	files := tree{"docs/adr/README.md": "| [1](001-arrow.md) | accepted |\n", "docs/adr/001-arrow.md": ""}
	wantViolations(t, adrViolations(files))

	files["docs/adr/003-wire.md"] = ""
	wantViolations(t, adrViolations(files), "003-wire.md: want docs/adr/002-short-title.md", "003-wire.md: no line in")
}
