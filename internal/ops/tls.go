// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// TLSFiles names the PEM files of a server. They are read again for each connection, so a rotated certificate or
// authority counts without a restart. The zero value means no TLS.
type TLSFiles struct {
	Cert     string // path of the certificate chain; empty means no TLS
	Key      string // path of its private key; set exactly when Cert is
	ClientCA string // path of the authorities whose clients are served; empty serves every client
}

// Validate returns an error when the files do not make sense together. It does not read them.
func (f TLSFiles) Validate() error {
	switch {
	case (f.Cert == "") != (f.Key == ""):
		return errKeyPair
	case f.ClientCA != "" && f.Cert == "":
		return errors.New("TLS: client authorities without a certificate of our own")
	}
	return nil
}

// errKeyPair is one rule for servers and clients.
var errKeyPair = errors.New("TLS: certificate and key go together, one of them is missing")

// Server returns the configuration of a server, or nil without TLS. It reads the files once now, so that a wrong
// path is an error at the start and not at the first connection. ClientAuth and ClientCAs of the result are
// those of now: a caller may look at them to see whether clients are checked.
func (f TLSFiles) Server() (*tls.Config, error) {
	if err := f.Validate(); err != nil {
		return nil, err
	}
	if f.Cert == "" {
		return nil, nil // no TLS is a valid answer, and http.Server reads it so
	}
	conf, err := f.load()
	if err != nil {
		return nil, err
	}
	conf.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return f.load() }
	return conf, nil
}

// load reads the files of a server.
func (f TLSFiles) load() (*tls.Config, error) {
	cert, err := loadKeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{"h2", "http/1.1"},
		Certificates: []tls.Certificate{*cert},
	}
	if f.ClientCA == "" {
		return conf, nil
	}
	if conf.ClientCAs, err = loadAuthorities(f.ClientCA); err != nil {
		return nil, err
	}
	conf.ClientAuth = tls.RequireAndVerifyClientCert
	return conf, nil
}

// ClientTLSFiles names the PEM files of a client. The zero value trusts the authorities of the system and shows
// no certificate.
type ClientTLSFiles struct {
	CA   string // path of the authorities that a server's certificate must come from; empty means the system's; read once
	Cert string // path of the certificate chain to show; empty shows none; read again for each connection
	Key  string // path of its private key; set exactly when Cert is; read again for each connection
}

// Client returns the configuration of a client. It reads all files once now, so that a wrong path is an error at
// the start and not at the first connection.
func (f ClientTLSFiles) Client() (*tls.Config, error) {
	if (f.Cert == "") != (f.Key == "") {
		return nil, errKeyPair
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS13}
	if f.CA != "" {
		authorities, err := loadAuthorities(f.CA)
		if err != nil {
			return nil, err
		}
		conf.RootCAs = authorities
	}
	if f.Cert == "" {
		return conf, nil
	}
	if _, err := loadKeyPair(f.Cert, f.Key); err != nil {
		return nil, err
	}
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return loadKeyPair(f.Cert, f.Key)
	}
	return conf, nil
}

func loadKeyPair(certPath, keyPath string) (*tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(certPath, keyPath)
	if err != nil {
		return nil, fmt.Errorf("load the certificate %s and its key %s: %w", certPath, keyPath, err)
	}
	return &cert, nil
}

func loadAuthorities(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load authorities: %w", err) // os names the path
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("load authorities %s: no certificate in it", path)
	}
	return pool, nil
}
