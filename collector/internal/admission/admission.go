// SPDX-License-Identifier: Apache-2.0

// Package admission tells whose rows senders may send: what a client certificate says of its holder, what certificate and
// token say together, and what a collector may store. Agents and other programs are admitted alike by it. It starts
// nothing and asks nobody.
package admission

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gpufleet/gpufleet/schema/wire"
)

// Admits is whose rows a collector may store. An empty list admits all.
type Admits struct {
	Residencies []string // zones; rows of no zone are not of one of them
	Tenants     []string // rows of no tenant are not of one of them
}

// Check tells why rows may not be stored.
func (a Admits) Check(s wire.Scope) error {
	if says, ok := a.Zone(s); !ok {
		return fmt.Errorf("%s, and this collector stores rows of %s alone", says, strings.Join(a.Residencies, ", "))
	}
	if says, ok := a.Tenant(s); !ok {
		return fmt.Errorf("%s, and this collector stores rows of %s alone", says, strings.Join(a.Tenants, ", "))
	}
	return nil
}

// Zone tells whether rows may be stored as far as their zone goes, and in words what it is.
func (a Admits) Zone(s wire.Scope) (says string, ok bool) {
	if len(a.Residencies) == 0 || slices.Contains(a.Residencies, s.Residency) {
		return "", true
	}
	if s.Residency == "" {
		return "no residency zone is proved", false
	}
	return "the rows are of residency zone " + s.Residency, false
}

// Tenant does the same for their tenant.
func (a Admits) Tenant(s wire.Scope) (says string, ok bool) {
	if len(a.Tenants) == 0 || slices.Contains(a.Tenants, s.Tenant) {
		return "", true
	}
	if s.Tenant == "" {
		return "no tenant is proved", false
	}
	return "the rows are of tenant " + s.Tenant, false
}

// Contradiction is what certificate and token cannot both be right about.
type Contradiction struct {
	What               string // tenant or residency
	Certified, Claimed string
}

// Error implements error.
func (c Contradiction) Error() string {
	return fmt.Sprintf("cannot be of %s %s by its certificate and %s by its token", c.What, c.Certified, c.Claimed)
}

// Join puts together what certificate and token say. An error is a Contradiction.
func Join(certified, claimed wire.Scope) (joined wire.Scope, err error) {
	if joined.Tenant, err = agree("tenant", certified.Tenant, claimed.Tenant); err != nil {
		return wire.Scope{}, err
	}
	if joined.Residency, err = agree("residency", certified.Residency, claimed.Residency); err != nil {
		return wire.Scope{}, err
	}
	return joined, nil
}

func agree(what, certified, claimed string) (string, error) {
	switch {
	case certified == "":
		return claimed, nil
	case claimed == "" || claimed == certified:
		return certified, nil
	default:
		return "", Contradiction{What: what, Certified: certified, Claimed: claimed}
	}
}
