// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/gpufleet/gpufleet/internal/catalog"
	"github.com/gpufleet/gpufleet/internal/clickhouseclient"
	"github.com/gpufleet/gpufleet/internal/clickhouseerror"
	"github.com/gpufleet/gpufleet/internal/collectors"
	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/internal/query"
	"github.com/gpufleet/gpufleet/schema"
)

// answerWait is how long a service may take to answer.
const answerWait = 10 * time.Second

// services looks at a pipeline that runs, at a ClickHouse and at a collector, as far as there are any.
func services(ctx context.Context, cfg Config) []Finding {
	ctx, cancel := context.WithTimeout(ctx, 3*answerWait)
	defer cancel()
	var findings []Finding
	place := cfg.ClickHouse
	var e clickhouseclient.Endpoint
	if place == "" {
		_, reader, err := embedded.Attach(ctx, clickhouseclient.EmbeddedDir(cfg.DataDir))
		switch {
		case errors.Is(err, fs.ErrPermission):
			findings = append(findings, warn("pipeline", fmt.Sprintf("whether one runs in %s cannot be seen: it belongs to another user", cfg.DataDir), "run doctor as that user, or name another directory with --data"))
		case err != nil:
			findings = append(findings, ok("pipeline", "none runs in %s: `gpufleet up` starts one", cfg.DataDir))
		default:
			findings = append(findings, ok("pipeline", "runs in %s", cfg.DataDir))
			e = clickhouseclient.Embedded(reader)
		}
	} else {
		var err error
		if e, err = clickhouseclient.ParseURL(place, cfg.Password); err != nil {
			findings = append(findings, fail("clickhouse", err.Error(), "name it as http://user@host:8123/database"))
		}
	}
	if e.Address != "" {
		findings = append(findings, askClickHouse(ctx, cfg, e)...)
	}
	if cfg.Collector != "" {
		findings = append(findings, askCollectors(ctx, cfg)...)
	}
	return findings
}

// askClickHouse looks at the server, at the rights of the user, and at the tables.
func askClickHouse(ctx context.Context, cfg Config, e clickhouseclient.Endpoint) []Finding {
	const check = "clickhouse"
	conn, err := clickhouseclient.Dial(ctx, e)
	if err != nil {
		return []Finding{unreachable(check, err)}
	}
	defer conn.Close() //nolint:errcheck // it was only read from
	var version string
	if err := conn.QueryRow(ctx, "SELECT version()").Scan(&version); err != nil {
		return []Finding{unreachable(check, query.Explain(e.Explain(err), ""))}
	}
	findings := []Finding{ok(check, "%s, version %s", e, version), tables(ctx, conn, e, "tables")}
	layout, err := schema.Find(ctx, conn, e.Database)
	switch {
	case err == nil && layout.Cluster != "":
		return append(findings, shards(ctx, cfg, conn, e, layout)...)
	case findings[1].Level != OK:
		return findings
	default:
		return append(findings, running(ctx, conn, e, "collectors"), samples(ctx, conn, e, "samples"))
	}
}

// unreachable is a ClickHouse that does not answer, or answers nothing of use.
func unreachable(check string, err error) Finding {
	if explained, ok := errors.AsType[*clickhouseerror.Error](err); ok && explained.Advice != "" {
		return fail(check, explained.What, explained.Advice)
	}
	return fail(check, says(err), "check the address, and the log of the server")
}

// says is what an error says without the advice.
func says(err error) string {
	if explained, ok := errors.AsType[*clickhouseerror.Error](err); ok {
		return explained.What
	}
	return err.Error()
}

// tables compares those of a database with the schema of this version.
func tables(ctx context.Context, conn driver.Conn, e clickhouseclient.Endpoint, check string) Finding {
	differences, err := catalog.Compare(ctx, conn, e.Database)
	if err != nil {
		return fail(check, says(query.Explain(e.Explain(err), "")), fmt.Sprintf("GRANT SELECT ON %s.*, system.databases, system.tables, system.columns", e.Database))
	}
	if len(differences) > 0 {
		more := ""
		if len(differences) > 1 {
			more = fmt.Sprintf(", and %d differences more", len(differences)-1)
		}
		return fail(check, differences[0]+more, "a collector of this version makes what is missing when it starts; `gpufleet schema --check` lists all")
	}
	return ok(check, "schema version %d", schema.Version)
}

// samples looks for the newest one.
func samples(ctx context.Context, conn driver.Conn, e clickhouseclient.Endpoint, check string) Finding {
	var newest, rows uint64
	err := conn.QueryRow(ctx, "SELECT toUInt64(greatest(0, dateDiff('second', max(ts), now64(3)))), count() FROM gpu_samples WHERE ts > now64(3) - INTERVAL 1 DAY").Scan(&newest, &rows)
	switch {
	case err != nil:
		return fail(check, says(query.Explain(e.Explain(err), "")), fmt.Sprintf("GRANT SELECT ON %s.*", e.Database))
	case rows == 0:
		return warn(check, "none of the last day", "start agents, or look at their logs")
	default:
		return ok(check, "the newest is %d s old", newest)
	}
}

// askCollectors asks each that is named; of a name that stands for several any.
func askCollectors(ctx context.Context, cfg Config) (findings []Finding) {
	named, err := collectors.Parse(cfg.Collector)
	if err != nil {
		findings = append(findings, fail("collector", strings.ReplaceAll(err.Error(), "\n", "; "), "name them as agents do: host:4490, several with commas between, or dns:name:4490"))
	}
	for _, a := range named {
		findings = append(findings, askCollector(ctx, net.JoinHostPort(a.Host, a.Port), cfg.TLS))
	}
	return findings
}

// askCollector opens a stream without saying who it is: a collector refuses that in words of its own.
func askCollector(ctx context.Context, address string, secure *tls.Config) Finding {
	const check = "collector"
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	transport := insecure.NewCredentials()
	if secure != nil {
		transport = credentials.NewTLS(secure)
	}
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(transport))
	if err != nil {
		return fail(check, err.Error(), "check the address")
	}
	defer conn.Close() //nolint:errcheck // nothing was sent
	put, err := flight.NewFlightServiceClient(conn).DoPut(ctx)
	if err == nil {
		_, err = put.Recv()
	}
	switch status.Code(err) {
	case codes.Unauthenticated, codes.PermissionDenied:
		return ok(check, "%s answers", address)
	case codes.Unimplemented:
		return fail(check, address+" speaks gRPC and is no collector", "check the port")
	default:
		return fail(check, fmt.Sprintf("%s: %v", address, status.Convert(err).Message()),
			"check that it runs, that nothing between drops the port, and TLS: --tls-ca names the authorities, none means plain text")
	}
}
