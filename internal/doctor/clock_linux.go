// SPDX-License-Identifier: Apache-2.0

package doctor

import "golang.org/x/sys/unix"

// clockState asks the kernel whether somebody keeps its clock right. It changes nothing.
func clockState() (synchronised bool, err error) {
	var question unix.Timex
	state, err := unix.Adjtimex(&question)
	if err != nil {
		return false, err
	}
	return state != unix.TIME_ERROR && question.Status&unix.STA_UNSYNC == 0, nil
}
