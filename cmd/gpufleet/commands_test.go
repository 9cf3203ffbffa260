// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/collector"
	"github.com/gpufleet/gpufleet/collector/quarantine"
	"github.com/gpufleet/gpufleet/internal/clickhouseclient"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/internal/token"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// mainEnv makes this test program the program that is tested.
const mainEnv = "GPUFLEET_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainEnv) != "" {
		main()
		return
	}
	clickhousetest.Main(m)
}

// outcome is what a run of the program left.
type outcome struct {
	code           int
	stdout, stderr string
}

// gpufleet runs a command as main does, in an empty directory.
func gpufleet(t *testing.T, stdin string, args ...string) outcome {
	t.Helper()
	t.Setenv(embedded.LibraryEnv, installed(t))
	t.Chdir(t.TempDir())
	var stdout strings.Builder
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&stdout)
	switch err := root.ExecuteContext(t.Context()); {
	case err == nil:
		return outcome{0, stdout.String(), ""}
	case errors.Is(err, errFound):
		return outcome{exitFound, stdout.String(), ""}
	case errors.Is(err, errNothing):
		return outcome{exitNothing, stdout.String(), ""}
	default:
		return outcome{exitFailed, stdout.String(), "gpufleet: " + err.Error() + "\n"}
	}
}

// installed is the library that tests of this checkout use: a command is run in another directory.
func installed(t *testing.T) string {
	t.Helper()
	if path := os.Getenv(embedded.LibraryEnv); path != "" {
		return path
	}
	path, _, err := embedded.Find(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Ext(path) == "" {
		return "" // a program on the PATH
	}
	return path
}

func (o outcome) want(t *testing.T, code int, stdout, stderr string) {
	t.Helper()
	if o.code != code || !strings.Contains(o.stdout, stdout) || !strings.Contains(o.stderr, stderr) || (stderr == "") != (o.stderr == "") {
		t.Errorf("exit %d, want %d\nstdout: %s\nwant: %s\nstderr: %s\nwant: %s", o.code, code, o.stdout, stdout, o.stderr, stderr)
	}
}

// database is one with the tables of this version, and its address for --clickhouse; the password is in the
// environment.
func database(t *testing.T) (db clickhousetest.Database, address string) {
	t.Helper()
	db = clickhousetest.Start(t)
	if err := schema.Migrate(t.Context(), clickhousetest.Open(t, db.Writer), db.Name, "test"); err != nil {
		t.Fatal(err)
	}
	t.Setenv(passwordEnv, db.Reader.Password)
	return db, fmt.Sprintf("http://%s@%s/%s", db.Reader.User, db.Reader.HTTPAddress(), db.Name)
}

// TestExitCodes runs the program itself.
func TestExitCodes(t *testing.T) {
	_, address := database(t)
	file := filepath.Join(t.TempDir(), "fleet.key")
	for _, tt := range []struct {
		code   int
		stderr string
		args   []string
	}{
		{0, "", []string{"token", "--new", file}},
		{exitFailed, "gpufleet: write fleet key: open " + file + ": file exists\n", []string{"token", "--new", file}},
		{exitFound, "", []string{"doctor", "--collector", "127.0.0.1:1", "--clickhouse", address}},
		{exitNothing, "", []string{"audit", "--clickhouse", address}},
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], tt.args...)
		cmd.Env = append(os.Environ(), mainEnv+"=1")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		var exit *exec.ExitError
		if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if code := cmd.ProcessState.ExitCode(); code != tt.code || stderr.String() != tt.stderr {
			t.Errorf("%q: exit %d, want %d: %s", tt.args, code, tt.code, stderr.String())
		}
	}
}

func TestHelp(t *testing.T) {
	for _, c := range newRoot().Commands() {
		if c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		o := gpufleet(t, "", c.Name(), "--help")
		o.want(t, 0, "Examples:\n  gpufleet "+c.Name(), "")
		if c.Short == "" || c.Long == "" {
			t.Errorf("%s does not say what it does", c.Name())
		}
		gpufleet(t, "", c.Name(), "--nonsense").want(t, exitFailed, "", "unknown flag")
	}
}

