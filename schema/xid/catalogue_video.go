// SPDX-License-Identifier: Apache-2.0

package xid

import "fmt"

// videoRows are the faults of engines that a compute job seldom uses.
func videoRows() []Entry {
	list := []Entry{
		videoRow(60, "ROBUST_CHANNEL_SEC2_ERROR", everyGPU, "The SEC2 engine, which protects video, met an error."),
		videoRow(86, "ROBUST_CHANNEL_OFA0_ERROR", everyGPU, "Optical flow engine 0 met an error."),
		videoRow(139, "ROBUST_CHANNEL_OFA1_ERROR", blackwellOn, "Optical flow engine 1 met an error."),
		videoRow(142, "ROBUST_CHANNEL_NVENC3_ERROR", GraceBlackwell, "Video encoder 3 met an error."),
	}
	list[0].Investigatory = "INVESTIGATE_SW"
	list[3].Immediate, list[3].Investigatory = "CONTACT_SUPPORT", ""
	for i, code := range [...]uint32{68, 83, 84, 88, 89, 96, 97, 98} {
		on := everyGPU
		if i > 4 {
			on = hopperOn
		}
		list = append(list, videoRow(code, fmt.Sprintf("ROBUST_CHANNEL_NVDEC%d_ERROR", i), on, fmt.Sprintf("Video decoder %d met an error.", i)))
	}
	for i, code := range [...]uint32{82, 99, 100, 101, 102, 103, 104, 105} {
		on := everyGPU
		if i > 0 {
			on = hopperOn
		}
		list = append(list, videoRow(code, fmt.Sprintf("ROBUST_CHANNEL_NVJPG%d_ERROR", i), on, fmt.Sprintf("JPEG decoder %d met an error.", i)))
	}
	return list
}

func videoRow(code uint32, mnemonic string, on Generations, cause string) Entry {
	return Entry{
		Code: code, Mnemonic: mnemonic, Generations: on,
		Severity: Warning, Class: Video, Action: RestartApp, Immediate: "RESTART_APP", Investigatory: "CONTACT_SUPPORT",
		Cause: cause,
	}
}
