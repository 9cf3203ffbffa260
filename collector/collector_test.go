// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/gpufleet/gpufleet/collector/internal/batchtest"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/health"
	"github.com/gpufleet/gpufleet/internal/token"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestMain(m *testing.M) { clickhousetest.Main(m) }

// limitless is how long a test waits for what must come: it fails by this only if it hangs.
const limitless = time.Minute

func TestValidate(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Errorf("the default: %v", err)
	}
	outside := func(c *Config) { c.Listen = "0.0.0.0:4490" }
	withTLS := func(c *Config) { c.Listen, c.TLS = ":4490", &tls.Config{MinVersion: tls.VersionTLS12} }
	for name, c := range map[string]struct {
		change func(*Config)
		says   string // "" if it is fine
	}{
		"no port":                   {func(c *Config) { c.Listen = "127.0.0.1" }, "listen address"},
		"outside in plain text":     {outside, "give a TLS certificate"},
		"outside with keys alone":   {func(c *Config) { outside(c); c.Keys = []token.Key{{}} }, "give a TLS certificate"},
		"outside without proof":     {withTLS, "give fleet keys or a client CA"},
		"outside, asks for proof":   {func(c *Config) { withTLS(c); c.TLS.ClientAuth = tls.VerifyClientCertIfGiven }, "give fleet keys or a client CA"},
		"outside with tokens":       {func(c *Config) { withTLS(c); c.Keys = []token.Key{{}} }, ""},
		"outside with certificates": {func(c *Config) { withTLS(c); c.TLS.ClientAuth = tls.RequireAndVerifyClientCert }, ""},
		"localhost":                 {func(c *Config) { c.Listen = "localhost:4490" }, ""},
		"IPv6 loopback":             {func(c *Config) { c.Listen = "[::1]:4490" }, ""},
		"no name":                   {func(c *Config) { c.Name = "" }, "name"},
		"a name with a slash":       {func(c *Config) { c.Name = "a/b" }, "name"},
		"a name with a quote":       {func(c *Config) { c.Name = "o'neill" }, "name"},
		"no directory":              {func(c *Config) { c.DataDir = "" }, "data directory"},
		"no database":               {func(c *Config) { c.Database.Database = "" }, "database"},
		"no rows":                   {func(c *Config) { c.UnitRows = 0 }, "unit"},
		"more than a block":         {func(c *Config) { c.UnitRows = 2_000_000 }, "one block"},
		"ClickHouse in plain text":  {func(c *Config) { c.Database.Address = "ch.example:8123" }, "--clickhouse-plaintext"},
		"plain text on purpose":     {func(c *Config) { c.Database.Address, c.Database.Plaintext = "ch.example:8123", true }, ""},
		"ClickHouse with TLS":       {func(c *Config) { c.Database.Address, c.Database.Secure = "ch.example:8443", true }, ""},
		"authorities, no TLS":       {func(c *Config) { c.Database.Authorities = x509.NewCertPool() }, "without TLS"},
		"ClickHouse without a port": {func(c *Config) { c.Database.Address = "localhost" }, "ClickHouse address"},
		"older than the ledger":     {func(c *Config) { c.MaxAge = 30 * 24 * time.Hour }, "ledger"},
		"no age":                    {func(c *Config) { c.MaxAge = 0 }, "ledger"},
		"no memory":                 {func(c *Config) { c.MaxMemoryBytes = 1 << 20 }, "32 MiB"},
	} {
		cfg := DefaultConfig()
		cfg.Name = "c1"
		c.change(&cfg)
		err := cfg.Validate()
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

func config(t *testing.T, db clickhousetest.Database) Config {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Name, cfg.Listen, cfg.DataDir = "c1", "127.0.0.1:0", t.TempDir()
	cfg.Database = Endpoint{Address: db.Writer.HTTPAddress(), User: db.Writer.User, Password: db.Writer.Password, Database: db.Name}
	return cfg
}

func TestRunErrors(t *testing.T) {
	db := clickhousetest.Start(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, c := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"configuration":    {func(c *Config) { c.UnitRows = 0 }, "collector configuration"},
		"wrong password":   {func(c *Config) { c.Database.Password = "guess" }, db.Writer.User},
		"no such database": {func(c *Config) { c.Database.Database = "gpufleet_missing" }, "gpufleet_missing"},
		"port taken":       {func(c *Config) { c.Listen = taken.Addr().String() }, "--listen"},
		"no quarantine":    {func(c *Config) { c.DataDir = filepath.Join("/dev/null", "x") }, "quarantine"},
	} {
		t.Run(name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			cfg := config(t, db)
			c.change(&cfg)
			err := Run(t.Context(), cfg)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("run: %v, want %q", err, c.says)
			}
			if err := goleak.Find(before); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestStopStoresWhatWasTaken stops a collector that holds batches it has not stored: units wait for ever here. The
// streams end first, and then what was taken is written.
func TestStopStoresWhatWasTaken(t *testing.T) {
	const batches = 5
	db := clickhousetest.Start(t)
	cfg := config(t, db)
	cfg.UnitWait = time.Hour
	address := make(chan net.Addr, 1)
	cfg.OnListen = func(a net.Addr) { address <- a }
	ready := make(chan func(context.Context) []health.Check, 1)
	cfg.OnReady = func(checks func(context.Context) []health.Check) { ready <- checks }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg) }()
	conn, err := grpc.NewClient("passthrough:///"+(<-address).String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	streaming, leave := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), wire.NodeHeader, "node-1"), limitless)
	defer leave()
	put, err := flight.NewFlightServiceClient(conn).DoPut(streaming)
	if err != nil {
		t.Fatal(err)
	}
	table := batchtest.Table(t, schema.EventsID)
	send(t, put, &flight.FlightData{
		FlightDescriptor: &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{table.Name}},
		DataHeader:       table.SchemaMessage(), AppMetadata: wire.Hello{Table: table.ID, Epoch: 1, Oldest: 1, Name: "node-1"}.Append(nil),
	})
	k := wire.Key{Table: table.ID, Node: wire.NodeID("node-1"), Epoch: 1}
	for k.Sequence = 1; k.Sequence <= batches; k.Sequence++ {
		b := batchtest.Encode(t, batchtest.Record(table, k.Sequence, 3, time.Now().UTC().Truncate(24*time.Hour)), k)
		send(t, put, &flight.FlightData{AppMetadata: b.Metadata, DataBody: b.Body})
	}
	send(t, put, damaged(t, table, k)) // that it ends the stream tells that those before it have been taken
	for err == nil {
		_, err = put.Recv()
	}
	if status.Code(err) != codes.DataLoss {
		t.Fatalf("stream ended with %v", err)
	}
	checks := <-ready
	if got := checks(t.Context()); health.AnyFailing(got) || len(got) != 6 {
		t.Errorf("not ready: %v", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
	if got := checks(t.Context()); got[1].Name != "clickhouse" || got[1].State != health.Warning {
		t.Errorf("ClickHouse is not asked after the stop: %v", got)
	}
	for _, sql := range []string{
		"SELECT count(), uniqExact(seq) FROM gpu_events",
		"SELECT sum(rows), count() FROM ingest_ledger WHERE state = 'stored'",
	} {
		if got := clickhousetest.Query(t, db.Reader, sql); got != "15\t5" {
			t.Errorf("%s: %q", sql, got)
		}
	}
}

func send(t *testing.T, put flight.FlightService_DoPutClient, data *flight.FlightData) {
	t.Helper()
	if err := put.Send(data); err != nil {
		t.Fatal(err)
	}
}

func damaged(t *testing.T, table schema.Table, k wire.Key) *flight.FlightData {
	t.Helper()
	b := batchtest.Encode(t, batchtest.Record(table, 1, 1, time.Now()), k)
	b.Body[0] ^= 1
	return &flight.FlightData{AppMetadata: b.Metadata, DataBody: b.Body}
}
