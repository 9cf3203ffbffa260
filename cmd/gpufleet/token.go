// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gpufleet/gpufleet/internal/token"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func newToken() *cobra.Command {
	var keyFile, newFile, idFile string
	var since moment
	var expires time.Duration
	var claims token.Claims
	c := &cobra.Command{
		Use:   "token NODE | source:SOURCE",
		Short: "Make the token by which a node's agent proves who it is, or a fleet key",
		Long: "token prints the token of a node under a fleet key: it is worth nothing for another node. That of source:NAME is\n" +
			"for another program that pushes, as NAME (docs/neighbours.md). --tenant and --residency are signed into it:\n" +
			"collectors stamp them on every row of the node or source. With --new it makes a key file instead, which only\n" +
			"its owner can read; collectors need it, agents never. With --id it tells the id of the token in a file, by which\n" +
			"collectors revoke it (--tokens-revoked); that of a new token is told on standard error.",
		Example: "  gpufleet token --new fleet.key\n  gpufleet token node-17 --fleet-key fleet.key > node-17.token\n" +
			"  gpufleet token node-17 --fleet-key fleet.key --tenant acme --residency eu --since now --expires 720h\n" +
			"  gpufleet token --id node-17.token >> tokens.revoked",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case newFile != "" && (len(args) > 0 || keyFile != ""):
				return errors.New("--new makes a key and nothing else")
			case newFile != "":
				return token.WriteKey(newFile, token.NewKey())
			case idFile != "" && (len(args) > 0 || keyFile != ""):
				return errors.New("--id tells the id of a token and nothing else")
			case idFile != "":
				return tokenID(c.OutOrStdout(), idFile)
			case len(args) == 0 || keyFile == "":
				return errors.New("give a node and --fleet-key, or --new, or --id")
			}
			made, err := newTokenOf(args[0], keyFile, claims, since, expires)
			if err != nil {
				return err
			}
			return tell(c, made)
		},
	}
	c.Flags().StringVar(&keyFile, "fleet-key", "", "file of the fleet key; the first key in it counts")
	c.Flags().StringVar(&newFile, "new", "", "make this key file; one that exists is not touched")
	c.Flags().StringVar(&idFile, "id", "", "tell the id of the token in this file")
	c.Flags().StringVar(&claims.Tenant, "tenant", "", "whose node it is")
	c.Flags().StringVar(&claims.Residency, "residency", "", "zone that its rows may not leave")
	c.Flags().Var(&since, "since", "since when it is the tenant's: now, a time in UTC, or how long ago; older rows are quarantined")
	c.Flags().DurationVar(&expires, "expires", 0, "the token is worth nothing after this time, and its streams end; 0: it never expires")
	return c
}

// newTokenOf makes the token of a node or source with what the flags claim for it.
func newTokenOf(name, keyFile string, claims token.Claims, since moment, expires time.Duration) (string, error) {
	if err := wire.CheckNodeName(name); err != nil {
		return "", err
	}
	keys, err := token.ReadKeys(keyFile)
	if err != nil {
		return "", err
	}
	now := time.Now()
	claims.Since = since.time(now)
	if claims.Expires, err = end(expires, now); err != nil {
		return "", err
	}
	return keys[0].Token(name, claims)
}

// tell prints a token, and beside it by what it is revoked.
func tell(c *cobra.Command, made string) error {
	fmt.Fprintln(c.ErrOrStderr(), "id of the token:", token.ID(made))
	_, err := fmt.Fprintln(c.OutOrStdout(), made)
	return err
}

// end reads --expires.
func end(after time.Duration, now time.Time) (time.Time, error) {
	switch {
	case after < 0:
		return time.Time{}, fmt.Errorf("--expires %s: a token that has expired already is worth nothing", after)
	case after == 0:
		return time.Time{}, nil
	default:
		return now.Add(after), nil
	}
}

// tokenID tells by what the token in a file is revoked. It need not count.
func tokenID(w io.Writer, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read token: %w", err)
	}
	made := strings.TrimSpace(string(text))
	if !token.IsOne(made) {
		return fmt.Errorf("read token: %s holds none", path)
	}
	_, err = fmt.Fprintln(w, token.ID(made))
	return err
}
