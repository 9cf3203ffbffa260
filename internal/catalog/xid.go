// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/gpufleet/gpufleet/schema/xid"
)

// WriteXIDs lists fault codes, one line each.
func WriteXIDs(w io.Writer, entries []xid.Entry) error {
	rows := [][]string{{"code", "severity", "class", "action", "cause"}}
	for _, e := range entries {
		rows = append(rows, []string{strconv.FormatUint(uint64(e.Code), 10), string(e.Severity), string(e.Class), string(e.Action), e.Cause})
	}
	return writeRows(w, rows, Text)
}

// WriteXIDsJSON lists fault codes, one JSON object a line.
func WriteXIDsJSON(w io.Writer, entries []xid.Entry) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	for _, e := range entries {
		if err := encoder.Encode(e); err != nil {
			return err
		}
	}
	return nil
}

// WriteXIDJSON writes what one code or line means, as a line of JSON.
func WriteXIDJSON(w io.Writer, v xid.Verdict) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(struct {
		CatalogueVersion int `json:"catalogue_version"`
		xid.Verdict
	}{xid.CatalogueVersion, v})
}

// WriteXID explains one code or line.
func WriteXID(w io.Writer, v xid.Verdict, branch xid.Branch) error {
	kind := "XID"
	if v.Code >= xid.FirstSwitchCode {
		kind = "SXID"
	}
	fmt.Fprintf(w, "%s\n%s\n\n", strings.TrimSpace(fmt.Sprintf("%s %d %s", kind, v.Code, v.Mnemonic)), v.Cause)
	rows := append(judgement(v.Entry), facts(v, branch)...)
	rows = append(rows, []string{"catalogue", "version " + strconv.Itoa(xid.CatalogueVersion), "Facts as of " + xid.SourceModified + "."})
	return writeRows(w, rows, Text)
}

// judgement is gpufleet's, or the operator's.
func judgement(e xid.Entry) [][]string {
	rows := [][]string{
		{"severity", string(e.Severity), meaning(xid.Severities(), string(e.Severity))},
		{"class", string(e.Class), meaning(xid.Classes(), string(e.Class))},
		{"action", string(e.Action), meaning(xid.Actions(), string(e.Action))},
	}
	if e.Overridden || e.Note != "" {
		rows = append(rows, []string{"operator", yours(e), cmp.Or(e.Note, "–")})
	}
	return rows
}

// facts are NVIDIA's.
func facts(v xid.Verdict, branch xid.Branch) (rows [][]string) {
	if v.VerdictBranch != 0 {
		rows = append(rows, []string{"driver", v.VerdictBranch.String(), driverSentence(v.Entry, branch)})
	}
	if v.Fatality != "" {
		rows = append(rows, []string{"fatality", string(v.Fatality), ""})
	}
	if v.Decoded {
		rows = append(rows, []string{"decoded", string(v.Effect), "Row of NVIDIA's table for XIDs 144 to 150."})
	}
	rows = append(rows, advice("at once", v.Immediate)...)
	rows = append(rows, advice("then", v.Investigatory)...)
	if names := v.Generations.Names(); len(names) > 0 {
		rows = append(rows, []string{"occurs on", "", strings.Join(names, ", ")})
	}
	if v.Application {
		rows = append(rows, []string{"kubernetes", "healthy", "NVIDIA's device plugin leaves the GPU in service."})
	}
	return rows
}

// yours tells what an operator's file did.
func yours(e xid.Entry) string {
	if e.Overridden {
		return "overridden"
	}
	return "noted"
}

// driverSentence tells whether an XID 154 is to be waited for.
func driverSentence(e xid.Entry, branch xid.Branch) string {
	switch {
	case e.DriverDecides:
		return "An XID 154 follows and says what the driver wants done. It goes before the action."
	case branch == 0 && e.VerdictBranch != xid.EveryBranch:
		return "From this branch on an XID 154 follows and goes before the action."
	case branch > 0 && branch < e.VerdictBranch:
		return fmt.Sprintf("From this branch on an XID 154 follows; %v is older.", branch)
	default:
		return "An XID 154 follows, but the operator's action goes before it."
	}
}

// advice is NVIDIA's.
func advice(when string, bucket xid.Bucket) [][]string {
	if bucket == "" {
		return nil
	}
	return [][]string{{"nvidia, " + when, string(bucket), meaning(xid.Buckets(), string(bucket))}}
}

func meaning(words []xid.Word, name string) string {
	if i := slices.IndexFunc(words, func(w xid.Word) bool { return w.Name == name }); i >= 0 {
		return words[i].Meaning
	}
	return ""
}
