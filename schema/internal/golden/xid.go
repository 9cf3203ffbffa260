// SPDX-License-Identifier: Apache-2.0

package golden

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/gpufleet/gpufleet/schema/xid"
)

// xidPage is docs/xid.md.
func xidPage() []byte {
	var p page
	p.text("# XIDs and SXIDs")
	p.text("<!-- Written by go generate ./schema/... from the tables in schema/xid/. Change those. -->")
	p.text("What the fault codes of NVIDIA's drivers mean, and what gpufleet makes of them. `gpufleet xid 79` answers from the same table, without a network.")
	p.text(fmt.Sprintf("Catalogue version %d. Facts (names, GPUs, NVIDIA's advice) are those of %s, as of %s (SHA-256 `%s`), and for SXIDs of %s. Causes, severities, classes and actions are gpufleet's own judgement.",
		xid.CatalogueVersion, xid.Source, xid.SourceModified, xid.SourceSHA256, xid.SwitchSource))
	p.xidReading()
	p.xidWords()
	p.text("## XIDs")
	p.text("**On**: A is A100, H is H100 and H200, B is B100 and B200, G is GB200. **Driver's verdict**: from which driver branch on an XID 154 follows, which says what the driver wants done; it goes before the action here. An asterisk marks the codes that NVIDIA's device plugin for Kubernetes takes for the application's own fault, so that it leaves the GPU in service. A code that is not here is recorded as `unknown` with severity `warning` and no action.")
	p.header("XID", "Mnemonic", "On", "Cause", "Severity", "Class", "Action", "NVIDIA at once", "NVIDIA then", "Driver's verdict")
	for _, e := range xid.All() {
		if e.Code < xid.FirstSwitchCode {
			p.xid(e)
		}
	}
	p.WriteString("\n")
	p.xidDecoding()
	p.xidRecoveries()
	p.xidSwitches()
	p.text("## NVIDIA's advice")
	p.words(xid.Buckets())
	return []byte(strings.TrimRight(p.String(), "\n") + "\n")
}

// xidReading says how to use the tables, and how to change them.
func (p *page) xidReading() {
	p.text("## How to read it")
	p.text("1. If an XID 154 came too, do what it says: the driver knows what else is wrong with the GPU. From R565 on it comes with most grave codes.\n" +
		"2. If the action is `follow_other`, look for the other fault of the same GPU within the same minutes: 45 follows almost everything, 94 and 95 follow 48, 171 and 172 explain 48.\n" +
		"3. If the action is `decode`, the rest of the line decides: `gpufleet xid --line '…'` reads it.\n" +
		"4. One fault of an application is the application's. The same one on the same GPU with several applications is the GPU's.")
	p.text("### Your own judgement")
	p.text("A YAML file changes severity, class and action of codes, and adds a note:")
	p.WriteString("```yaml\nxid:\n  94:\n    severity: info\n    action: none\n    note: Our trainer restarts by itself.\nsxid:\n  20009: {severity: critical, action: inspect_hardware}\n```\n\n")
	p.text("Check it with `gpufleet xid --overrides FILE`, which names each mistake with its line. A program that reads a file with a mistake takes none of it, says so, and goes on with what it had. An action of yours goes before the driver's verdict, too.")
}

func (p *page) xidWords() {
	p.text("## Words")
	p.text("### Severities")
	p.words(xid.Severities())
	p.text("### Classes")
	p.words(xid.Classes())
	p.text("### Actions")
	p.words(xid.Actions())
}

func (p *page) words(words []xid.Word) {
	p.header("Word", "Meaning")
	for _, w := range words {
		p.row("`"+w.Name+"`", w.Meaning)
	}
	p.WriteString("\n")
}

func (p *page) xid(e xid.Entry) {
	code := digits(e.Code)
	if e.Application {
		code += `\*`
	}
	var on strings.Builder
	for _, name := range e.Generations.Names() {
		on.WriteString(strings.ToUpper(name[:1]))
	}
	p.row(code, "`"+e.Mnemonic+"`", on.String(), e.Cause, string(e.Severity), string(e.Class), string(e.Action), string(e.Immediate), string(e.Investigatory), e.VerdictBranch.String())
}

func (p *page) xidDecoding() {
	p.text("## XIDs 144 to 150, decoded")
	p.text("Their lines name a unit of NVLink 5, whether the error is fatal, whether it was contained to one application (`XC1`), a link, and words in hexadecimal: first the unit anew with a **reason**, then the **status** that this table goes by. The words are laid out anew from R575 on; `gpufleet xid --line '…' --driver VERSION` takes care of that. Where no row fits, a fatal error means `reset_gpu`, and any other `restart_app` unless an XID 154 came with it.")
	p.header("XID", "Unit up to R570", "Unit from R575 on", "Reason", "Status", "Promoted", "Effect", "NVIDIA at once", "NVIDIA then", "Lies in")
	for _, r := range xid.NVLink5Rows() {
		status := "any"
		if r.Status != xid.AnyStatus {
			status = fmt.Sprintf("`0x%08x`", r.Status)
		}
		promoted := [...]string{xid.AnyBit: "", xid.BitClear: "no", xid.BitSet: "yes"}[r.Promoted]
		p.row(digits(r.Code), "`"+r.Unit1+"`", "`"+r.Unit2+"`", digits(r.Reason), status, promoted, string(r.Effect), string(r.Immediate), string(r.Investigatory), r.Origin)
	}
	p.WriteString("\n")
}

func (p *page) xidRecoveries() {
	p.text("## Recovery actions of the driver")
	p.text("The number in an XID 154, and in `recovery_action` of `gpu_health`.")
	p.header("Number", "Driver's word", "Severity", "Action")
	for _, r := range xid.Recoveries() {
		p.row(digits(r.Number), r.Name, string(r.Severity), string(r.Action))
	}
	p.WriteString("\n")
}

func (p *page) xidSwitches() {
	p.text("## SXIDs")
	p.text("Codes of the NVSwitches of HGX A100 and H100. The switches of GB200 sit in trays of their own, so that their SXIDs are in no node's log. An SXID that is not here counts as the driver's line says: `fatal` means critical, and XID 74 follows on the GPUs.")
	p.header("SXID", "Name", "Cause", "Fatality", "Severity", "Class", "Action")
	for _, e := range xid.All() {
		if e.Code >= xid.FirstSwitchCode {
			p.row(digits(e.Code), "`"+e.Mnemonic+"`", e.Cause, string(e.Fatality), string(e.Severity), string(e.Class), string(e.Action))
		}
	}
	p.WriteString("\n")
}

func digits(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
