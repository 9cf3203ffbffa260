// SPDX-License-Identifier: Apache-2.0

// Command mask copies a recording without what names the machine that it was made on, for recordings that were made
// with --record-mask=false.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/gpufleet/gpufleet/agent/recording"
)

func main() {
	if err := mask(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mask:", err)
		os.Exit(1)
	}
}

func mask(arguments []string) error {
	var machine string
	var notes []string
	f := flag.NewFlagSet("mask", flag.ContinueOnError)
	f.StringVar(&machine, "machine", "", "what the machine was, if the recording says too much or too little")
	f.Func("note", "what else a reader must know, in place of the recording's own notes; may be repeated", func(n string) error {
		notes = append(notes, n)
		return nil
	})
	if err := f.Parse(arguments); err != nil {
		return err
	}
	if f.NArg() != 2 {
		return errors.New("usage: mask [-machine TEXT] [-note TEXT] FROM TO")
	}
	in, err := os.Open(f.Arg(0))
	if err != nil {
		return err
	}
	defer in.Close()                                                            //nolint:errcheck // it was only read
	out, err := os.OpenFile(f.Arg(1), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // it is given to others
	if err != nil {
		return err
	}
	_, err = recording.CopyMasked(out, in, func(p recording.Provenance) recording.Provenance {
		if machine != "" {
			p.Machine = machine
		}
		if len(notes) > 0 {
			p.Notes = notes
		}
		return p
	})
	return errors.Join(err, out.Close())
}
