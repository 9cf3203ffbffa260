// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package sampler

import "time"

// readClocks knows only the wall time: the driver's clock is learned from its samples.
func readClocks(wall, start time.Time) instant { return wallInstant(wall, start) }
