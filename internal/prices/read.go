// SPDX-License-Identifier: Apache-2.0

package prices

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// format is a kind of file that prices are read from.
type format struct {
	name, meaning string
	read          func(r io.Reader, source string, d Defaults) ([]Quote, error)
}

func formats() []format {
	return []format{
		{"csv", "with a header", ReadCSV},
		{"aws", "offer file of AmazonEC2", func(r io.Reader, source string, _ Defaults) ([]Quote, error) { return ReadAWS(r, source) }},
		{"aws-spot", "aws ec2 describe-spot-price-history", func(r io.Reader, source string, _ Defaults) ([]Quote, error) { return ReadAWSSpot(r, source) }},
		{"azure", "Retail Prices API", func(r io.Reader, source string, _ Defaults) ([]Quote, error) { return ReadAzure(r, source) }},
		{"gcp", "SKUs of the Cloud Billing Catalog", func(r io.Reader, source string, _ Defaults) ([]Quote, error) { return ReadGCP(r, source) }},
		{"oci", "price list", func(r io.Reader, source string, _ Defaults) ([]Quote, error) { return ReadOracle(r, source) }},
		{"rate-card", "own machines: what they cost to buy, to house and to run", ReadRateCard},
	}
}

// Formats says what can be read, in one line.
func Formats() string {
	all := formats()
	lines := make([]string, len(all))
	for i, f := range all {
		lines[i] = f.name + " (" + f.meaning + ")"
	}
	return strings.Join(lines, ", ")
}

// Read reads a file of the named format. Defaults are for CSV.
func Read(name string, r io.Reader, source string, d Defaults) ([]Quote, error) {
	f, err := formatNamed(name)
	if err != nil {
		return nil, err
	}
	return f.read(r, source, d)
}

func formatNamed(name string) (format, error) {
	all := formats()
	i := slices.IndexFunc(all, func(f format) bool { return f.name == name })
	if i < 0 {
		return format{}, fmt.Errorf("format %q: want one of %s", name, Formats())
	}
	return all[i], nil
}
