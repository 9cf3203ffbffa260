// SPDX-License-Identifier: Apache-2.0

package prices

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// FetchConfig bounds what is asked for and what is taken.
type FetchConfig struct {
	IdleTimeout  time.Duration // of an answer that does not go on
	MostBytes    int64         // of a feed, unpacked; AWS's largest region has some 500 MB
	MostPageByte int64         // of a page, of which the whole is in memory
	MostPages    int
	Attempts     int           // of a page, where the provider is busy
	RetryWait    time.Duration // before the second attempt, then four times as long; Retry-After counts where it is told
	Transport    http.RoundTripper
	UserAgent    string
}

// DefaultFetchConfig is for the providers' own feeds.
func DefaultFetchConfig() FetchConfig {
	return FetchConfig{
		IdleTimeout: 60 * time.Second, MostBytes: 16 << 30, MostPageByte: 64 << 20, MostPages: 5000, Attempts: 3, RetryWait: time.Second,
		UserAgent: "gpufleet",
	}
}

// longestRetryWait bounds what a provider may ask for.
const longestRetryWait = time.Minute

// Validators are what a provider gave with an answer, to ask later whether there is another one.
type Validators struct{ ETag, LastModified string }

// Fetched is what came of asking a feed.
type Fetched struct {
	Quotes      []Quote
	Validators  Validators
	NotModified bool // the answer is the one before: no quotes
	Bytes       int64
	Pages       int
}

// Fetcher asks feeds.
type Fetcher struct {
	cfg    FetchConfig
	client *http.Client
}

// NewFetcher makes a Fetcher. Progress may be nil.
func NewFetcher(cfg FetchConfig) (*Fetcher, error) {
	if cfg.IdleTimeout <= 0 || cfg.MostBytes <= 0 || cfg.MostPageByte <= 0 || cfg.MostPages <= 0 || cfg.Attempts <= 0 || cfg.RetryWait < 0 {
		return nil, fmt.Errorf("fetch prices: every bound is above 0: %+v", cfg)
	}
	f := &Fetcher{cfg: cfg, client: &http.Client{Transport: cfg.Transport}}
	if cfg.Transport == nil {
		own := http.DefaultTransport.(*http.Transport).Clone() //nolint:forbidigo // a copy, for its settings of proxy and TLS
		own.ResponseHeaderTimeout = cfg.IdleTimeout
		f.client.Transport = own
	}
	f.client.CheckRedirect = func(next *http.Request, via []*http.Request) error {
		if len(via) > 3 || !sameSite(next.URL, via[0].URL) {
			return fmt.Errorf("it leads elsewhere, to %s", next.URL.Host)
		}
		return nil
	}
	return f, nil
}

// Close gives connections back.
func (f *Fetcher) Close() { f.client.CloseIdleConnections() }

// sameSite keeps the key, and what is believed, with the provider.
func sameSite(a, b *url.URL) bool { return a.Scheme == b.Scheme && a.Host == b.Host }

// Fetch asks a feed, all its pages, and reads the answer as it comes. With the validators of the answer before it may say
// that nothing is new. Progress is told now and then of a large one; it may be nil.
func (f *Fetcher) Fetch(ctx context.Context, feed Feed, known Validators, progress func(bytes int64, pages int)) (Fetched, error) {
	address, err := url.Parse(feed.URL)
	if err != nil || address.Host == "" || address.Scheme != "https" && address.Scheme != "http" {
		return Fetched{}, fmt.Errorf("fetch prices from %q: want an address such as https://host/path", feed.URL)
	}
	if _, err := formatNamed(feed.Format); err != nil {
		return Fetched{}, err
	}
	if progress == nil {
		progress = func(int64, int) {}
	}
	a := &answer{fetcher: f, feed: feed, address: address, known: known, progress: progress}
	if next := nextPage(feed.Format); next != nil {
		a.next, a.known = next, Validators{} // which would be those of the first page alone
	}
	defer a.close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a.ctx = func() context.Context { return ctx }
	a.giveUp = func() { cancel(errIdle) }
	if err := a.open(ctx); err != nil || a.notModified {
		return Fetched{NotModified: a.notModified, Validators: known}, err
	}
	quotes, err := Read(feed.Format, a, Redacted(feed.URL), feed.Defaults)
	if a.err != nil && !errors.Is(a.err, io.EOF) {
		err = a.err // the cause; what the reader says is that the text breaks off
	}
	if err != nil {
		return Fetched{}, err
	}
	return Fetched{Quotes: quotes, Validators: a.validators, Bytes: a.bytes, Pages: a.pages}, nil
}

// Redacted is an address as the source of prices: without a user, without what was asked for.
func Redacted(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "an address that cannot be read"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// get asks for a page, again where the provider is busy.
func (f *Fetcher) get(ctx context.Context, address *url.URL, feed Feed, known Validators) (*http.Response, error) {
	wait := f.cfg.RetryWait
	for attempt := 1; ; attempt++ {
		response, err := f.once(ctx, address, feed, known)
		again, after := worthAnother(response, err)
		if !again || attempt == f.cfg.Attempts || ctx.Err() != nil {
			return response, err
		}
		if response != nil {
			response.Body.Close()
		}
		timer := time.NewTimer(max(wait, after))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C:
		}
		wait *= 4
	}
}

func (f *Fetcher) once(ctx context.Context, address *url.URL, feed Feed, known Validators) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]string{
		"User-Agent": f.cfg.UserAgent, "X-Goog-Api-Key": feed.Key, "If-None-Match": known.ETag, "If-Modified-Since": known.LastModified,
	} {
		if value != "" {
			request.Header.Set(name, value)
		}
	}
	return f.client.Do(request)
}

// worthAnother tells whether to ask again, and after what time at the earliest.
func worthAnother(response *http.Response, err error) (again bool, after time.Duration) {
	if err != nil {
		return true, 0
	}
	switch response.StatusCode {
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
	default:
		return false, 0
	}
	seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
	if err != nil {
		return true, 0
	}
	return true, min(time.Duration(max(seconds, 0))*time.Second, longestRetryWait)
}
