// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gpufleet/gpufleet/internal/clickhouseclient"
)

func TestTopOfNothing(t *testing.T) {
	gpufleet(t, "", "top", "--once", "--metrics", "127.0.0.1:1").want(t, exitFailed, "wrong  collector 127.0.0.1:1 is not reached: ", "nothing answered: name the collectors with --metrics")
	gpufleet(t, "", "top", "--once", "--metrics", "ftp://c").want(t, exitFailed, "", `metrics "ftp://c": want host:4491`)
	gpufleet(t, "", "top", "--interval", "1ms").want(t, exitFailed, "", "an interval of 1ms")
	gpufleet(t, "", "top", "--tls-ca", "/nowhere").want(t, exitFailed, "", "/nowhere")
}

func TestTopOfAStoreAlone(t *testing.T) {
	_, address := database(t)
	gpufleet(t, "", "top", "--metrics", "127.0.0.1:1", "--clickhouse", address).want(t, exitFound, "wrong  no GPU gives rows\n", "")
	gpufleet(t, "", "top", "--json", "--metrics", "127.0.0.1:1", "--clickhouse", address).want(t, exitFound, `"wrong":["collector 127.0.0.1:1 is not reached: `, "")
}

// TestMetricsAddresses: what is given, what runs here, or the usual one.
func TestMetricsAddresses(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "collector-metrics"), []byte("127.0.0.1:7\n127.0.0.1:8\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	here := clickhouseclient.Place{DataDir: dir}
	for name, c := range map[string]struct {
		given  []string
		place  clickhouseclient.Place
		secure bool
		want   []string
	}{
		"given":              {[]string{"a", "https://b:1"}, here, true, []string{"https://a:4491/metrics", "https://b:1/metrics"}},
		"runs here":          {nil, here, false, []string{"http://127.0.0.1:7/metrics", "http://127.0.0.1:8/metrics"}},
		"none runs":          {nil, clickhouseclient.Place{DataDir: t.TempDir()}, false, []string{"http://127.0.0.1:4491/metrics"}},
		"another ClickHouse": {nil, clickhouseclient.Place{DataDir: dir, URL: "http://ch"}, false, []string{"http://127.0.0.1:4491/metrics"}},
	} {
		got, err := metricsAddresses(c.given, c.place, c.secure)
		if err != nil || cmp.Diff(c.want, got) != "" {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}
