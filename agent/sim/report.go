// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// reporter hands events to the drivers that are open, a microsecond apart so that their order is kept.
type reporter struct {
	node *Node
	at   int64 // ns since 1970
}

func (r *reporter) event(index int, kind gpu.EventKind, data uint64, message string) {
	event := gpu.Event{
		Time: time.Unix(0, r.at), UUID: r.node.boards[index].uuid, Kind: kind, Data: data,
		GI: gpu.NoInstance, CI: gpu.NoInstance, Message: message,
	}
	r.at += int64(time.Microsecond)
	for _, d := range r.node.open {
		d.push(event)
	}
}

func (r *reporter) xid(index int, code uint64) {
	r.event(index, gpu.EventXID, code, r.kernelLine(index, code, xidTexts[code]))
}

// recovery reports what the driver asks for now, as releases from R565 on do.
func (r *reporter) recovery(index int, before, action uint32) {
	if !r.node.software.recoveryEvents || before == action {
		return
	}
	text := fmt.Sprintf("GPU recovery action changed from 0x%x (%s) to 0x%x (%s)",
		before, recoveryTexts[before], action, recoveryTexts[action])
	r.event(index, gpu.EventXID, 154, r.kernelLine(index, 154, text))
}

var recoveryTexts = map[uint32]string{
	0: "None", recoverReset: "GPU Reset Required", recoverReboot: "Node Reboot Required", recoverDrainAndReset: "Drain and Reset",
}

// kernelLine is the line that the kernel log has of an XID.
func (r *reporter) kernelLine(index int, code uint64, text string) string {
	address := busAddresses[r.node.place.Provider][index]
	if text == "" {
		text = "pid=41277, name=python3"
	}
	return fmt.Sprintf("NVRM: Xid (PCI:%s): %d, %s", address[:len(address)-2], code, text)
}

// xidTexts are what follows the number in the kernel log, in the shapes that public logs show.
var xidTexts = map[uint64]string{
	13:  "pid=41277, name=python3, Graphics SM Warp Exception on (GPC 3, TPC 2, SM 1): Out Of Range Address",
	31:  "pid=41277, name=python3, Ch 0000000a, intr 00000000. MMU Fault: ENGINE GRAPHICS GPCCLIENT_T1_3 faulted @ 0x7f3c_84000000. Fault is of type FAULT_PDE ACCESS_TYPE_VIRT_READ",
	43:  "pid=41277, name=python3, Ch 00000008",
	45:  "pid=41277, name=python3, Ch 00000008",
	48:  "pid='<unknown>', name=<unknown>, An uncorrectable double bit error (DBE) has been detected on GPU in the framebuffer at partition 4, subpartition 0.",
	63:  "pid='<unknown>', name=<unknown>, Row Remapper: New row marked for remapping, reset gpu to activate.",
	74:  "pid='<unknown>', name=<unknown>, NVLink: fatal error detected on link 4(0x0, 0x0, 0x10000, 0x0, 0x0, 0x0, 0x0)",
	79:  "pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
	92:  "pid='<unknown>', name=<unknown>, High single-bit ECC error rate",
	94:  "pid=41277, name=python3, Contained: CE User Channel (0x9). RST: No, D-RST: No",
	95:  "pid='<unknown>', name=<unknown>, Uncontained: LTC TAG (0x2,0x0). RST: Yes, D-RST: No",
	119: "pid=41277, name=python3, Timeout after 6s of waiting for RPC response from GPU GSP! Expected function 76 (GSP_RM_CONTROL) (0x2080a068 0x4).",
	145: "RLW_REMAP Nonfatal XC0 i0 Link 04 (0x00000004 0x80000000 0x00000000 0x00000000 0x00000000 0x00000000)",
	149: "NETIR_LINK_EVT Fatal XC0 i0 Link 04 (0x004505c6 0x00000000 0x00000000 0x00000000 0x00000000 0x00000000)",
}
