// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"cmp"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/internal/batchtrace"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/ops"
)

// receivedSpan is one, and whose.
type receivedSpan struct {
	*tracepb.Span
	service string
}

// spanReceiver takes OTLP over HTTP.
type spanReceiver struct {
	url   string
	mu    sync.Mutex // guards spans
	spans []receivedSpan
}

func receiveSpans(t *testing.T) *spanReceiver {
	t.Helper()
	r := &spanReceiver{}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func (r *spanReceiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	var spans collectortrace.ExportTraceServiceRequest
	body, err := io.ReadAll(request.Body)
	if err != nil || proto.Unmarshal(body, &spans) != nil {
		http.Error(w, "not OTLP", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, of := range spans.GetResourceSpans() {
		service := ""
		for _, a := range of.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range of.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				r.spans = append(r.spans, receivedSpan{s, service})
			}
		}
	}
}

// tracer sends to the receiver until the returned function is called.
func (r *spanReceiver) tracer(t *testing.T, service string, every uint64) (tracer *batchtrace.Tracer, flush func()) {
	t.Helper()
	traces, err := ops.NewTraces(t.Context(), ops.TraceConfig{Service: service, Endpoint: r.url, IDs: batchtrace.IDs{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return batchtrace.New(traces.Provider(), every), func() {
		if err := traces.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestOneBatchsWay follows each traced batch from its tick to the answer that it is stored, over two programs, and on into
// ClickHouse by the header of the insert.
func TestOneBatchsWay(t *testing.T) {
	db := clickhousetest.Start(t)
	received := receiveSpans(t)
	cfg := collectorConfig(t, db.Writer)
	inserts := &insertWatch{parents: make(map[string]bool)}
	cfg.Database.Address = inserts.before(t, cfg.Database.Address)
	collectors, flushCollector := received.tracer(t, "gpufleet-collector", 4)
	agents, flushAgents := received.tracer(t, "gpufleet-agent", 4)
	cfg.Trace = collectors
	address, stop := startCollector(t, cfg)
	f := startFleet(t, fleetConfig{nodes: 6, gpus: 2, seed: 1, collector: address, interval: 200 * time.Millisecond, flush: 400 * time.Millisecond, change: func(c *agent.Config) {
		c.Trace, c.SpoolDir, c.SpoolBytes = agents, t.TempDir(), 64<<20
	}})
	f.await("200 batches", func(s agent.Stats) bool { return s.BatchesStored >= 200 })
	f.wantExactlyOnce(db.Reader)
	stop()
	flushCollector()
	flushAgents()
	received.wantWholeWays(t, f.sum().BatchesStored, inserts)
}

// insertWatch is before ClickHouse, and notes which spans its requests are below.
type insertWatch struct {
	mu      sync.Mutex // guards parents
	parents map[string]bool
}

func (i *insertWatch) before(t *testing.T, address string) string {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: address})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if parts := strings.Split(r.Header.Get("traceparent"), "-"); len(parts) == 4 {
			i.mu.Lock()
			i.parents[parts[1]+"/"+parts[2]] = parts[3] == "01"
			i.mu.Unlock()
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// wantWholeWays looks at every trace.
func (r *spanReceiver) wantWholeWays(t *testing.T, batches uint64, inserts *insertWatch) {
	t.Helper()
	ways := make(map[string][]receivedSpan)
	for _, s := range r.spans {
		id := hex.EncodeToString(s.GetTraceId())
		ways[id] = append(ways[id], s)
	}
	if n := uint64(len(ways)); n < batches/8 || n > batches/2 {
		t.Errorf("%d of %d batches are traced, want about a quarter", n, batches)
	}
	carried := 0
	for id, spans := range ways {
		wantWholeWay(t, spans)
		for _, s := range spans {
			if s.GetName() == "insert" && inserts.parents[id+"/"+hex.EncodeToString(s.GetSpanId())] {
				carried++
			}
		}
	}
	if carried == 0 || carried != len(inserts.parents) {
		t.Errorf("%d inserts told ClickHouse their span, of which %d are known", len(inserts.parents), carried)
	}
}

// wantWholeWay looks at one.
func wantWholeWay(t *testing.T, spans []receivedSpan) {
	t.Helper()
	slices.SortFunc(spans, func(a, b receivedSpan) int {
		return cmp.Or(cmp.Compare(a.GetStartTimeUnixNano(), b.GetStartTimeUnixNano()), -cmp.Compare(a.GetEndTimeUnixNano(), b.GetEndTimeUnixNano()))
	})
	byID, byName := make(map[string]receivedSpan), make(map[string]receivedSpan)
	for _, s := range spans {
		byID[string(s.GetSpanId())], byName[s.GetName()] = s, s
	}
	const agents, collectors = "gpufleet-agent", "gpufleet-collector"
	for name, want := range map[string][2]string{
		"batch": {agents, ""}, "sample": {agents, "batch"}, "encode": {agents, "batch"}, "spool": {agents, "batch"}, "send": {agents, "batch"},
		"collect": {collectors, "batch"}, "check": {collectors, "collect"}, "log": {collectors, "collect"}, "wait": {collectors, "collect"},
		"insert": {collectors, "collect"}, "ledger": {collectors, "collect"},
	} {
		s, ok := byName[name]
		switch parent := byID[string(s.GetParentSpanId())]; {
		case !ok:
			t.Errorf("trace %x has no span %s", spans[0].GetTraceId(), name)
		case s.service != want[0] || parent.GetName() != want[1]:
			t.Errorf("%s of %s is below %q, want it of %s below %q", name, s.service, parent.GetName(), want[0], want[1])
		case want[1] != "" && s.GetStartTimeUnixNano() < parent.GetStartTimeUnixNano():
			t.Errorf("%s began before its parent %s", name, want[1])
		case s.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR:
			t.Errorf("%s: %s", name, s.GetStatus().GetMessage())
		}
	}
	order := []string{"sample", "encode", "send", "check", "log", "wait", "insert", "ledger"}
	for i := range order[1:] {
		if a, b := byName[order[i]], byName[order[i+1]]; a.GetStartTimeUnixNano() > b.GetStartTimeUnixNano() {
			t.Errorf("%s began after %s", order[i], order[i+1])
		}
	}
	if byName["batch"].GetEndTimeUnixNano() < byName["ledger"].GetEndTimeUnixNano() {
		t.Error("the batch was at its end before the ledger had it")
	}
}
