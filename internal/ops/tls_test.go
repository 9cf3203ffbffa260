// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestServerWithoutFilesHasNoTLS(t *testing.T) {
	conf, err := TLSFiles{}.Server()
	if conf != nil || err != nil {
		t.Errorf("Server() = %v, %v; want neither", conf, err)
	}
}

func TestServerShowsWhetherClientsAreChecked(t *testing.T) {
	files := newAuthority(t).files(t, t.TempDir())
	for _, tt := range []struct {
		files TLSFiles
		want  tls.ClientAuthType
	}{
		{files, tls.RequireAndVerifyClientCert},
		{TLSFiles{Cert: files.Cert, Key: files.Key}, tls.NoClientCert},
	} {
		conf, err := tt.files.Server()
		if err != nil {
			t.Fatal(err)
		}
		if conf.ClientAuth != tt.want {
			t.Errorf("ClientAuth = %v with authorities %q, want %v", conf.ClientAuth, tt.files.ClientCA, tt.want)
		}
	}
}

func TestClientReadsARotatedCertificate(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t)
	server := ca.files(t, dir)
	cfg := config()
	cfg.TLS = server
	addr, _ := serve(t, cfg)

	client, err := ClientTLSFiles{CA: server.ClientCA, Cert: server.Cert, Key: server.Key}.Client()
	if err != nil {
		t.Fatal(err)
	}
	if _, body, err := get(t, "https://"+addr+"/healthz", client); err != nil || !strings.HasPrefix(body, `{"status":"alive"`) {
		t.Errorf("/healthz = %q, %v", body, err)
	}
	newAuthority(t).files(t, dir)
	ca.files(t, dir) // the same authority again, with another key of the node
	if _, body, err := get(t, "https://"+addr+"/healthz", client); err != nil || !strings.HasPrefix(body, `{"status":"alive"`) {
		t.Errorf("/healthz after the rotation = %q, %v", body, err)
	}
	for _, path := range []string{server.Cert, server.Key} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.GetClientCertificate(nil); err == nil {
		t.Error("the client still has the certificate that was taken away, so it does not read it again")
	}
}

func TestClientTrustsItsAuthoritiesAlone(t *testing.T) {
	cfg := config()
	cfg.TLS = newAuthority(t).files(t, t.TempDir())
	cfg.TLS.ClientCA = ""
	addr, _ := serve(t, cfg)
	other := newAuthority(t).files(t, t.TempDir())
	for _, files := range []ClientTLSFiles{{CA: other.ClientCA}, {}} {
		client, err := files.Client()
		if err != nil {
			t.Fatal(err)
		}
		if status, _, err := get(t, "https://"+addr+"/healthz", client); err == nil {
			t.Errorf("a client with authorities %q took the server's certificate: %d", files.CA, status)
		}
	}
}

func TestClientRefusesWhatItCannotHonour(t *testing.T) {
	dir := t.TempDir()
	good := newAuthority(t).files(t, dir)
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		files ClientTLSFiles
		want  string
	}{
		{"key missing", ClientTLSFiles{Cert: good.Cert}, "go together"},
		{"certificate missing", ClientTLSFiles{Key: good.Key}, "go together"},
		{"no such certificate", ClientTLSFiles{Cert: "gone.pem", Key: good.Key}, "gone.pem"},
		{"no such authority", ClientTLSFiles{CA: "gone.pem"}, "gone.pem"},
		{"empty authority", ClientTLSFiles{CA: empty}, "no certificate in it"},
	} {
		if conf, err := tt.files.Client(); conf != nil || err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Client() = %v, %v; want an error with %q", tt.name, conf, err, tt.want)
		}
	}
}
