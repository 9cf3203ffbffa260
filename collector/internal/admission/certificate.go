// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gpufleet/gpufleet/schema/wire"
)

// Certificate is what a client certificate says of its holder.
type Certificate struct {
	Names []string // of nodes or sources that it is for
	Scope wire.Scope
}

// ParseCertificate reads it. The node is named by a SPIFFE ID, else by any of the DNS names and the common name. Tenant and
// residency stand in the SPIFFE ID, or in organisational units as tenant=… and residency=…; a certificate that says two
// different ones is refused.
func ParseCertificate(c *x509.Certificate) (Certificate, error) {
	id := Certificate{Names: c.DNSNames}
	if c.Subject.CommonName != "" {
		id.Names = append(append([]string(nil), id.Names...), c.Subject.CommonName)
	}
	found := false
	for _, u := range c.URIs {
		if u.Scheme != "spiffe" {
			continue
		}
		if found {
			return Certificate{}, errors.New("it has two SPIFFE IDs, and may have one")
		}
		found = true
		node, scope, err := parseSPIFFE(u.EscapedPath())
		if err != nil {
			return Certificate{}, fmt.Errorf("SPIFFE ID %.300q: %w", u.String(), err)
		}
		id.Scope = scope
		if node != "" {
			id.Names = []string{node}
		}
	}
	for _, unit := range c.Subject.OrganizationalUnit {
		if err := id.unit(unit); err != nil {
			return Certificate{}, err
		}
	}
	return id, id.Scope.Check()
}

// spiffeKeys are the words before what parseSPIFFE reads.
var spiffeKeys = []string{"node", "tenant", "residency"}

// parseSPIFFE reads the path of a SPIFFE ID: /tenant/acme/residency/eu/node/node-17, any of the three in any order. What
// it does not know it passes over in pairs, as /ns/default/sa/agent. Refused is what SPIFFE forbids, for it could hide a
// name from this and not from another reader, and one of the three words where no word is looked for, as in
// /prod/tenant/acme: nobody wrote it to be passed over.
func parseSPIFFE(path string) (node string, scope wire.Scope, err error) {
	if path == "" {
		return "", wire.Scope{}, nil
	}
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	if strings.Contains(path, "%") || slices.Contains(segments, "") {
		return "", wire.Scope{}, errors.New("it has an empty part or an escape in its path, and may have none")
	}
	if err := misplaced(segments); err != nil {
		return "", wire.Scope{}, err
	}
	for ; len(segments) >= 2; segments = segments[2:] {
		var into *string
		switch segments[0] {
		case "node":
			into = &node
		case "tenant":
			into = &scope.Tenant
		case "residency":
			into = &scope.Residency
		default:
			continue
		}
		if *into != "" {
			return "", wire.Scope{}, fmt.Errorf("it names two of %s", segments[0])
		}
		*into = segments[1]
	}
	if node != "" {
		if err := wire.CheckNodeName(node); err != nil {
			return "", wire.Scope{}, err
		}
	}
	return node, scope, scope.Check()
}

// misplaced tells of one of our words that stands where a value does, or without one.
func misplaced(segments []string) error {
	for i, segment := range segments {
		if slices.Contains(spiffeKeys, segment) && (i%2 == 1 || i == len(segments)-1) {
			return fmt.Errorf("%s stands where a value does, or without one: want pairs, such as /tenant/acme/node/node-17", segment)
		}
	}
	return nil
}

// unit reads an organisational unit.
func (id *Certificate) unit(text string) error {
	for name, into := range map[string]*string{"tenant=": &id.Scope.Tenant, "residency=": &id.Scope.Residency} {
		value, ok := strings.CutPrefix(text, name)
		if !ok {
			continue
		}
		if *into != "" && *into != value {
			return fmt.Errorf("it says %s%.80s and %[1]s%.80s", name, *into, value)
		}
		*into = value
	}
	return nil
}
