// SPDX-License-Identifier: Apache-2.0

package prices

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// answer is what a feed says, page after page, as one text: the readers take pages one after the other. A feed of one
// page goes through as it comes; of one with more, a page at a time is in memory.
type answer struct {
	fetcher  *Fetcher
	feed     Feed
	address  *url.URL // of the page that is read
	known    Validators
	next     func(page []byte, of *url.URL) (*url.URL, error) // nil: there is one page
	progress func(bytes int64, pages int)
	ctx      func() context.Context // of the whole feed
	giveUp   func()

	body        io.ReadCloser
	rest        io.Reader // what is not yet read of the page
	idle        *time.Timer
	validators  Validators
	notModified bool
	last        bool
	bytes, told int64
	pages       int
	err         error
}

// tellEvery is how many bytes go by between two words about progress.
const tellEvery = 8 << 20

// errIdle says why an answer was given up.
var errIdle = errors.New("the answer does not go on")

// open asks for the page that address names.
func (a *answer) open(ctx context.Context) error {
	response, err := a.fetcher.get(ctx, a.address, a.feed, a.known) //nolint:bodyclose // close does, whoever ends
	if err != nil {
		return a.wrong(ctx, err)
	}
	a.body = response.Body
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotModified:
		a.notModified = true
		return nil
	default:
		return a.wrong(ctx, errors.New(said(response)))
	}
	if a.pages == 0 {
		a.validators = Validators{response.Header.Get("ETag"), response.Header.Get("Last-Modified")}
	}
	a.pages++
	a.idle = time.AfterFunc(a.fetcher.cfg.IdleTimeout, a.giveUp)
	a.rest, a.last = a.body, a.next == nil
	if a.next != nil {
		return a.whole(ctx)
	}
	return nil
}

// whole reads a page to its end, to see where the next one is.
func (a *answer) whole(ctx context.Context) error {
	most := a.fetcher.cfg.MostPageByte
	page, err := io.ReadAll(io.LimitReader(readerFunc(a.fromBody), most+1))
	if err != nil {
		return a.wrong(ctx, err)
	}
	if int64(len(page)) > most {
		return a.wrong(ctx, fmt.Errorf("page %d has more than %d bytes", a.pages, most))
	}
	a.close()
	next, err := a.next(page, a.address)
	if err != nil {
		return a.wrong(ctx, fmt.Errorf("page %d: %w", a.pages, err))
	}
	a.rest, a.last = bytes.NewReader(page), next == nil
	if next == nil {
		return nil
	}
	if a.pages == a.fetcher.cfg.MostPages {
		return a.wrong(ctx, fmt.Errorf("it has more than %d pages", a.pages))
	}
	if !sameSite(next, a.address) {
		return a.wrong(ctx, fmt.Errorf("page %d leads elsewhere, to %s", a.pages, next.Host))
	}
	a.address = next
	return nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Read implements io.Reader.
func (a *answer) Read(p []byte) (int, error) {
	if a.err != nil {
		return 0, a.err
	}
	n, err := a.readPage(p)
	switch {
	case errors.Is(err, io.EOF) && !a.last:
		if a.err = a.open(a.ctx()); a.err != nil {
			return n, a.err
		}
		return n, nil
	case err != nil && !errors.Is(err, io.EOF):
		a.err = a.wrong(a.ctx(), err)
		return n, a.err
	case err != nil:
		a.err = io.EOF
	}
	return n, err
}

func (a *answer) readPage(p []byte) (int, error) {
	if a.next != nil {
		return a.rest.Read(p)
	}
	return a.fromBody(p)
}

// fromBody reads of the network: within the bounds, as long as the answer goes on.
func (a *answer) fromBody(p []byte) (int, error) {
	n, err := a.body.Read(p)
	a.idle.Reset(a.fetcher.cfg.IdleTimeout)
	a.bytes += int64(n)
	if a.bytes > a.fetcher.cfg.MostBytes {
		return n, fmt.Errorf("it has more than %d bytes", a.fetcher.cfg.MostBytes)
	}
	if a.bytes-a.told >= tellEvery {
		a.told = a.bytes
		a.progress(a.bytes, a.pages)
	}
	return n, err
}

func (a *answer) close() {
	if a.idle != nil {
		a.idle.Stop()
	}
	if a.body != nil {
		a.body.Close()
		a.body = nil
	}
}

func (a *answer) wrong(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if address, ok := errors.AsType[*url.Error](err); ok { // which would repeat the address, with what was asked for
		err = address.Err
	}
	return fmt.Errorf("fetch prices from %s: %w", Redacted(a.feed.URL), err)
}

// said is what an answer that is none says of itself, with the beginning of its text.
func said(response *http.Response) string {
	const most = 200
	text, err := io.ReadAll(io.LimitReader(response.Body, most))
	if err != nil || len(text) == 0 {
		return "it answers " + response.Status
	}
	return fmt.Sprintf("it answers %s: %q", response.Status, text)
}

// nextPage is how a format says where its next page is; nil if it has one page.
func nextPage(format string) func(page []byte, of *url.URL) (*url.URL, error) {
	switch format {
	case "azure":
		return nextOfAzure
	case "gcp":
		return nextOfGCP
	default:
		return nil
	}
}

func nextOfAzure(page []byte, _ *url.URL) (*url.URL, error) {
	var link struct {
		NextPageLink string `json:"NextPageLink"`
	}
	if err := json.Unmarshal(page, &link); err != nil || link.NextPageLink == "" {
		return nil, err
	}
	return url.Parse(link.NextPageLink)
}

func nextOfGCP(page []byte, of *url.URL) (*url.URL, error) {
	var token struct {
		NextPageToken string `json:"nextPageToken"`
	}
	if err := json.Unmarshal(page, &token); err != nil || token.NextPageToken == "" {
		return nil, err
	}
	next := *of
	query := next.Query()
	query.Set("pageToken", token.NextPageToken)
	next.RawQuery = query.Encode()
	return &next, nil
}
