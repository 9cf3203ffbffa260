// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/gpufleet/gpufleet/internal/token"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// authority signs.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := authority{key: key}
	a.cert = a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, nil)
	return a
}

// sign makes a certificate of an hour, unless it has an end; an authority's own if parent is nil.
func (a authority) sign(t *testing.T, template, parent *x509.Certificate) *x509.Certificate {
	t.Helper()
	template.NotBefore = begin
	if template.NotAfter.IsZero() {
		template.NotAfter = begin.Add(time.Hour)
	}
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func (a authority) leaf(t *testing.T, use x509.ExtKeyUsage) []*x509.Certificate {
	t.Helper()
	leaf := a.sign(t, &x509.Certificate{SerialNumber: big.NewInt(7), DNSNames: []string{"node-1"}, ExtKeyUsage: []x509.ExtKeyUsage{use}}, a.cert)
	return []*x509.Certificate{leaf, a.cert}
}

func (a authority) list(t *testing.T, serials ...int64) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: begin, NextUpdate: begin.Add(time.Hour)}
	for _, s := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: begin})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func write(t *testing.T, path, kind string, der ...[]byte) string {
	t.Helper()
	var text []byte
	for _, one := range der {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: one})...)
	}
	if kind == "" {
		text = der[0]
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestTokens: a list of revoked ones needs keys, and one that cannot be read leaves in force what was.
func TestTokens(t *testing.T) {
	dir, key := t.TempDir(), token.NewKey()
	files := Files{Tokens: filepath.Join(dir, "revoked")}
	list := func(text string) {
		t.Helper()
		if err := os.WriteFile(files.Tokens, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list(token.ID(key.For("node-1")))
	if _, err := Open(files, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "without the fleet keys") {
		t.Errorf("without keys: %v", err)
	}
	files.FleetKeys = filepath.Join(dir, "keys")
	if err := token.WriteKey(files.FleetKeys, key); err != nil {
		t.Fatal(err)
	}
	known, err := Open(files, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	verify := func(want error) {
		t.Helper()
		if _, err := known.Verify("node-1", key.For("node-1"), begin); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	verify(ErrTokenRevoked)
	if list("not an id"); known.Reload() == nil {
		t.Error("a list that is none was taken")
	}
	verify(ErrTokenRevoked)
	if !known.differs() {
		t.Error("what could not be read is not looked at again")
	}
	list("# all count\n")
	if err := known.Reload(); err != nil {
		t.Fatal(err)
	}
	verify(nil)
}

func TestCheck(t *testing.T) {
	ours, more, theirs := newAuthority(t, "ours"), newAuthority(t, "more"), newAuthority(t, "theirs")
	dir := t.TempDir()
	now := begin.Add(time.Minute)
	for name, c := range map[string]struct {
		authorities [][]byte
		revoked     []byte
		kind        string // of revoked; "": DER as it is
		chain       []*x509.Certificate
		at          time.Time
		want        error
	}{
		"good":                          {[][]byte{theirs.cert.Raw, ours.cert.Raw}, nil, "", ours.leaf(t, x509.ExtKeyUsageClientAuth), now, nil},
		"of another authority":          {[][]byte{theirs.cert.Raw}, nil, "", ours.leaf(t, x509.ExtKeyUsageClientAuth), now, ErrUntrusted},
		"of a server":                   {[][]byte{ours.cert.Raw}, nil, "", ours.leaf(t, x509.ExtKeyUsageServerAuth), now, ErrUntrusted},
		"expired":                       {[][]byte{ours.cert.Raw}, nil, "", ours.leaf(t, x509.ExtKeyUsageClientAuth), begin.Add(time.Hour + time.Second), ErrExpired},
		"revoked":                       {[][]byte{ours.cert.Raw}, ours.list(t, 5, 7), "X509 CRL", ours.leaf(t, x509.ExtKeyUsageClientAuth), now, ErrRevoked},
		"revoked, in DER":               {[][]byte{ours.cert.Raw}, ours.list(t, 7), "", ours.leaf(t, x509.ExtKeyUsageClientAuth), now, ErrRevoked},
		"another one is revoked":        {[][]byte{ours.cert.Raw}, ours.list(t, 5), "X509 CRL", ours.leaf(t, x509.ExtKeyUsageClientAuth), now, nil},
		"another authority revoked a 7": {[][]byte{ours.cert.Raw, more.cert.Raw}, more.list(t, 7), "X509 CRL", ours.leaf(t, x509.ExtKeyUsageClientAuth), now, nil},
		"its authority revoked itself":  {[][]byte{ours.cert.Raw}, ours.list(t, 1), "X509 CRL", ours.leaf(t, x509.ExtKeyUsageClientAuth), now, ErrRevoked},
	} {
		t.Run(name, func(t *testing.T) {
			files := Files{ClientCA: write(t, filepath.Join(dir, "ca"), "CERTIFICATE", c.authorities...)}
			if c.revoked != nil {
				files.Revoked = write(t, filepath.Join(dir, "crl"), c.kind, c.revoked)
			}
			known, err := Open(files, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time it is known
				if err := known.Check(c.chain, c.at); !errors.Is(err, c.want) {
					t.Errorf("Check = %v, want %v", err, c.want)
				}
			}
		})
	}
}

// TestCheckKeepsNothingOfTheTime: what does not count yet counts later, without a change.
func TestCheckKeepsNothingOfTheTime(t *testing.T) {
	ours := newAuthority(t, "ours")
	known, err := Open(Files{ClientCA: write(t, filepath.Join(t.TempDir(), "ca"), "CERTIFICATE", ours.cert.Raw)}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	chain := ours.leaf(t, x509.ExtKeyUsageClientAuth)
	if err := known.Check(chain, begin.Add(-time.Minute)); !errors.Is(err, ErrUntrusted) {
		t.Errorf("before it begins: %v", err)
	}
	if err := known.Check(chain, begin.Add(time.Minute)); err != nil {
		t.Errorf("after that: %v", err)
	}
}

// TestCheckEndsWithTheAuthority, which may end before the certificates that it signed, and is not shown with them.
func TestCheckEndsWithTheAuthority(t *testing.T) {
	ours := newAuthority(t, "ours")
	short := *ours.cert
	short.NotAfter = begin.Add(30 * time.Minute)
	known, err := Open(Files{ClientCA: write(t, filepath.Join(t.TempDir(), "ca"), "CERTIFICATE", ours.sign(t, &short, nil).Raw)}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	leaf := ours.leaf(t, x509.ExtKeyUsageClientAuth)[:1]
	if err := known.Check(leaf, begin.Add(time.Minute)); err != nil {
		t.Errorf("before the authority ends: %v", err)
	}
	if err := known.Check(leaf, begin.Add(31*time.Minute)); !errors.Is(err, ErrUntrusted) {
		t.Errorf("after that: %v", err)
	}
}

// TestCheckHoldsUpNobody: while a certificate is verified tokens are, and a change that comes meanwhile counts.
func TestCheckHoldsUpNobody(t *testing.T) {
	ours := newAuthority(t, "ours")
	dir := t.TempDir()
	files := Files{ClientCA: write(t, filepath.Join(dir, "ca"), "CERTIFICATE", ours.cert.Raw), Revoked: write(t, filepath.Join(dir, "crl"), "", ours.list(t, 5))}
	known, err := Open(files, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	verified := 0
	known.now.authorities = x509.NewCertPool()
	known.now.authorities.AddCertWithConstraint(ours.cert, func([]*x509.Certificate) error {
		verified++
		if !known.mu.TryLock() {
			return errors.New("the lock is held")
		}
		known.mu.Unlock()
		write(t, files.Revoked, "", ours.list(t, 5, 7))
		return known.Reload()
	})
	chain := ours.leaf(t, x509.ExtKeyUsageClientAuth)
	if err := known.Check(chain, begin.Add(time.Minute)); err != nil || verified != 1 {
		t.Errorf("before the change: %v, verified %d times", err, verified)
	}
	if err := known.Check(chain, begin.Add(time.Minute)); !errors.Is(err, ErrRevoked) {
		t.Errorf("after it: %v", err)
	}
}

// TestBadFilesAreRefused at the start, and change nothing later.
func TestBadFilesAreRefused(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	if err := token.WriteKey(keys, token.NewKey()); err != nil {
		t.Fatal(err)
	}
	ca := write(t, filepath.Join(dir, "ca"), "CERTIFICATE", ours.cert.Raw)
	junk := write(t, filepath.Join(dir, "junk"), "", []byte("nothing"))
	for name, c := range map[string]struct {
		files Files
		want  string
	}{
		"no such keys":                {Files{FleetKeys: "gone"}, "gone"},
		"no keys in it":               {Files{FleetKeys: junk}, "junk line 1"},
		"no such authorities":         {Files{ClientCA: "gone"}, "gone"},
		"no authorities in it":        {Files{ClientCA: junk}, "no certificate"},
		"no list":                     {Files{ClientCA: ca, Revoked: junk}, "junk"},
		"a list that somebody signed": {Files{ClientCA: ca, Revoked: write(t, filepath.Join(dir, "crl"), "X509 CRL", theirs.list(t, 7))}, "signed by none"},
		"a list without authorities":  {Files{Revoked: filepath.Join(dir, "crl")}, "without the authorities"},
	} {
		if _, err := Open(c.files, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	known, err := Open(Files{FleetKeys: keys, ClientCA: ca}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	before, changed := known.Keys(), known.Changed()
	write(t, keys, "", []byte("half a ke"))
	if err := known.Reload(); err == nil {
		t.Error("half a file was taken")
	}
	select {
	case <-changed:
		t.Error("a change was told")
	default:
	}
	if after := known.Keys(); len(after) != 1 || after[0] != before[0] {
		t.Error("the keys that were in force are not any more")
	}
}

// TestRun takes up a changed file by itself, and at once when it is told to; a file that did not change it leaves alone.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "keys")
		written := begin
		renew := func() token.Key {
			_ = os.Remove(path)
			k := token.NewKey()
			written = written.Add(time.Second) // file systems tell times of milliseconds apart, and the test takes less
			if err := errors.Join(token.WriteKey(path, k), os.Chtimes(path, written, written)); err != nil {
				t.Fatal(err)
			}
			return k
		}
		renew()
		known, err := Open(Files{FleetKeys: path}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		told := make(chan struct{})
		var running sync.WaitGroup
		running.Go(func() { known.Run(ctx, told) })
		changes := func(wait time.Duration) bool {
			timer := time.NewTimer(wait)
			defer timer.Stop()
			select {
			case <-known.Changed():
				return true
			case <-timer.C:
				return false
			}
		}
		if changes(3 * lookEvery) {
			t.Error("a file that is the same was a change")
		}
		next := renew()
		if !changes(2*lookEvery) || known.Keys()[0] != next {
			t.Error("a changed file was not taken up")
		}
		next = renew()
		changed := known.Changed()
		told <- struct{}{}
		<-changed
		if known.Keys()[0] != next {
			t.Error("not taken up when told to")
		}
		cancel()
		running.Wait()
	})
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// TestRunSaysItOnceAMinute, and tries at each look.
func TestRunSaysItOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "keys")
		key := token.NewKey()
		if err := token.WriteKey(path, key); err != nil {
			t.Fatal(err)
		}
		var log lines
		known, err := Open(Files{FleetKeys: path}, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { known.Run(ctx, nil) })
		want := func(after time.Duration, times int) {
			t.Helper()
			<-time.After(after) // of the bubble's clock
			synctest.Wait()
			if got := strings.Count(log.String(), "cannot be read anew"); got != times {
				t.Errorf("said %d times, want %d:\n%s", got, times, log.String())
			}
		}
		want(lookEvery+time.Second, 1)
		want(sayEvery-2*time.Second, 1)
		want(2*lookEvery, 2)
		if err := token.WriteKey(path, key); err != nil {
			t.Fatal(err)
		}
		want(2*lookEvery, 2)
		if !strings.Contains(log.String(), "was read anew") {
			t.Errorf("not taken up:\n%s", log.String())
		}
		cancel()
		running.Wait()
	})
}
