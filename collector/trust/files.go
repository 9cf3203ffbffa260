// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"time"

	"github.com/gpufleet/gpufleet/internal/token"
)

// Files name what agents are known by.
type Files struct {
	FleetKeys string // "": tokens are not asked for
	Tokens    string // list of tokens that are revoked (token.ReadRevoked); "": none
	ClientCA  string // PEM; "": no client certificates are asked for
	Revoked   string // PEM or DER, certificate revocation lists of those authorities; "": none
}

// stamp tells whether a file has changed.
type stamp struct {
	at    time.Time
	size  int64
	there bool
}

func (f Files) stamps() []stamp {
	var stamps []stamp
	for _, path := range []string{f.FleetKeys, f.Tokens, f.ClientCA, f.Revoked} {
		info, err := os.Stat(path)
		if path == "" || err != nil {
			stamps = append(stamps, stamp{})
			continue
		}
		stamps = append(stamps, stamp{info.ModTime(), info.Size(), true})
	}
	return stamps
}

// read reads all of them.
func (f Files) read() (k known, err error) {
	if f.FleetKeys != "" {
		if k.keys, err = token.ReadKeys(f.FleetKeys); err != nil {
			return known{}, err
		}
	}
	if f.Tokens != "" && f.FleetKeys == "" {
		return known{}, errors.New("a list of revoked tokens without the fleet keys that tokens are made under")
	}
	if f.Tokens != "" {
		if k.tokens, err = token.ReadRevoked(f.Tokens); err != nil {
			return known{}, err
		}
	}
	if f.Revoked != "" && f.ClientCA == "" {
		return known{}, errors.New("a list of revoked certificates without the authorities that they come from")
	}
	if f.ClientCA == "" {
		return k, nil
	}
	authorities, err := readCertificates(f.ClientCA)
	if err != nil {
		return known{}, fmt.Errorf("read client authorities %s: %w", f.ClientCA, err)
	}
	k.authorities = x509.NewCertPool()
	for _, c := range authorities {
		k.authorities.AddCert(c)
	}
	if f.Revoked == "" {
		return k, nil
	}
	if k.revoked, err = readRevoked(f.Revoked, authorities); err != nil {
		return known{}, fmt.Errorf("read revoked certificates %s: %w", f.Revoked, err)
	}
	return k, nil
}

func readCertificates(path string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var found []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		found = append(found, c)
	}
	if len(found) == 0 {
		return nil, errors.New("no certificate in it")
	}
	return found, nil
}

// readRevoked reads lists, each of which one of the authorities must have signed.
func readRevoked(path string, authorities []*x509.Certificate) (map[string]bool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var lists [][]byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		lists = append(lists, block.Bytes)
	}
	if lists == nil {
		lists = [][]byte{text}
	}
	revoked := map[string]bool{}
	for _, der := range lists {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, err
		}
		if err := signed(list, authorities); err != nil {
			return nil, err
		}
		for _, entry := range list.RevokedCertificateEntries {
			revoked[serial(list.RawIssuer, entry.SerialNumber)] = true
		}
	}
	return revoked, nil
}

func signed(list *x509.RevocationList, authorities []*x509.Certificate) error {
	for _, c := range authorities {
		if list.CheckSignatureFrom(c) == nil {
			return nil
		}
	}
	return fmt.Errorf("the list of %s is signed by none of the client authorities: add the one that issued it to --tls-client-ca", list.Issuer)
}

// serial names a certificate.
func serial(issuer []byte, number *big.Int) string { return string(issuer) + "\n" + number.Text(16) }