func TestQuery(t *testing.T) {
	db, address := database(t)
	clickhousetest.Exec(t, db.Writer, "INSERT INTO gpu_samples (ts, gpu_id) SELECT now64(3), number FROM numbers(3)")
	const count = "SELECT count() AS n FROM gpu_samples"
	gpufleet(t, "", "query", count, "--clickhouse", address).want(t, 0, "n\n3\n", "")
	gpufleet(t, count+";\n", "query", "-", "--clickhouse", address, "--format", "JSONEachRow").want(t, 0, `{"n":3}`, "")
	gpufleet(t, "", "query", count+" FORMAT CSV;", "--clickhouse", address).want(t, 0, "3\n", "")
	gpufleet(t, "", "query", count+" FORMAT CSV", "--format", "TSV", "--clickhouse", address).want(t, exitFailed, "", "given twice")
	gpufleet(t, "", "query", "SELEC 1", "--clickhouse", address).want(t, exitFailed, "", "gpufleet: syntax error at line 1, column 1, at \"SELEC\"\n")
	gpufleet(t, "", "query", "SELECT * FROM gpu_sample", "--clickhouse", address).want(t, exitFailed, "", "`gpufleet schema`")
	gpufleet(t, "", "query", "DROP TABLE gpu_samples", "--clickhouse", address).want(t, exitFailed, "", "only reads")
	gpufleet(t, "", "query", "SELECT 1", "--clickhouse", "db").want(t, exitFailed, "", "http://user@host")
	gpufleet(t, "", "query", "SELECT 1").want(t, exitFailed, "", "no pipeline has run in .data: run `gpufleet up`")
	gpufleet(t, "", "query").want(t, exitFailed, "", "0 arguments: give one query")
}

// TestQueryData asks the ClickHouse of a data directory, first running, then not.
func TestQueryData(t *testing.T) {
	dir := t.TempDir()
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: clickhouseclient.EmbeddedDir(dir), MemoryLimitBytes: 1 << 30, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	clickhousetest.Exec(t, server.Writer(), "CREATE TABLE t ENGINE = MergeTree ORDER BY a AS SELECT 7 AS a")
	gpufleet(t, "", "query", "SELECT a FROM t", "--data", dir).want(t, 0, "a\n7\n", "")
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	gpufleet(t, "", "query", "SELECT a FROM t", "--data", dir).want(t, 0, "a\n7\n", "")
	if _, _, err := embedded.Attach(t.Context(), clickhouseclient.EmbeddedDir(dir)); err == nil {
		t.Error("the ClickHouse of the query still runs")
	}
}

// TestClickHouseOutOfReach: whatever asks a ClickHouse says in one line where, as whom, what came of it, and what helps.
func TestClickHouseOutOfReach(t *testing.T) {
	_, address := database(t)
	t.Setenv(passwordEnv, "wrong")
	commands := [][]string{{"query", "SELECT 1"}, {"audit"}, {"schema", "--check"}}
	for _, tt := range []struct{ address, want string }{
		{"http://anna@127.0.0.1:1/fleet", "ask ClickHouse http://anna@127.0.0.1:1/fleet: nothing listens there (connection refused): check host and port"},
		{address, "ask ClickHouse " + address + ": it refuses the user gpufleet_reader or the password: the user stands in the address, the password in GPUFLEET_CLICKHOUSE_PASSWORD\n"},
		{strings.Replace(address, "http:", "https:", 1), ": TLS is not spoken there: name it as http://, or"},
	} {
		for _, command := range commands {
			o := gpufleet(t, "", append(command, "--clickhouse", tt.address)...)
			o.want(t, exitFailed, "", tt.want)
			if strings.Count(o.stderr, "\n") != 1 || !strings.HasPrefix(o.stderr, "gpufleet: ask ClickHouse ") {
				t.Errorf("%q: %s", command, o.stderr)
			}
		}
		gpufleet(t, "", "doctor", "--clickhouse", tt.address).want(t, exitFound, "fail  clickhouse  ", "")
	}
	o := gpufleet(t, "", "up", "--data", t.TempDir(), "--clickhouse", "http://anna@127.0.0.1:1/fleet")
	o.want(t, exitFailed, "", "gpufleet: ask ClickHouse http://anna@127.0.0.1:1/fleet: nothing listens there")
}

