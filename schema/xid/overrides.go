// SPDX-License-Identifier: Apache-2.0

package xid

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/gpufleet/gpufleet/schema/yamlfile"
)

// MaxOverridesBytes is the size of the largest file of overrides that is read.
const MaxOverridesBytes = 1 << 20

// Overrides are an operator's own judgements of codes, read from a YAML file:
//
//	xid:
//	  94:
//	    severity: info
//	    action: none
//	    note: Our trainer restarts by itself.
//	sxid:
//	  20009: {severity: critical, action: inspect_hardware}
//
// What a code does not name stays as the catalogue has it. The zero Overrides change nothing.
type Overrides struct {
	rules atomic.Pointer[map[uint32]override]
}

// override is what the file says of one code; "" where it says nothing.
type override struct {
	severity Severity
	class    Class
	action   Action
	note     string
}

// Load reads the file and puts it in force. If anything in it is wrong nothing of it is: what was in force before
// stays, and the error names each mistake with its line.
func (o *Overrides) Load(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read overrides of the XID catalogue: %w", err)
	}
	defer file.Close() //nolint:errcheck // it was only read
	return o.Read(file, path)
}

// Read is Load for what is no file; name stands for it in errors.
func (o *Overrides) Read(r io.Reader, name string) error {
	text, err := io.ReadAll(io.LimitReader(r, MaxOverridesBytes+1))
	switch {
	case err != nil:
		return fmt.Errorf("read overrides of the XID catalogue from %s: %w", name, err)
	case len(text) > MaxOverridesBytes:
		return fmt.Errorf("read overrides of the XID catalogue: %s has more than %d bytes", name, MaxOverridesBytes)
	}
	p := overridesParser{File: yamlfile.File{Name: name}, rules: map[uint32]override{}}
	if n := p.Document(text); n != nil {
		p.top(n)
	}
	if err := p.Err(); err != nil {
		return err
	}
	o.rules.Store(&p.rules)
	return nil
}

// Len counts the codes that are overridden.
func (o *Overrides) Len() int {
	if rules := o.rules.Load(); rules != nil {
		return len(*rules)
	}
	return 0
}

// Lookup is the package's Lookup with the operator's judgement.
func (o *Overrides) Lookup(code uint32, branch Branch) Entry {
	return o.apply(Lookup(code, branch))
}

// LookupSwitch is the package's LookupSwitch with the operator's judgement.
func (o *Overrides) LookupSwitch(code uint32, fatal *bool) Entry {
	return o.apply(LookupSwitch(code, fatal))
}

// Decode is NVLink5.Decode with the operator's judgement of the code.
func (o *Overrides) Decode(n NVLink5, branch Branch) Verdict {
	v := n.Decode(branch)
	v.Entry = o.apply(v.Entry)
	return v
}

// All is the package's All with the operator's judgements.
func (o *Overrides) All(branch Branch) []Entry {
	all := All()
	for i, e := range all {
		e.DriverDecides = branch.has(e.VerdictBranch)
		all[i] = o.apply(e)
	}
	return all
}

// apply changes what the operator named. An action of the operator goes before the driver's verdict, too.
func (o *Overrides) apply(e Entry) Entry {
	rules := o.rules.Load()
	if rules == nil {
		return e
	}
	rule, ok := (*rules)[e.Code]
	if !ok {
		return e
	}
	e.Note = rule.note
	e.Overridden = rule != override{note: rule.note}
	if rule.severity != "" {
		e.Severity = rule.severity
	}
	if rule.class != "" {
		e.Class = rule.class
	}
	if rule.action != "" {
		e.Action, e.DriverDecides = rule.action, false
	}
	return e
}
