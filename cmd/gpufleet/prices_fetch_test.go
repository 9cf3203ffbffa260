// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// TestPricesFetch: what a provider answers is stored once, and stays in use when it answers no more.
func TestPricesFetch(t *testing.T) {
	var down atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"7"`)
		switch {
		case down.Load():
			http.Error(w, "out of order", http.StatusNotFound)
		case r.Header.Get("If-None-Match") == `"7"`:
			w.WriteHeader(http.StatusNotModified)
		default:
			_, _ = io.WriteString(w, `{"items":[{"partNumber":"B98415","metricName":"GPU Per Hour","currencyCodeLocalizations":[{"currencyCode":"USD","prices":[{"model":"PAY_AS_YOU_GO","value":10}]}]}]}`)
		}
	}))
	defer server.Close()
	db, address := database(t)
	fetch := []string{"prices", "fetch", "oci", "--base", server.URL, "--clickhouse"}
	t.Setenv(passwordEnv, db.Writer.Password)
	writer := fmt.Sprintf("http://%s@%s/%s", db.Writer.User, db.Writer.HTTPAddress(), db.Name)
	source := server.URL + "/pls/apex/cetools/api/v1/products/"
	gpufleet(t, "", "prices", "fetch", "oci", "--base", server.URL, "--dry-run").want(t, 0, source+": 1 prices usable (not stored: a dry run)", "")
	gpufleet(t, "", append(fetch, writer)...).want(t, 0, source+": 1 prices usable (1 new, 0 known), 0 in quarantine", "")
	gpufleet(t, "", append(fetch, writer)...).want(t, 0, source+": not modified since 20", "")
	down.Store(true)
	o := gpufleet(t, "", append(fetch, writer)...)
	o.want(t, exitFailed, "404 Not Found", "1 of 1 feeds could not be read: their prices of before stay in use")
	if !strings.Contains(o.stdout, "out of order") || !strings.Contains(o.stdout, "stay in use: they are 0s old") {
		t.Errorf("said %s", o.stdout)
	}
	t.Setenv(passwordEnv, db.Reader.Password)
	gpufleet(t, "", "prices", "feeds", "--clickhouse", address, "--format", "CSV").want(t, 0, `"failed",1,0,"fetch prices from `, "")
	gpufleet(t, "", "prices", "list", "--clickhouse", address, "--format", "CSV").want(t, 0, `"BM.GPU.H100.8"`, "")
}

func TestPricesFetchErrors(t *testing.T) {
	for want, args := range map[string][]string{
		"say whom to ask":      nil,
		"say which regions":    {"aws"},
		"want aws, azure, gcp": {"acme"},
		"wants an API key":     {"gcp"},
		"want an address":      {"--url", "x.csv", "--dry-run"},
		"every bound is above": {"oci", "--idle-timeout", "0s"},
		"want one of csv":      {"--url", "http://127.0.0.1:1/x", "--format", "xml", "--dry-run"},
	} {
		o := gpufleet(t, "", append([]string{"prices", "fetch"}, args...)...)
		if o.code != exitFailed || !strings.Contains(o.stdout+o.stderr, want) {
			t.Errorf("%v: %+v, want %q", args, o, want)
		}
	}
}
