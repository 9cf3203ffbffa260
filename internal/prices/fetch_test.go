// SPDX-License-Identifier: Apache-2.0

package prices

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// provider answers as handle does, and is asked by a Fetcher with these bounds.
func provider(t *testing.T, change func(*FetchConfig), handle http.HandlerFunc) (*Fetcher, string) {
	t.Helper()
	server := httptest.NewServer(handle)
	cfg := DefaultFetchConfig()
	cfg.RetryWait = time.Millisecond
	cfg.Transport = &http.Transport{}
	if change != nil {
		change(&cfg)
	}
	f, err := NewFetcher(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close(); server.Close() })
	return f, server.URL
}

func feedOf(t *testing.T, provider, base string, regions ...string) Feed {
	t.Helper()
	feeds, err := FeedsOf(provider, base, "secret-key", regions)
	if err != nil {
		t.Fatal(err)
	}
	return feeds[0]
}

const azureItemText = `{"currencyCode":"USD","tierMinimumUnits":0.0,"retailPrice":%s,"armRegionName":"eastus","effectiveStartDate":"2023-08-01T00:00:00Z","skuName":"x","meterName":"x","productName":"p","unitOfMeasure":"1 Hour","type":"Consumption","armSkuName":"%s"}`

// TestFetchAzure: pages follow each other by their links, as the Retail Prices API has them.
func TestFetchAzure(t *testing.T) {
	f, base := provider(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/retail/prices" || !strings.Contains(r.URL.Query().Get("$filter"), "armRegionName eq 'eastus'") || r.Header.Get("If-None-Match") != "" {
			t.Errorf("asked for %s with %v", r.URL, r.Header)
		}
		next, item := "", fmt.Sprintf(azureItemText, "84.8", "Standard_ND96isr_H200_v5")
		if r.URL.Query().Get("$skip") == "" {
			next = "http://" + r.Host + r.URL.String() + "&$skip=1000"
			item = fmt.Sprintf(azureItemText, "98.32", "Standard_ND96isr_H100_v5")
		}
		fmt.Fprintf(w, `{"BillingCurrency":"USD","Items":[%s],"NextPageLink":%q,"Count":1}`, item, next)
	})
	got, err := f.Fetch(t.Context(), feedOf(t, "azure", base, "eastus"), Validators{ETag: "of the first page alone"}, nil)
	if err != nil || len(got.Quotes) != 2 || got.Pages != 2 || got.Quotes[1].Hourly.String() != "84.8" || got.Bytes == 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if source := got.Quotes[0].Source; source != base+"/api/retail/prices" {
		t.Errorf("source %s", source)
	}
}

// TestFetchGCP: pages follow each other by tokens, and the key is in no address.
func TestFetchGCP(t *testing.T) {
	f, base := provider(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Goog-Api-Key") != "secret-key" || strings.Contains(r.URL.String(), "secret") || r.URL.Query().Get("pageSize") != "5000" {
			t.Errorf("asked for %s with %v", r.URL, r.Header)
		}
		parts := a3("us-central1")
		if r.URL.Query().Get("pageToken") == "" {
			_, _ = io.WriteString(w, gcpPage("t 2", parts[:2]...))
			return
		}
		_, _ = io.WriteString(w, gcpPage("", parts[2:]...))
	})
	got, err := f.Fetch(t.Context(), feedOf(t, "gcp", base), Validators{}, nil)
	if err != nil || len(got.Quotes) != 10 || got.Pages != 2 || len(Check(got.Quotes, readAt).Prices) != 10 {
		t.Errorf("%d quotes of %d pages, %v", len(got.Quotes), got.Pages, err)
	}
}

// TestFetchAsksForWhatIsNew: with the validators of the answer before, a provider need not send it again.
func TestFetchAsksForWhatIsNew(t *testing.T) {
	const day = "Sat, 01 Nov 2026 00:00:00 GMT"
	f, base := provider(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/offers/v1.0/aws/AmazonEC2/current/us-east-1/index.json" {
			t.Errorf("asked for %s", r.URL)
		}
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Last-Modified", day)
		if r.Header.Get("If-None-Match") == `"1"` && r.Header.Get("If-Modified-Since") == day {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = io.WriteString(w, offer(product("A", "p5.48xlarge"), terms("A", "55.04")))
	})
	feed := feedOf(t, "aws", base, "us-east-1")
	first, err := f.Fetch(t.Context(), feed, Validators{}, nil)
	if err != nil || len(first.Quotes) != 1 || first.NotModified || first.Validators != (Validators{`"1"`, day}) {
		t.Errorf("%+v, %v", first, err)
	}
	again, err := f.Fetch(t.Context(), feed, first.Validators, nil)
	if err != nil || !again.NotModified || again.Validators != first.Validators || len(again.Quotes) != 0 {
		t.Errorf("%+v, %v", again, err)
	}
}

