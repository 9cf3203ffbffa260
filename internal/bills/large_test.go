// SPDX-License-Identifier: Apache-2.0

package bills

import (
	"io"
	"runtime"
	"strings"
	"testing"
)

// repeated is a text with a beginning, and a line as often as wanted.
type repeated struct {
	rest, line string
	times      int
	read       int64
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.rest == "" {
		if r.times == 0 {
			return 0, io.EOF
		}
		r.rest = r.line
		r.times--
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	r.read += int64(n)
	return n, nil
}

// TestLargeBill: what is held in memory does not grow with the bill.
func TestLargeBill(t *testing.T) {
	const rows = 40_000
	text := &repeated{
		rest: strings.Join(needed, ",") + ",EffectiveCost,ProviderName,ResourceId\n", times: rows,
		line: "1.25,USD,2026-10-01,Usage,2026-10-02,2026-10-03,1.25,AWS,i-" + strings.Repeat("0", 200) + "\n",
	}
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	count, highest := 0, uint64(0)
	err := ReadCSV(text, "large.csv", func(c Charge) error {
		if count++; count%10_000 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&now)
			highest = max(highest, now.HeapAlloc)
		}
		if len(c.Reasons) > 0 {
			t.Fatalf("%+v", c.Reasons)
		}
		return nil
	})
	if err != nil || count != rows || text.read < 10_000_000 {
		t.Fatalf("%d rows of %d bytes, %v", count, text.read, err)
	}
	if held := int64(highest) - int64(before.HeapAlloc); held > 2<<20 {
		t.Errorf("%d bytes were held of %d", held, text.read)
	}
}