func TestAudit(t *testing.T) {
	db, address := database(t)
	gpufleet(t, "", "audit", "--clickhouse", address).want(t, exitNothing, "nothing to audit yet: ", "")
	epoch := time.Now().Add(-time.Hour).UnixMilli()
	clickhousetest.Exec(t, db.Writer, fmt.Sprintf(`INSERT INTO ingest_ledger (recorded_at, table_name, node_id, epoch, seq, rows, state)
SELECT now64(3) - 600, 'gpu_samples', 7, %d, number, 1, 'quarantined' FROM numbers(2, 3)`, epoch))
	gpufleet(t, "", "audit", "--clickhouse", address).want(t, exitFound, "gap: 0000000000000007 gpu_samples: batch 1 of", "")
	o := gpufleet(t, "", "audit", "--clickhouse", address, "--json")
	var report struct {
		Lost, Duplicated, Quarantined int
		Gaps                          []struct{ From, To int }
	}
	if err := json.Unmarshal([]byte(o.stdout), &report); err != nil || o.code != exitFound || report.Lost != 1 || report.Quarantined != 3 || len(report.Gaps) != 1 {
		t.Errorf("exit %d: %s: %v", o.code, o.stdout, err)
	}
	gpufleet(t, "", "audit", "--clickhouse", address, "--since", "5m", "--all").want(t, exitNothing, "the newest entry of the ledger is of ", "")
	gpufleet(t, "", "audit", "--clickhouse", address, "--since", "5m", "--json").want(t, exitNothing, `{"verdict":"nothing","lost":0,`, "")
	gpufleet(t, "", "audit", "--clickhouse", address, "--by", "hour").want(t, exitFound, ": 0000000000000007 gpu_samples: batch 1 of", "")
	gpufleet(t, "", "audit", "--clickhouse", address, "--by", "node", "--json").want(t, exitFound, `{"verdict":"found","by":"node","lost":1,`, "")
	gpufleet(t, "", "audit", "--clickhouse", address, "--by", "node", "--node", "anna").want(t, exitNothing, "nothing to audit: ", "")
	gpufleet(t, "", "audit", "--clickhouse", address, "--by", "day").want(t, exitFailed, "", "--by day: hour or node")
	gpufleet(t, "", "audit", "--clickhouse", address, "--since", "1h", "--until", "2h").want(t, exitFailed, "", "--since 1h0m0s is not before --until 2h0m0s")
	gpufleet(t, "", "audit", "--clickhouse", address, "--since", "-5m").want(t, exitFailed, "", "--since")
	clickhousetest.Exec(t, db.Writer, "DROP TABLE gpu_samples")
	gpufleet(t, "", "audit", "--clickhouse", address).want(t, exitFailed, "", "no table gpu_samples")
}

func TestDoctor(t *testing.T) {
	_, address := database(t)
	o := gpufleet(t, "", "doctor", "--json", "--clickhouse", address)
	var report struct {
		OK, Fail int
		Checks   []struct{ Check, Level string }
	}
	if err := json.Unmarshal([]byte(o.stdout), &report); err != nil || report.OK < 3 || (report.Fail > 0) != (o.code == exitFound) || o.stderr != "" {
		t.Errorf("exit %d: %s: %v", o.code, o.stdout, err)
	}
	gpufleet(t, "", "doctor", "--collector", "127.0.0.1:1", "--clickhouse", address).want(t, exitFound, "fail  collector ", "")
	gpufleet(t, "", "doctor", "--tls-ca", "none.pem").want(t, exitFailed, "", "none.pem")
}

func TestSchema(t *testing.T) {
	db, address := database(t)
	gpufleet(t, "", "schema").want(t, 0, "ingest_ledger ", "")
	gpufleet(t, "", "schema", "gpu_events").want(t, 0, "xid ", "")
	gpufleet(t, "", "schema", "fleet_now", "--format", "md").want(t, 0, "| column | type |", "")
	gpufleet(t, "", "schema", "--format", "sql", "--database", "other").want(t, 0, "CREATE TABLE IF NOT EXISTS `other`.`gpu_samples`", "")
	gpufleet(t, "", "schema", "samples").want(t, exitFailed, "", "is it gpu_samples")
	gpufleet(t, "", "schema", "--format", "xml").want(t, exitFailed, "", "table, sql or md")
	gpufleet(t, "", "schema", "gpu_events", "--check").want(t, exitFailed, "", "whole database")
	gpufleet(t, "", "schema", "--check", "--clickhouse", address).want(t, 0, fmt.Sprintf("agrees with schema version %d\n", schema.Version), "")
	clickhousetest.Exec(t, db.Writer, "ALTER TABLE gpu_events DROP COLUMN xid")
	gpufleet(t, "", "schema", "--check", "--clickhouse", address).want(t, exitFound, "column gpu_events.xid is missing\n", "")
}

