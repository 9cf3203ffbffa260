// SPDX-License-Identifier: Apache-2.0

package store

import "github.com/gpufleet/gpufleet/internal/clickhouseerror"

// explain puts an error of a connection into one line that says what helps, in the words of the collector's flags.
func (e Endpoint) explain(err error) error {
	scheme := "http://"
	if e.Secure {
		scheme = "https://"
	}
	return clickhouseerror.Explain(err, clickhouseerror.Target{
		Name: scheme + e.User + "@" + e.Address + "/" + e.Database, User: e.User, Database: e.Database, Secure: e.Secure,
		Advice: clickhouseerror.Advice{
			Address:  "--clickhouse names host and port of its HTTP interface (8123, or 8443 with TLS); see that it runs",
			TLS:      "give --clickhouse-tls",
			NoTLS:    "leave --clickhouse-tls out, or let --clickhouse name its port for TLS (8443)",
			Trust:    "--clickhouse-ca names a file with the authority that it comes from; --clickhouse must be a name that is in it",
			Login:    "--clickhouse-user names the user, GPUFLEET_CLICKHOUSE_PASSWORD has the password",
			Database: "create it, or name another with --clickhouse-database",
			Rights:   "--clickhouse-user must be one that may create, alter, read and write the tables of its database",
		},
	})
}
