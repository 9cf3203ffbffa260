// SPDX-License-Identifier: Apache-2.0

package readers

import (
	"encoding/xml"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// XML is the same for a server whose users are configured: a file for users.d, beside its users.xml. It holds the SHA-256 of
// passwords: nobody but the server should be able to read it.
func XML(database string, readers ...Reader) ([]byte, error) {
	var profiles, quotas, users []node
	for _, r := range readers {
		if err := r.Validate(); err != nil {
			return nil, err
		}
		profiles, quotas, users = append(profiles, r.profileXML()), append(quotas, r.quotaXML()), append(users, r.userXML(database))
	}
	root := element("clickhouse", element("profiles", profiles...), element("quotas", quotas...), element("users", users...))
	text, err := xml.MarshalIndent(root, "", "    ")
	if err != nil {
		return nil, fmt.Errorf("write readers: %w", err)
	}
	head := xml.Header + "<!-- Made by `gpufleet readers`: make it anew after an upgrade, which may bring tables. -->\n"
	return append([]byte(head), append(text, '\n')...), nil
}

// node is an XML element.
type node struct {
	XMLName  xml.Name
	Text     string `xml:",chardata"`
	Children []node
}

func element(name string, children ...node) node {
	return node{XMLName: xml.Name{Local: name}, Children: children}
}

func leaf(name, text string) node { return node{XMLName: xml.Name{Local: name}, Text: text} }

func (r Reader) profileXML() node {
	var values, constraints []node
	for _, s := range r.settings() {
		if s.value != "" {
			values = append(values, leaf(s.name, s.value))
		}
		rule := []node{element("const")}
		switch {
		case s.max != "":
			rule = []node{leaf("min", s.min), leaf("max", s.max), element("changeable_in_readonly")}
		case s.free:
			rule = []node{element("changeable_in_readonly")}
		}
		constraints = append(constraints, element(s.name, rule...))
	}
	return element(prefix+r.Name, append(values, element("constraints", constraints...))...)
}

func (r Reader) quotaXML() node {
	interval := func(d time.Duration, limits ...node) node {
		return element("interval", append([]node{leaf("duration", strconv.FormatInt(int64(d/time.Second), 10))}, limits...)...)
	}
	return element(prefix+r.Name,
		interval(time.Minute, leaf("queries", strconv.FormatInt(r.Limits.QueriesPerMinute, 10))),
		interval(time.Hour, leaf("read_rows", strconv.FormatInt(r.Limits.ReadRowsPerHour, 10)), leaf("execution_time", strconv.FormatInt(int64(r.Limits.ExecutionTimePerHour/time.Second), 10))))
}

func (r Reader) userXML(database string) node {
	networks := r.Networks
	if len(networks) == 0 {
		networks = []string{"::/0"}
	}
	var from, grants []node
	for _, n := range networks {
		from = append(from, leaf("ip", n))
	}
	for _, g := range r.grants(database) {
		grants = append(grants, leaf("query", "GRANT "+g))
	}
	user := []node{
		leaf("password_sha256_hex", r.PasswordSHA256), element("networks", from...),
		leaf("profile", prefix+r.Name), leaf("quota", prefix+r.Name), leaf("default_database", database), element("grants", grants...),
	}
	if filter := r.filter(); filter != "" {
		var tables []node
		for _, t := range scopedTables() {
			tables = append(tables, element(t, leaf("filter", filter)))
		}
		of := map[string][]node{}
		for _, c := range closed() {
			of[c.database] = append(of[c.database], element(c.table, leaf("filter", c.filter)))
		}
		var filters []node
		for _, name := range r.databases(database) {
			filters = append(filters, element(name, tables...))
		}
		for _, name := range slices.Sorted(maps.Keys(of)) {
			filters = append(filters, element(name, of[name]...))
		}
		user = append(user, element("databases", filters...))
	}
	return element(r.Name, user...)
}

// String keeps from what is printed what the password could be guessed from.
func (r Reader) String() string {
	return fmt.Sprintf("%s (tenants %s, zones %s)", r.Name, orAll(r.Tenants), orAll(r.Residencies))
}

// GoString is String.
func (r Reader) GoString() string { return r.String() }

func orAll(names []string) string {
	if len(names) == 0 {
		return "all"
	}
	return strings.Join(names, ", ")
}