func TestXID(t *testing.T) {
	gpufleet(t, "", "xid", "79", "--driver", "580.95.05").want(t, 0, "action           reboot_node      Drain, then reboot the node.\ndriver           R565             An XID 154 follows", "")
	gpufleet(t, "", "xid", "20034").want(t, 0, "SXID 20034 HW_DLPL_LTSSM_FAULT_UP\n", "")
	gpufleet(t, "", "xid", "12345").want(t, 0, "SXID 12345\n", "")
	gpufleet(t, "", "xid").want(t, 0, "code   severity  class          action            cause\n8      warning   application    restart_app ", "")
	gpufleet(t, "", "xid", "--json").want(t, 0, `{"code":24007,`, "")
	gpufleet(t, "", "xid", "94", "--json").want(t, 0, `{"catalogue_version":1,"code":94,`, "")
	const pasted = "[171167.6] host kernel: NVRM: Xid (PCI:0009:01:00): 149, NETIR_LINK_EVT  Fatal   XC0 i0 Link 01 (0x021425c6 0x00000000)"
	gpufleet(t, "", "xid", "--line", pasted).want(t, 0, "fatal for the link, on link 1, reason 33;", "")
	gpufleet(t, "", "xid", "--line", pasted, "--driver", "R580").want(t, 0, "NVIDIA's workbook has no row", "")
	gpufleet(t, "", "xid", "--line", "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 28006, Fatal, Link 46 MC TS crumbstore MCTO").want(t, 0, "calls it fatal", "")

	file := filepath.Join(t.TempDir(), "overrides.yaml")
	if err := os.WriteFile(file, []byte("xid:\n  94: {action: none, note: ours}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	gpufleet(t, "", "xid", "94", "--overrides", file).want(t, 0, "overridden            ours\n", "")
	gpufleet(t, "", "xid", "--overrides", file, "--json").want(t, 0, `"note":"ours"`, "")
	if err := os.WriteFile(file, []byte("xid:\n  94: {action: nothing}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	gpufleet(t, "", "xid", "94", "--overrides", file).want(t, exitFailed, "", file+`:2: action "nothing": want none, watch`)
	gpufleet(t, "", "xid", "94", "--overrides", file+"2").want(t, exitFailed, "", "no such file")

	gpufleet(t, "", "xid", "x").want(t, exitFailed, "", `"x" is no code`)
	gpufleet(t, "", "xid", "0").want(t, exitFailed, "", "is no code")
	gpufleet(t, "", "xid", "1", "2").want(t, exitFailed, "", "accepts at most 1 arg")
	gpufleet(t, "", "xid", "79", "--line", pasted).want(t, exitFailed, "", "the line has its code")
	gpufleet(t, "", "xid", "--line", "all is well").want(t, exitFailed, "", "--line: want a line")
	gpufleet(t, "", "xid", "79", "--driver", "new").want(t, exitFailed, "", `--driver: read driver version "new"`)
}

func TestToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fleet.key")
	gpufleet(t, "", "token", "--new", file).want(t, 0, "", "")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v: %v", info.Mode(), err)
	}
	gpufleet(t, "", "token", "--new", file).want(t, exitFailed, "", "file exists")
	keys, err := token.ReadKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	o := gpufleet(t, "", "token", "anna", "--fleet-key", file)
	if claims, err := token.Verify(keys, "anna", strings.TrimSuffix(o.stdout, "\n"), time.Now()); err != nil || claims != (token.Claims{}) || o.code != 0 {
		t.Errorf("exit %d, claims %+v: %v", o.code, claims, err)
	}
	o = gpufleet(t, "", "token", "anna", "--fleet-key", file, "--tenant", "acme", "--residency", "eu", "--since", "2026-03-01T12:00:00Z", "--expires", "1h")
	claims, err := token.Verify(keys, "anna", strings.TrimSuffix(o.stdout, "\n"), time.Now())
	if want := (wire.Scope{Tenant: "acme", Residency: "eu"}); err != nil || claims.Scope != want || claims.Since.Unix() != 1772366400 || claims.Expires.Before(time.Now().Add(59*time.Minute)) {
		t.Errorf("claims %+v: %v", claims, err)
	}
	made := filepath.Join(t.TempDir(), "anna.token")
	if err := os.WriteFile(made, []byte(o.stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	id := token.ID(strings.TrimSuffix(o.stdout, "\n"))
	gpufleet(t, "", "token", "--id", made).want(t, 0, id+"\n", "")
	gpufleet(t, "", "token", "--id", file).want(t, exitFailed, "", "holds none")
	gpufleet(t, "", "token", "anna", "--id", made).want(t, exitFailed, "", "nothing else")
	for _, wrong := range [][]string{{"--tenant", "Acme"}, {"--residency", "e u"}, {"--since", "yesterday"}, {"--expires", "-1h"}} {
		if o := gpufleet(t, "", append([]string{"token", "anna", "--fleet-key", file}, wrong...)...); o.code != exitFailed || o.stdout != "" {
			t.Errorf("%q: exit %d: %s%s", wrong, o.code, o.stdout, o.stderr)
		}
	}
	for _, args := range [][]string{{"anna"}, {"--fleet-key", file}, {"an na", "--fleet-key", file}, {"anna", "--new", file + "2"}, {"anna", "--fleet-key", file + "3"}} {
		if o := gpufleet(t, "", append([]string{"token"}, args...)...); o.code != exitFailed || o.stderr == "" {
			t.Errorf("%q: exit %d: %s", args, o.code, o.stderr)
		}
	}
}

func TestReaders(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "acme.password")
	o := gpufleet(t, "", "readers", "grafana_acme", "--tenant", "acme", "--password-file", file)
	o.want(t, 0, "USING tenant IN ('acme') AS RESTRICTIVE", "")
	password, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("password: %v: %v", info.Mode(), err)
	}
	hash := fmt.Sprintf("%x", sha256.Sum256(bytes.TrimSpace(password)))
	xml := gpufleet(t, "", "readers", "grafana_acme", "--tenant", "acme", "--password-file", file, "--format", "xml")
	xml.want(t, 0, "<password_sha256_hex>"+hash, "")
	if all := o.stdout + o.stderr + xml.stdout + xml.stderr; !strings.Contains(o.stdout, hash) || strings.Contains(all, strings.TrimSpace(string(password))) {
		t.Errorf("the password, or not its hash, is in:\n%s", all)
	}
	for _, wrong := range [][]string{
		{"grafana_acme"},
		{"grafana acme", "--password-file", file + "2"},
		{"g", "--password-file", file, "--format", "json"},
		{"g", "--password-file", file, "--tenant", "A"},
		{"g", "--password-file", filepath.Join(dir, "none", "x")},
	} {
		if o := gpufleet(t, "", append([]string{"readers"}, wrong...)...); o.code != exitFailed || o.stdout != "" || o.stderr == "" {
			t.Errorf("%q: exit %d: %s%s", wrong, o.code, o.stdout, o.stderr)
		}
	}
	if _, err := os.Stat(file + "2"); err == nil {
		t.Error("a password was made for a user that cannot be")
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	gpufleet(t, "", "readers", "g", "--password-file", file).want(t, exitFailed, "", "chmod 600")
}

func TestReplay(t *testing.T) {
	db, _ := database(t)
	dir := t.TempDir()
	kept, err := quarantine.Open(dir, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	path, err := kept.Put(quarantine.Entry{
		Table: "gpu_events", NodeName: "anna", Node: wire.NodeID("anna"), Epoch: 1, Sequence: 2, Rows: 3, Reason: "too old", ReceivedAt: time.Now(),
	}, quarantine.Data{Metadata: []byte("no batch")})
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "fleet.key")
	gpufleet(t, "", "token", "--new", key).want(t, 0, "", "")
	keys, err := token.ReadKeys(key)
	if err != nil {
		t.Fatal(err)
	}
	address := collect(t, db, keys)
	gpufleet(t, "", "quarantine", "replay", dir).want(t, exitFailed, "", "--collector is missing")
	gpufleet(t, "", "quarantine", "replay", "--collector", address, "--fleet-key", key, "--delete", dir).want(t, exitFound, "rejected  "+path+": batch identity", "")
	gpufleet(t, "", "quarantine", "replay", "--collector", "db.example:4490", dir).want(t, exitFailed, "", "plain text")
	gpufleet(t, "", "quarantine", "replay", "--collector", address, "--fleet-key", key+"2", dir).want(t, exitFailed, "", "read fleet keys")
	gpufleet(t, "", "quarantine", "replay", "--collector", address, filepath.Join(dir, "none")).want(t, exitFailed, "", "no such file")
	gpufleet(t, "", "quarantine", "replay", "--collector", address, t.TempDir()).want(t, 0, "0 stored, 0 rejected, 0 unanswered", "")
}

// collect runs a collector until the end of the test.
func collect(t *testing.T, db clickhousetest.Database, keys []token.Key) (address string) {
	t.Helper()
	cfg := collector.DefaultConfig()
	cfg.Listen, cfg.DataDir, cfg.Keys = "127.0.0.1:0", t.TempDir(), keys
	cfg.Database = collector.Endpoint{Address: db.Writer.HTTPAddress(), User: db.Writer.User, Password: db.Writer.Password, Database: db.Name}
	listening := make(chan net.Addr, 1)
	cfg.OnListen = func(a net.Addr) { listening <- a }
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- collector.Run(ctx, cfg) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case a := <-listening:
		return a.String()
	case err := <-done:
		done <- nil
		t.Fatal(err)
		return ""
	}
}
