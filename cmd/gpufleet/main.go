// SPDX-License-Identifier: Apache-2.0

// Command gpufleet is the operator's tool: it runs the whole pipeline on one machine, asks it
// questions, and proves what it stored.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/internal/ops"
)

// Exit codes. A command that checks something ends with exitFound when the check found something, and with
// exitNothing when there was nothing to check.
const (
	exitFailed  = 1
	exitFound   = 3
	exitNothing = 4
)

// These end a command that checks something; what it found is on standard output already.
var (
	errFound   = errors.New("the check found something")
	errNothing = errors.New("there was nothing to check")
)

func main() {
	embedded.RunIfChild()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newRoot().ExecuteContext(ctx)
	stop()
	switch {
	case err == nil:
	case errors.Is(err, errFound):
		os.Exit(exitFound)
	case errors.Is(err, errNothing):
		os.Exit(exitNothing)
	default:
		fmt.Fprintln(os.Stderr, "gpufleet:", err)
		os.Exit(exitFailed)
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "gpufleet",
		Short: "GPU fleets across clouds: run the pipeline, ask it questions, prove what it stored",
		Long: "gpufleet is the operator's tool. `gpufleet up` runs the whole pipeline on this machine;\n" +
			"the other commands ask that pipeline, or a ClickHouse by its address.\n\n" +
			"Exit codes: 0 done, 1 not done (the reason is on standard error), 3 a check found something,\n" +
			"4 there was nothing to check.",
		Version:       ops.Version(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newUp(), newTop(), newQuery(), newAudit(), newRollups(), newAccount(), newDoctor(), newQuarantine(), newSchema(), newPrices(), newBills(), newToken(), newReaders(), newXID(), newBurst())
	foldHelp(root)
	return root
}
