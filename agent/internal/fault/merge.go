// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/event"
)

// evidence is what one source said, as it stands in gpu_events.evidence:
//
//	[{"source":"kernel","time":"2026-03-01T12:00:00.123Z","text":"NVRM: Xid …"}, …]
type evidence struct {
	Source string    `json:"source"`
	Time   time.Time `json:"time"`
	Text   string    `json:"text"`
}

// maxText bounds one piece of evidence, in bytes.
const maxText = 1024

func encode(said []evidence, dropped int) string {
	pieces := make([]evidence, len(said), len(said)+1)
	for i, s := range said {
		s.Time, s.Text = s.Time.UTC().Truncate(time.Millisecond), s.Text[:min(len(s.Text), maxText)]
		pieces[i] = s
	}
	if dropped > 0 {
		last := said[len(said)-1]
		pieces = append(pieces, evidence{Source: last.Source, Time: last.Time.UTC().Truncate(time.Millisecond), Text: fmt.Sprintf("and %d more", dropped)})
	}
	text, err := json.Marshal(pieces)
	if err != nil { // no value of these types fails
		return ""
	}
	return string(text)
}

// same tells that two events say the same of one device: the same kind, with the same codes, and of no other link
// or unit.
func same(a, b event.Event) bool {
	return a.Kind == b.Kind && equal(a.XID, b.XID) && equal(a.Fault.SXID, b.Fault.SXID) && equal(a.GPUInstance, b.GPUInstance) &&
		(a.Fault.Link == nil || b.Fault.Link == nil || *a.Fault.Link == *b.Fault.Link) &&
		(a.Fault.Subcode == "" || b.Fault.Subcode == "" || a.Fault.Subcode == b.Fault.Subcode)
}

func equal(a, b *int64) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}

// merge adds to a fault what an event knows and it does not. A code tells more than a symptom: the kind of an
// event with one takes the place of a kind without. The driver's verdict on a fault is no code of that fault.
func merge(known, e event.Event) event.Event {
	verdict := e.XID != nil && *e.XID == recoveryXID && (known.Kind != "xid" || known.XID != nil && *known.XID != recoveryXID)
	switch {
	case verdict:
		e.XID = nil
	case known.XID == nil && e.XID != nil && known.Fault.SXID == nil:
		known.Kind, known.Message, known.Count = e.Kind, e.Message, nil
	case known.Kind == e.Kind:
		known.Message, known.Count = longer(known.Message, e.Message), or(known.Count, e.Count)
	}
	if e.Time.Before(known.Time) {
		known.Time = e.Time
	}
	known.UUID = cmp.Or(known.UUID, e.UUID)
	known.XID = or(known.XID, e.XID)
	known.GPUInstance, known.ComputeInstance = or(known.GPUInstance, e.GPUInstance), or(known.ComputeInstance, e.ComputeInstance)
	a, b := *known.Fault, *e.Fault
	a.SXID, a.Link, a.Subcode = or(a.SXID, b.SXID), or(a.Link, b.Link), cmp.Or(a.Subcode, b.Subcode)
	a.PCIBusID, a.Name = cmp.Or(a.PCIBusID, b.PCIBusID), cmp.Or(a.Name, b.Name)
	a.ProcessID, a.ProcessName = or(a.ProcessID, b.ProcessID), cmp.Or(a.ProcessName, b.ProcessName)
	a.KernelSequence = or(a.KernelSequence, b.KernelSequence)
	if b.RecoveryAction != nil {
		a.RecoveryAction = b.RecoveryAction // the latest verdict counts
	}
	known.Fault = &a
	return known
}

// longer is the message that says more.
func longer(a, b string) string {
	if len(b) > len(a) {
		return b
	}
	return a
}

func or(a, b *int64) *int64 {
	if a != nil {
		return a
	}
	return b
}
