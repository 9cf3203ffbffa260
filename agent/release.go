// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// holder has the GPU driver open, and can let go of it.
type holder interface {
	Release(ctx context.Context, reason string) error
	Resume() bool
	Released() (reason string, since time.Time)
}

var errNoDriver = errors.New("a recording is played: no GPU driver is open")

// Release has the agent let go of the GPU driver, so that somebody else may have it alone: nothing is sampled
// until Resume. It returns when the driver is closed. It may only be called while Run runs.
func (a *Agent) Release(ctx context.Context, reason string) error {
	if a.driver == nil {
		return errNoDriver
	}
	if err := a.driver.Release(ctx, reason); err != nil {
		return fmt.Errorf("release the GPU driver: %w", err)
	}
	return nil
}

// Resume has the agent take up the driver again; false if it was not released.
func (a *Agent) Resume() bool { return a.driver != nil && a.driver.Resume() }

// Released tells why the driver is released, and since when; "" if it is not.
func (a *Agent) Released() (reason string, since time.Time) {
	if a.driver == nil {
		return "", time.Time{}
	}
	return a.driver.Released()
}
