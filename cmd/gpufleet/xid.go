// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/gpufleet/gpufleet/internal/catalog"
	"github.com/gpufleet/gpufleet/schema/xid"
)

func newXID() *cobra.Command {
	var driver, overrides, line string
	var asJSON bool
	c := &cobra.Command{
		Use:   "xid [CODE]",
		Short: "Look up what an XID or SXID means and what to do, or list all",
		Long: "xid explains a fault code of NVIDIA's drivers: an XID of a GPU, or (from 10000 on) an SXID of an NVSwitch.\n" +
			"It asks nobody: the catalogue is in the program. With --line it reads a line of the kernel log, and decodes\n" +
			"the words of XIDs 144 to 150. With --overrides it also checks that file.",
		Example: "  gpufleet xid 79 --driver 580.95.05\n  gpufleet xid 20034\n  gpufleet xid --json | jq 'select(.severity == \"critical\").code'\n" +
			"  gpufleet xid --line 'NVRM: Xid (PCI:0008:01:00): 149, NETIR_LINK_EVT Fatal XC0 i0 Link 01 (0x021425c6 0x00000000)'",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			branch, rules, err := xidSettings(driver, overrides)
			if err != nil {
				return err
			}
			if len(args) == 0 && line == "" {
				if asJSON {
					return catalog.WriteXIDsJSON(c.OutOrStdout(), rules.All(branch))
				}
				return writeProse(c, func(w io.Writer) error { return catalog.WriteXIDs(w, rules.All(branch)) })
			}
			verdict, err := xidVerdict(args, line, rules, branch)
			if err != nil {
				return err
			}
			if asJSON {
				return catalog.WriteXIDJSON(c.OutOrStdout(), verdict)
			}
			return writeProse(c, func(w io.Writer) error { return catalog.WriteXID(w, verdict, branch) })
		},
	}
	f := c.Flags()
	f.StringVar(&driver, "driver", "", "version or branch of the driver, such as 580.95.05; some answers depend on it")
	f.StringVar(&overrides, "overrides", "", "YAML file with the operator's own severities and actions")
	f.StringVar(&line, "line", "", "a line of the kernel log, instead of a code")
	f.BoolVar(&asJSON, "json", false, "print a line of JSON for each code")
	return c
}

// xidSettings reads what a lookup depends on.
func xidSettings(driver, overrides string) (branch xid.Branch, rules *xid.Overrides, err error) {
	rules = &xid.Overrides{}
	if driver != "" {
		if branch, err = xid.ParseBranch(driver); err != nil {
			return 0, nil, fmt.Errorf("--driver: %w", err)
		}
	}
	if overrides != "" {
		if err := rules.Load(overrides); err != nil {
			return 0, nil, err
		}
	}
	return branch, rules, nil
}

// driverPrefix finds the place where a pasted line begins: time stamps and host names may stand before.
var driverPrefix = regexp.MustCompile(`NVRM: Xid |nvidia-nvswitch[0-9]+: SXid `)

func xidVerdict(args []string, line string, rules *xid.Overrides, branch xid.Branch) (xid.Verdict, error) {
	if line != "" {
		if len(args) > 0 {
			return xid.Verdict{}, errors.New("a code and --line are given: the line has its code")
		}
		if at := driverPrefix.FindStringIndex(line); at != nil {
			line = line[at[0]:]
		}
		parsed, ok := xid.ParseLine(line)
		if !ok {
			return xid.Verdict{}, errors.New("--line: want a line with `NVRM: Xid (PCI:…): CODE, …` or `nvidia-nvswitchN: SXid (PCI:…): CODE, …`")
		}
		return parsed.Lookup(rules, branch), nil
	}
	code, err := strconv.ParseUint(args[0], 10, 32)
	if err != nil || code == 0 {
		return xid.Verdict{}, fmt.Errorf("%q is no code: want a number, such as 79; `gpufleet xid` lists them", args[0])
	}
	if code >= xid.FirstSwitchCode {
		return xid.Verdict{Entry: rules.LookupSwitch(uint32(code), nil)}, nil
	}
	return xid.Verdict{Entry: rules.Lookup(uint32(code), branch)}, nil
}
