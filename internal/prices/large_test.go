// SPDX-License-Identifier: Apache-2.0

package prices

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
)

// largeOffer is an offer file as large as wanted, made as it is read: most of it is of machines without GPUs.
type largeOffer struct {
	products, terms int // yet to come of each
	sku             int
	rest            string
	state           int
}

func (l *largeOffer) Read(p []byte) (int, error) {
	for l.rest == "" {
		if !l.next() {
			return 0, io.EOF
		}
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// next writes the next piece: false at the end.
func (l *largeOffer) next() bool {
	switch {
	case l.state == 0:
		l.rest, l.state = `{"products":{`+product("G", "p5.48xlarge"), 1
	case l.products > 0:
		l.products--
		l.sku++
		l.rest = "," + product(fmt.Sprint("S", l.sku), "m5.large")
	case l.state == 1:
		l.rest, l.state, l.sku = `},"terms":{"OnDemand":{`+terms("G", "55.04"), 2, 0
	case l.terms > 0:
		l.terms--
		l.sku++
		l.rest = "," + terms(fmt.Sprint("S", l.sku), "0.1")
	case l.state == 2:
		l.rest, l.state = `}}}`, 3
	default:
		return false
	}
	return true
}

// TestLargeOfferFile: what is held in memory does not grow with the file. AWS's largest have more than a gigabyte, which
// has the same pieces as these 20 MB.
func TestLargeOfferFile(t *testing.T) {
	const pieces = 50_000
	highest, read := uint64(0), int64(0)
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	watched := readerFunc(func() func(p []byte) (int, error) {
		file := &largeOffer{products: pieces, terms: pieces}
		looked := int64(0)
		return func(p []byte) (int, error) {
			n, err := file.Read(p)
			read += int64(n)
			if read-looked > 8<<20 {
				looked = read
				var now runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&now)
				highest = max(highest, now.HeapAlloc)
			}
			return n, err
		}
	}())
	quotes, err := ReadAWS(watched, "large.json")
	if err != nil || len(quotes) != 1 || quotes[0].Hourly.String() != "55.04" {
		t.Fatalf("%v, %v", quotes, err)
	}
	if read < 20<<20 {
		t.Errorf("only %d bytes were read", read)
	}
	if held := int64(highest) - int64(before.HeapAlloc); held > 4<<20 {
		t.Errorf("%d bytes were held of %d", held, read)
	}
	if _, err := ReadAWS(strings.NewReader(`{"products":{`), "cut.json"); err == nil {
		t.Error("a file that breaks off")
	}
}
