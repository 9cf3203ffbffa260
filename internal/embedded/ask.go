// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

const (
	maxAnswerBytes = 16 << 20
	maxQuotedBytes = 64 << 10 // of a log
	quotedLines    = 10
)

// Ask sends one statement over HTTP and returns the answer as tab-separated text. It is for the few statements of
// starting, testing and looking after a server; data goes through a ClickHouse client. An answer over 16 MiB is an
// error. The server sends the answer when it is whole, so that an error on the way has a status of its own. The
// connection is not kept: an idle one would delay the end of the server.
func (e Endpoint) Ask(ctx context.Context, sql string) (string, error) {
	address := url.URL{Scheme: "http", Host: e.HTTPAddress(), Path: "/", RawQuery: "wait_end_of_query=1"}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address.String(), strings.NewReader(sql))
	if err != nil {
		return "", fmt.Errorf("ask ClickHouse: %w", err)
	}
	request.Header.Set("X-ClickHouse-User", e.User)
	request.Header.Set("X-ClickHouse-Key", e.Password)
	if e.Database != "" {
		request.Header.Set("X-ClickHouse-Database", e.Database)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return "", fmt.Errorf("ask ClickHouse: %w", err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes+1))
	if err != nil {
		return "", fmt.Errorf("read answer of ClickHouse: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("ask ClickHouse: %s: %s", response.Status, strings.TrimSpace(string(answer)))
	}
	if len(answer) > maxAnswerBytes {
		return "", fmt.Errorf("read answer of ClickHouse: over %d bytes", maxAnswerBytes)
	}
	return string(answer), nil
}

// Attach returns the ways into a server that another process runs in a directory, such as a `gpufleet up` in the next
// terminal. It is an error if none answers.
func Attach(ctx context.Context, dir string) (writer, reader Endpoint, err error) {
	s, err := readState(layout(dir))
	if err != nil {
		return Endpoint{}, Endpoint{}, err
	}
	if s.HTTPPort == 0 {
		return Endpoint{}, Endpoint{}, fmt.Errorf("no embedded ClickHouse was ever started in %s", dir)
	}
	if s.Private {
		return Endpoint{}, Endpoint{}, fmt.Errorf("no embedded ClickHouse for others runs in %s", dir)
	}
	if _, err := s.writer().Ask(ctx, "SELECT 1"); err != nil {
		return Endpoint{}, Endpoint{}, fmt.Errorf("no embedded ClickHouse runs in %s: %w", dir, err)
	}
	return s.writer(), s.reader(), nil
}

// stackFrame is a line of a ClickHouse stack trace, which tells a reader nothing.
var stackFrame = regexp.MustCompile(`^\d+\. `)

// lastWords is what a child said before it went: the ends of its output and of its part of ClickHouse's log.
func lastWords(l layout, logStart int64) string {
	words := lastLines(readFrom(l.childLog(), 0))
	return strings.Join(append(words, lastLines(readFrom(l.log(), logStart))...), "\n")
}

// lastLines picks the last lines that say something.
func lastLines(text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && !stackFrame.MatchString(line) {
			lines = append(lines, line)
		}
	}
	return lines[max(0, len(lines)-quotedLines):]
}
