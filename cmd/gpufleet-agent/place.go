// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/gpufleet/gpufleet/agent"
)

// placeOptions is what the flags say of asking where the node is.
type placeOptions struct {
	ask  string // auto or off
	file string // where the operator wrote it down; "" nowhere
}

func placeFlags(c *cobra.Command, n *agent.Node, o *placeOptions) {
	f := c.Flags()
	f.StringVar(&n.Name, "node", n.Name, "name of this node, unique in the fleet")
	f.StringVar(&o.ask, "place", "auto", "auto: ask the cloud's metadata service and the cluster where this node is, and for notices; off: ask nobody")
	f.StringVar(&o.file, "place-file", "", "file that says where this node is, a line for each field = value; these flags win over it, and it over what is found")
	f.StringVar(&n.Provider, "provider", "", "cloud that it runs in: aws, azure, gcp, oci, …")
	f.StringVar(&n.Region, "region", "", "region of the cloud")
	f.StringVar(&n.ZoneID, "zone-id", "", "zone id, such as use1-az4")
	f.StringVar(&n.InstanceType, "instance-type", "", "instance type or shape")
	f.StringVar(&n.InstanceID, "instance-id", "", "instance id at the provider")
	f.StringVar(&n.LifeCycle, "life-cycle", "", "on_demand, spot, reserved, capacity_block or owned")
	f.StringVar(&n.Cluster, "cluster", "", "cluster that schedules onto this node")
	f.StringVar(&n.Rack, "rack", "", "rack")
}

// config is whom to ask, and whether to.
func (o placeOptions) config() (find bool, cfg agent.PlaceConfig, err error) {
	switch o.ask {
	case "auto":
		find = true
	case "off":
	default:
		return false, cfg, fmt.Errorf("--place %q: want auto or off", o.ask)
	}
	cfg.Kubernetes = agent.InCluster(os.Getenv)
	if o.file != "" {
		cfg.Known, err = agent.ReadPlace(o.file)
	}
	return find, cfg, err
}

func newPlaceCommand() *cobra.Command {
	var o placeOptions
	var n agent.Node
	var asJSON bool
	c := &cobra.Command{
		Use:   "place",
		Short: "Say where this node is, who told so, and why others did not",
		Long: "place asks what an agent asks at its start: the firmware, the cloud's metadata service, and the node's object\n" +
			"in Kubernetes. It takes at most a second, and sends nothing to a collector.",
		Example: "  gpufleet-agent place\n  gpufleet-agent place --place-file /etc/gpufleet/place --json",
		Args:    cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(c *cobra.Command, _ []string) error {
			find, cfg, err := o.config()
			if err != nil {
				return err
			}
			if !find {
				return errors.New("--place off: there is nothing to ask")
			}
			p, reasons := agent.FindPlace(c.Context(), n, cfg)
			if err := p.CheckLifeCycle(); err != nil {
				return err
			}
			if asJSON {
				return writePlaceJSON(c.OutOrStdout(), p, reasons)
			}
			return writePlace(c.OutOrStdout(), p, reasons)
		},
	}
	placeFlags(c, &n, &o)
	c.Flags().BoolVar(&asJSON, "json", false, "print one line of JSON")
	return c
}

func writePlaceJSON(w io.Writer, p agent.Place, reasons []agent.PlaceReason) error {
	return json.NewEncoder(w).Encode(struct {
		Facts      map[string]string   `json:"facts"`      // by column of node_inventory
		Attributes map[string]string   `json:"attributes"` // by OpenTelemetry's names
		Sources    map[string]string   `json:"sources"`
		Reasons    []agent.PlaceReason `json:"reasons"`
	}{p.Facts(), p.Attributes(), p.Sources, append([]agent.PlaceReason{}, reasons...)})
}

// writePlace prints what is known as a table, then what is not, and why.
func writePlace(out io.Writer, p agent.Place, reasons []agent.PlaceReason) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FIELD\tVALUE\tFROM\tOPENTELEMETRY")
	var unknown []string
	for _, f := range agent.PlaceFields() {
		value := f.Of(p)
		if value == "" {
			unknown = append(unknown, f.Name)
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.Name, value, p.Sources[f.Name], f.OTel)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print where this node is: %w", err)
	}
	if len(unknown) > 0 {
		fmt.Fprintf(out, "\nNot known: %s.\n", strings.Join(unknown, ", "))
	}
	if len(reasons) > 0 {
		fmt.Fprintln(out, "\nNot told, because:")
	}
	for _, r := range reasons {
		fmt.Fprintf(out, "  %s: %s\n", r.Probe, r.Text)
	}
	return nil
}
