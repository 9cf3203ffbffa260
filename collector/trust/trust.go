// SPDX-License-Identifier: Apache-2.0

// Package trust is by what a collector knows agents now: the fleet keys, the tokens that are revoked, the authorities of
// client certificates, and what these have revoked. It promises that what its files say counts, for streams that run too, from the next look on (Run
// looks every few seconds, and when it is told to); and that a file that cannot be read whole leaves in force what was.
// Run is its one goroutine, the caller's.
package trust

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/gpufleet/gpufleet/internal/token"
)

// ErrTokenRevoked is an error of Verify.
var ErrTokenRevoked = errors.New("token was revoked")

// Errors of Check.
var (
	ErrExpired   = errors.New("client certificate has expired")
	ErrRevoked   = errors.New("client certificate was revoked")
	ErrUntrusted = errors.New("client certificate comes from an authority that is not trusted any more")
)

// Trust is safe for use by several goroutines.
type Trust struct {
	files  Files
	logger *slog.Logger

	mu      sync.Mutex // guards the fields below
	now     known
	stamps  []stamp
	checked map[[sha256.Size]byte]verdict // on certificates, since the last change
	changed chan struct{}                 // closed and renewed at each change
}

// verdict is what came of a certificate.
type verdict struct {
	err   error     // why it does not count
	until time.Time // if it does: when one of those ends by which it does; zero: nobody had to look
}

func (v verdict) holds(at time.Time) bool { return v.until.IsZero() || !at.After(v.until) }

// known is what the files say.
type known struct {
	keys        []token.Key
	tokens      token.Revoked
	authorities *x509.CertPool  // nil: whoever made the connection has checked
	revoked     map[string]bool // by issuer and serial number
}

// Static trusts such keys for good, and the certificates that the connection has checked.
func Static(keys []token.Key) *Trust {
	return &Trust{now: known{keys: keys}, checked: map[[sha256.Size]byte]verdict{}, changed: make(chan struct{})}
}

// Open reads the files.
func Open(files Files, logger *slog.Logger) (*Trust, error) {
	t := Static(nil)
	t.files, t.logger = files, logger
	t.stamps = files.stamps()
	var err error
	t.now, err = files.read()
	return t, err
}

// Verify gives what the token of a node claims, if it counts now: see token.Verify. One that is revoked does not.
func (t *Trust) Verify(node, sent string, now time.Time) (c token.Claims, err error) {
	t.mu.Lock()
	keys, revoked := t.now.keys, t.now.tokens
	t.mu.Unlock()
	if c, err = token.Verify(keys, node, sent, now); err != nil {
		return c, err
	}
	if revoked.Has(sent) {
		return token.Claims{}, ErrTokenRevoked
	}
	return c, nil
}

// Keys are the fleet keys in force. Callers must not change them.
func (t *Trust) Keys() []token.Key {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now.keys
}

// Changed is closed at the next change.
func (t *Trust) Changed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changed
}

// Check tells why a certificate, which was verified when its connection was made, does not count now; the others of its
// chain follow it. Each is verified once after a change, however many streams show it; nobody waits for that of another.
func (t *Trust) Check(chain []*x509.Certificate, at time.Time) error {
	for _, c := range chain {
		if at.After(c.NotAfter) {
			return fmt.Errorf("%w at %s", ErrExpired, c.NotAfter.Format(time.RFC3339))
		}
	}
	sum := sha256.Sum256(chain[0].Raw)
	t.mu.Lock()
	v, checked := t.checked[sum]
	now, changed := t.now, t.changed
	t.mu.Unlock()
	if checked && v.holds(at) {
		return v.err
	}
	v = now.check(chain, at)
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](v.err); ok && invalid.Reason == x509.Expired {
		return v.err // or not begun yet, its authority's too: that passes without a change
	}
	t.remember(sum, v, changed)
	return v.err
}

// remember keeps what came of a certificate, unless there was a change since it was begun.
func (t *Trust) remember(sum [sha256.Size]byte, v verdict, changed <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if changed != t.changed {
		return
	}
	if len(t.checked) >= maxChecked {
		clear(t.checked)
	}
	t.checked[sum] = v
}

// maxChecked bounds the memory for certificates, of which some live an hour.
const maxChecked = 1 << 16

// check looks at all but the end of the certificates that are shown.
func (k known) check(chain []*x509.Certificate, now time.Time) verdict {
	if slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return k.revoked[serial(c.RawIssuer, c.SerialNumber)] }) {
		return verdict{err: ErrRevoked}
	}
	if k.authorities == nil {
		return verdict{}
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	ways, err := chain[0].Verify(x509.VerifyOptions{
		Roots: k.authorities, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return verdict{err: fmt.Errorf("%w: %w", ErrUntrusted, err)}
	}
	var v verdict
	for _, way := range ways {
		if end := firstEnd(way); end.After(v.until) {
			v.until = end
		}
	}
	return v
}

// firstEnd is when the first of some certificates ends.
func firstEnd(way []*x509.Certificate) time.Time {
	return slices.MinFunc(way, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) }).NotAfter
}

// Reload reads the files anew.
func (t *Trust) Reload() error {
	stamps := t.files.stamps() // before: a change while they are read is seen at the next look
	next, err := t.files.read()
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		return err // and the next look tries again, whether the files have changed by then or not
	}
	t.stamps = stamps
	t.now = next
	clear(t.checked)
	close(t.changed)
	t.changed = make(chan struct{})
	return nil
}

// lookEvery is how often files are looked at.
const lookEvery = 5 * time.Second

// sayEvery is how often it is said at most that files cannot be read, and the same why.
const sayEvery = time.Minute

// Run reads the files anew when told to, and when one of them has changed, until the context ends.
func (t *Trust) Run(ctx context.Context, told <-chan struct{}) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	var said time.Time // when it was last said why they cannot be read
	var why string
	for {
		select {
		case <-ctx.Done():
			return
		case <-told:
		case <-ticker.C:
			if !t.differs() {
				continue
			}
		}
		if err := t.Reload(); err != nil {
			if err.Error() != why || time.Since(said) >= sayEvery {
				said, why = time.Now(), err.Error()
				t.logger.Error("what agents are known by cannot be read anew: what was in force stays so", "error", err)
			}
			continue
		}
		why = ""
		t.logger.Info("what agents are known by was read anew; streams that are not proved by it end", "fleet_keys", len(t.Keys()))
	}
}

func (t *Trust) differs() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !slices.Equal(t.stamps, t.files.stamps())
}
