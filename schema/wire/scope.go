// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"fmt"
	"regexp"
)

// Scope is whose rows a batch holds and where they may lie. The collector stamps it on every row, from what the agent
// has proved. It is never on the wire: what an agent says of it in these headers is only compared.
type Scope struct {
	Tenant    string // "" if none is proved
	Residency string // zone that the rows may not leave; "" if none is proved
}

// TenantHeader and ResidencyHeader are the gRPC headers by which an agent may say what it takes its scope for. A
// collector refuses one that says other than what it proves.
const (
	TenantHeader    = "gpufleet-tenant"
	ResidencyHeader = "gpufleet-residency"
)

// maxScopeBytes bounds both names of a scope.
const maxScopeBytes = 63

var scopeName = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$`)

// CheckScopeName tells whether a name can be that of a tenant or of a residency zone: it goes into rows, SQL, certificates
// and metrics as it is.
func CheckScopeName(name string) error {
	if len(name) > maxScopeBytes || !scopeName.MatchString(name) {
		return fmt.Errorf("name %.80q: want 1 to %d lower-case letters, digits, dots, dashes and underscores, with a letter or digit at both ends", name, maxScopeBytes)
	}
	return nil
}

// Check tells whether each name that is given can be one.
func (s Scope) Check() error {
	if s.Tenant != "" {
		if err := CheckScopeName(s.Tenant); err != nil {
			return fmt.Errorf("tenant: %w", err)
		}
	}
	if s.Residency != "" {
		if err := CheckScopeName(s.Residency); err != nil {
			return fmt.Errorf("residency zone: %w", err)
		}
	}
	return nil
}

// AppendScope appends a scope as it lies in files and tokens:
//
//	┌────────┬────────┬────────┬───────────┐
//	│ length │ tenant │ length │ residency │
//	│ u8     │        │ u8     │           │
//	└────────┴────────┴────────┴───────────┘
func AppendScope(b []byte, s Scope) []byte {
	b = append(append(b, byte(len(s.Tenant))), s.Tenant...)
	return append(append(b, byte(len(s.Residency))), s.Residency...)
}

// ParseScope reads a scope and gives what follows it. Every error is an ErrMalformed.
func ParseScope(b []byte) (s Scope, rest []byte, err error) {
	for _, name := range []*string{&s.Tenant, &s.Residency} {
		if len(b) == 0 || len(b)-1 < int(b[0]) {
			return Scope{}, nil, fmt.Errorf("scope is cut short: %w", ErrMalformed)
		}
		end := 1 + int(b[0])
		*name, b = string(b[1:end]), b[end:]
	}
	if err := s.Check(); err != nil {
		return Scope{}, nil, fmt.Errorf("%w: %w", err, ErrMalformed)
	}
	return s, b, nil
}
