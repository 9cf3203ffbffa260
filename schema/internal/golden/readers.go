// SPDX-License-Identifier: Apache-2.0

package golden

import (
	"fmt"
	"strings"

	"github.com/gpufleet/gpufleet/schema/readers"
)

// readersFiles are the statements for a reader of one tenant, the same on a cluster, one of a zone, and one of all. Nobody knows a password of
// that hash.
func readersFiles() (map[string][]byte, error) {
	files := map[string][]byte{}
	for name, r := range map[string]readers.Reader{
		"tenant":  {Name: "grafana_acme", Tenants: []string{"acme"}},
		"cluster": {Name: "grafana_acme", Tenants: []string{"acme"}, Cluster: true},
		"zone":    {Name: "grafana_eu", Residencies: []string{"eu"}},
		"all":     {Name: "grafana"},
	} {
		r.PasswordSHA256, r.Limits = strings.Repeat("0", 64), readers.DefaultLimits()
		sql, err := r.SQL("gpufleet")
		if err != nil {
			return nil, fmt.Errorf("statements of a reader: %w", err)
		}
		text, err := readers.XML("gpufleet", r)
		if err != nil {
			return nil, fmt.Errorf("configuration of a reader: %w", err)
		}
		files["deploy/clickhouse/readers/"+name+".sql"] = []byte(strings.Join(sql, ";\n") + ";\n")
		files["deploy/clickhouse/readers/"+name+".xml"] = text
	}
	return files, nil
}
