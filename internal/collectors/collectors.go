// SPDX-License-Identifier: Apache-2.0

// Package collectors reads how collectors are named: by agents, and by who looks at them from outside. It promises that what
// it takes has a host and a port, and names no address twice. It looks nothing up, and has no goroutine.
package collectors

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

// byName marks an address of which the name stands for several collectors.
const byName = "dns:"

// Address is one that is given for collectors: host:port, or dns:name:port, where each address that the name has is a
// collector's.
type Address struct {
	Host, Port string
	Many       bool // the name stands for several
}

// String implements fmt.Stringer.
func (a Address) String() string {
	if a.Many {
		return byName + net.JoinHostPort(a.Host, a.Port)
	}
	return net.JoinHostPort(a.Host, a.Port)
}

// Parse reads addresses that commas part.
func Parse(text string) (addresses []Address, err error) {
	var problems []error
	for one := range strings.SplitSeq(text, ",") {
		one = strings.TrimSpace(one)
		rest, many := strings.CutPrefix(one, byName)
		host, port, err := net.SplitHostPort(rest)
		if err == nil && (host == "" || port == "") {
			err = errors.New("want host:port")
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("collector address %q: %w", one, err))
			continue
		}
		a := Address{Host: host, Port: port, Many: many}
		if slices.Contains(addresses, a) {
			problems = append(problems, fmt.Errorf("collector address %q is given twice", one))
		}
		addresses = append(addresses, a)
	}
	return addresses, errors.Join(problems...)
}