// TestFetchAsksAgain where the provider is busy, but not where it refuses.
func TestFetchAsksAgain(t *testing.T) {
	var asked atomic.Int32
	f, base := provider(t, nil, func(w http.ResponseWriter, r *http.Request) {
		switch n := asked.Add(1); {
		case r.URL.Query().Has("no"):
			http.Error(w, "not for you", http.StatusForbidden)
		case n == 1:
			w.Header().Set("Retry-After", "0")
			http.Error(w, "slow down", http.StatusTooManyRequests)
		case n == 2:
			http.Error(w, "oops", http.StatusBadGateway)
		default:
			_, _ = io.WriteString(w, "provider,instance_type,price_per_hour\naws,p5.48xlarge,55.04\n")
		}
	})
	got, err := f.Fetch(t.Context(), Feed{Format: "csv", URL: base + "/prices.csv", Defaults: Defaults{LifeCycle: OnDemand}}, Validators{}, nil)
	if err != nil || len(got.Quotes) != 1 || asked.Load() != 3 {
		t.Errorf("%+v after %d, %v", got, asked.Load(), err)
	}
	asked.Store(0)
	_, err = f.Fetch(t.Context(), Feed{Format: "csv", URL: base + "/prices.csv?no=1&token=secret"}, Validators{}, nil)
	if err == nil || !strings.Contains(err.Error(), "403 Forbidden") || !strings.Contains(err.Error(), "not for you") || strings.Contains(err.Error(), "secret") || asked.Load() != 1 {
		t.Errorf("after %d: %v", asked.Load(), err)
	}
}

// TestFetchBounds: whatever a provider answers, there is an end to it, and it is told.
func TestFetchBounds(t *testing.T) {
	release := make(chan struct{})
	f, base := provider(t, func(cfg *FetchConfig) {
		cfg.MostBytes, cfg.MostPageByte, cfg.MostPages, cfg.Attempts, cfg.IdleTimeout = 4000, 1000, 3, 2, 200*time.Millisecond
	}, func(w http.ResponseWriter, r *http.Request) {
		link := func(address string) { fmt.Fprintf(w, `{"Items":[],"NextPageLink":%q}`, address) }
		switch r.URL.Query().Get("case") {
		case "endless pages":
			link("http://" + r.Host + r.URL.String())
		case "elsewhere":
			link("http://elsewhere.example/prices")
		case "redirect":
			http.Redirect(w, r, "http://elsewhere.example/prices", http.StatusFound)
		case "large page", "large":
			_, _ = io.WriteString(w, `{"products":{"`+strings.Repeat("x", 5000))
		case "no page":
			_, _ = io.WriteString(w, `{"NextPageLink":7}`)
		case "cut":
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"products":{`)
		case "silent":
			_, _ = io.WriteString(w, `{"products":{`)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-release:
			case <-r.Context().Done():
			}
		case "busy":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "html":
			_, _ = io.WriteString(w, "<html>sign in</html>")
		}
	})
	defer close(release)
	for name, tt := range map[string]struct{ format, want string }{
		"endless pages": {"azure", "it has more than 3 pages"},
		"elsewhere":     {"azure", "page 1 leads elsewhere, to elsewhere.example"},
		"redirect":      {"aws", "it leads elsewhere, to elsewhere.example"},
		"large page":    {"gcp", "page 1 has more than 1000 bytes"},
		"large":         {"aws", "it has more than 4000 bytes"},
		"no page":       {"azure", "page 1: json"},
		"cut":           {"aws", "unexpected EOF"},
		"silent":        {"aws", "the answer does not go on"},
		"busy":          {"oci", "503 Service Unavailable"},
		"html":          {"oci", "read OCI prices"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.Fetch(t.Context(), Feed{Format: tt.format, URL: base + "/?" + "case=" + strings.ReplaceAll(name, " ", "+")}, Validators{}, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), base) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	for _, address := range []string{"", "prices.csv", "ftp://a/b", "http://%zz"} {
		if _, err := f.Fetch(t.Context(), Feed{Format: "csv", URL: address}, Validators{}, nil); err == nil || !strings.Contains(err.Error(), "want an address") {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestFeedsOf(t *testing.T) {
	for want, ask := range map[string]func() ([]Feed, error){
		"say which regions":    func() ([]Feed, error) { return FeedsOf("aws", "", "", nil) },
		"wants an API key":     func() ([]Feed, error) { return FeedsOf("google", "", "", nil) },
		"want aws, azure, gcp": func() ([]Feed, error) { return FeedsOf("coreweave", "", "", nil) },
		`region "' or 1"`:      func() ([]Feed, error) { return FeedsOf("azure", "", "", []string{"' or 1"}) },
	} {
		if _, err := ask(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	feeds, err := FeedsOf("AWS", "", "", []string{"us-east-1", "eu-west-1"})
	if err != nil || len(feeds) != 2 || feeds[1].URL != "https://pricing.us-east-1.amazonaws.com/offers/v1.0/aws/AmazonEC2/current/eu-west-1/index.json" {
		t.Errorf("%+v, %v", feeds, err)
	}
	if _, err := NewFetcher(FetchConfig{}); err == nil {
		t.Error("a Fetcher without bounds")
	}
}
