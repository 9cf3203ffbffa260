// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gpufleet/gpufleet/internal/token"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func newToken() *cobra.Command {
	var keyFile, newFile string
	c := &cobra.Command{
		Use:   "token NODE | source:SOURCE",
		Short: "Make the token by which a node's agent proves who it is, or a fleet key",
		Long: "token prints the token of a node under a fleet key: it is worth nothing for another node. That of source:NAME is\n" +
			"for another program that pushes, as NAME (docs/neighbours.md). With --new it\n" +
			"makes a key file instead, which only its owner can read; collectors need it, agents never.",
		Example: "  gpufleet token --new fleet.key\n  gpufleet token node-17 --fleet-key fleet.key > node-17.token",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case newFile != "" && (len(args) > 0 || keyFile != ""):
				return errors.New("--new makes a key and nothing else")
			case newFile != "":
				return token.WriteKey(newFile, token.NewKey())
			case len(args) == 0 || keyFile == "":
				return errors.New("give a node and --fleet-key, or --new")
			}
			if err := wire.CheckNodeName(args[0]); err != nil {
				return err
			}
			keys, err := token.ReadKeys(keyFile)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), keys[0].For(args[0]))
			return err
		},
	}
	c.Flags().StringVar(&keyFile, "fleet-key", "", "file of the fleet key; the first key in it counts")
	c.Flags().StringVar(&newFile, "new", "", "make this key file; one that exists is not touched")
	return c
}
