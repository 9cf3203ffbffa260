// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"fmt"
	"io"
	"log/slog"
)

// NewLogger returns a logger that writes to w, or an error that names the value it does not know.
// The level is "debug", "info", "warn" or "error", in any case and with slog's offsets ("info+2").
// The format is "text" for people or "json" for log stores. Times are in UTC, as every time of gpufleet is.
func NewLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var threshold slog.Level
	if err := threshold.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q: want debug, info, warn or error", level)
	}
	opts := &slog.HandlerOptions{Level: threshold, ReplaceAttr: utc}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	default:
		return nil, fmt.Errorf("log format %q: want text or json", format)
	}
}

// utc keeps the log of a fleet that spans time zones in one order.
func utc(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindTime {
		a.Value = slog.TimeValue(a.Value.Time().UTC())
	}
	return a
}
