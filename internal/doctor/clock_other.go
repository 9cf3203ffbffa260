// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package doctor

import "errors"

// clockState is only known on Linux.
func clockState() (synchronised bool, err error) { return false, errors.ErrUnsupported }
