// SPDX-License-Identifier: Apache-2.0

package inference

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/gpufleet/gpufleet/schema"
)

// Roles lists those that a server may be said to have.
func Roles() []string {
	return []string{schema.RolePrefill, schema.RoleDecode, schema.RoleBoth, schema.RoleGateway}
}

// ParseServer reads one as it is written in flags:
//
//	URL[,role=…][,model=…][,deployment=…][,team=…]
func ParseServer(text string) (Server, error) {
	address, rest, more := strings.Cut(text, ",")
	s := Server{URL: address}
	for more {
		var one string
		one, rest, more = strings.Cut(rest, ",")
		key, value, _ := strings.Cut(one, "=")
		field := map[string]*string{"role": &s.Role, "model": &s.Model, "deployment": &s.Deployment, "team": &s.Team}[key]
		if field == nil || value == "" {
			return Server{}, fmt.Errorf("%q of %q: want role=, model=, deployment= or team= with a value", one, text)
		}
		*field = value
	}
	if !strings.Contains(s.URL, "://") {
		s.URL = "http://" + s.URL
	}
	u, err := url.Parse(s.URL)
	if err != nil {
		return Server{}, fmt.Errorf("inference server %q: want http://host:port/metrics", text)
	}
	if u.Path == "" {
		u.Path = "/metrics"
	}
	s.URL = u.String()
	return s, s.problem()
}

// problem tells what cannot be honoured.
func (s Server) problem() error {
	u, err := url.Parse(s.URL)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		err = errors.New("want http://host:port/metrics")
	case u.User != nil:
		err = errors.New("a password in an address would be in every row: leave it out")
	case s.Role != "" && !slices.Contains(Roles(), s.Role):
		err = fmt.Errorf("role %q: want one of %s", s.Role, strings.Join(Roles(), ", "))
	case max(len(s.URL), len(s.Model), len(s.Deployment), len(s.Team)) > maxLabelBytes:
		err = fmt.Errorf("more than %d bytes in one of its parts", maxLabelBytes)
	default:
		return nil
	}
	return fmt.Errorf("inference server %q: %w", redacted(s.URL), err)
}

// redacted is an address without the password that it may hold.
func redacted(address string) string {
	if u, err := url.Parse(address); err == nil {
		return u.Redacted()
	}
	return "that cannot be read"
}
