// SPDX-License-Identifier: Apache-2.0

package readers

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/schema"
)

func TestMain(m *testing.M) { clickhousetest.Main(m) }

const password = "a-password-of-a-test"

func hashOf(password string) string {
	sum := sha256.Sum256([]byte(password))
	return hex.EncodeToString(sum[:])
}

// reader makes one with the defaults.
func reader(name string, tenants, zones []string) Reader {
	return Reader{Name: name, PasswordSHA256: hashOf(password), Tenants: tenants, Residencies: zones, Limits: DefaultLimits()}
}

// everything is a user without a rule of ours, which shows that what the others are refused is there to be had. The roles are
// those that statements of SQL name.
const everything = `<clickhouse><profiles><everything><allow_introspection_functions>1</allow_introspection_functions></everything></profiles>
<roles><gpufleet_reader_acme><grants/></gpufleet_reader_acme><gpufleet_reader_all_rows><grants/></gpufleet_reader_all_rows></roles>
<users><everything><password_sha256_hex>%s</password_sha256_hex><networks><ip>::/0</ip></networks><profile>everything</profile><quota>default</quota>
<access_management>1</access_management><named_collection_control>1</named_collection_control></everything></users></clickhouse>`

// more is what a server may have and the embedded one has not: a cluster, of itself.
const more = `<clickhouse><remote_servers><itself><shard><replica><host>127.0.0.1</host><port>%d</port><user>everything</user><password>%s</password></replica></shard></itself></remote_servers></clickhouse>`

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// world is a server with our tables, in which two tenants have rows in two zones, and readers.
type world struct {
	t      *testing.T
	server *embedded.Server
	dir    string
}

func (w *world) httpPort() string { return strconv.Itoa(w.server.Reader().HTTPPort) }

func (w *world) port() string { return strconv.Itoa(w.server.Reader().TCPPort) }

func newWorld(t *testing.T, readers ...Reader) *world {
	t.Helper()
	return newWorldFor(t, embedded.Database, readers...)
}

// newWorldFor has readers of another database.
func newWorldFor(t *testing.T, database string, readers ...Reader) *world {
	t.Helper()
	dir := t.TempDir()
	users := filepath.Join(dir, "config", "users.d")
	if err := os.MkdirAll(users, 0o700); err != nil {
		t.Fatal(err)
	}
	text, err := XML(database, readers...)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "config", "config.d")
	if err := os.MkdirAll(config, 0o700); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	for path, content := range map[string]string{
		filepath.Join(users, "readers.xml"): string(text), filepath.Join(users, "everything.xml"): fmt.Sprintf(everything, hashOf(password)),
		filepath.Join(config, "more.xml"): fmt.Sprintf(more, port, password),
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: dir, MemoryLimitBytes: 1 << 30, Threads: 2, TCPPort: port})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{t: t, server: server, dir: dir}
	if err := schema.Migrate(t.Context(), clickhousetest.Open(t, server.Writer()), embedded.Database, "test"); err != nil {
		t.Fatal(err)
	}
	return w
}

// secret is what only globex should see, and nobody else learn of.
const secret = "globex-secret"

// tell puts what an operator may have made beside our tables, and texts of two tenants, into the database.
func (w *world) tell() {
	w.t.Helper()
	for _, sql := range []string{
		"INSERT INTO gpu_events (ts, node_id, tenant, residency, gpu_id, kind, source, message) VALUES (now(), 1, 'acme', 'eu', 111111, 'xid', 'agent', 'acme-own'), (now(), 424242, 'globex', 'eu', 424242, 'xid', 'agent', '" + secret + "')",
		"INSERT INTO node_inventory (ts, node_id, tenant, residency, node_name) VALUES (now(), 1, 'acme', 'eu', 'acme-own'), (now(), 424242, 'globex', 'eu', '" + secret + "')",
		"INSERT INTO gpu_inventory (ts, gpu_id, node_id, tenant, residency, gpu_uuid) VALUES (now(), 111111, 1, 'acme', 'eu', 'acme-own'), (now(), 424242, 424242, 'globex', 'eu', '" + secret + "')",
		"CREATE DICTIONARY names (node_id UInt64, node_name String) PRIMARY KEY node_id LAYOUT(HASHED()) LIFETIME(60) SOURCE(CLICKHOUSE(NAME gpufleet_dictionary DB 'gpufleet' TABLE 'node_current'))",
		"CREATE VIEW definers DEFINER = gpufleet_writer SQL SECURITY DEFINER AS SELECT message FROM gpu_events",
		"CREATE TABLE merged (message String) ENGINE = Merge('gpufleet', '^gpu_events$')",
		"CREATE TABLE copied (node_id UInt64, node_name String) ENGINE = Join(ANY, LEFT, node_id)",
		"INSERT INTO copied SELECT node_id, node_name FROM node_inventory",
		"INSERT INTO prices (provider) VALUES ('" + secret + "')",
		"INSERT INTO ingest_ledger (recorded_at, table_name, reason) VALUES (now(), '" + secret + "', '" + secret + "')",
	} {
		clickhousetest.Exec(w.t, w.server.Writer(), sql)
	}
}

// as is the way in of a user.
func (w *world) as(user string) embedded.Endpoint {
	e := w.server.Reader()
	e.User, e.Password = user, password
	return e
}

func (w *world) must(user, sql string) string {
	w.t.Helper()
	return clickhousetest.Query(w.t, w.as(user), sql)
}

// fill puts a row of each tenant in each zone into every table that has tenants, and what only globex should see into
// texts.
func (w *world) fill() {
	w.t.Helper()
	for _, name := range scopedTables() {
		var table schema.Table
		for _, t := range schema.StoredTables() {
			if t.Name == name {
				table = t
			}
		}
		at := table.Columns[0].Name
		var rows []string
		for _, tenant := range []string{"acme", "globex", ""} {
			for _, zone := range []string{"eu", "us", ""} {
				rows = append(rows, fmt.Sprintf("(now(), '%s', '%s')", tenant, zone))
			}
		}
		clickhousetest.Exec(w.t, w.server.Writer(), fmt.Sprintf("INSERT INTO %s (%s, tenant, residency) VALUES %s", name, at, strings.Join(rows, ", ")))
	}
}
