// SPDX-License-Identifier: Apache-2.0

package place

import (
	"context"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// TestAHangEndsWithTheCap measures in virtual time: a second for all that is asked, not for each.
func TestAHangEndsWithTheCap(t *testing.T) {
	tests := []struct {
		name string
		h    http.Handler
	}{
		{"before an answer", http.HandlerFunc(hang)},
		{"in the middle of the answer", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Metadata-Flavor", "Google")
			w.Header().Set("Content-Length", "100")
			if _, err := io.WriteString(w, "{"); err == nil {
				http.NewResponseController(w).Flush() //nolint:errcheck // the client may be gone
			}
			hang(w, r)
		})},
		{"one byte at a time", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, "{"); err != nil {
					return
				}
				http.NewResponseController(w).Flush() //nolint:errcheck // the client may be gone
				select {
				case <-time.After(10 * time.Millisecond):
				case <-r.Context().Done():
				}
			}
		})},
	}
	for _, tt := range tests {
		for _, provider := range []string{AWS, Azure, GCP, OCI, Nebius} {
			t.Run(provider+" hangs "+tt.name, func(t *testing.T) {
				dmi := firmware(t, tablesOf(provider))
				synctest.Test(t, func(t *testing.T) {
					began := time.Now()
					_, reasons := Probe(t.Context(), Config{DMI: dmi, dial: overPipes(t, tt.h)})
					if took := time.Since(began); took != time.Second {
						t.Errorf("took %s, want a second", took)
					}
					wantReason(t, reasons, provider, "no answer in time (1s for all)")
				})
			})
		}
	}
}

// TestOneKeyThatHangs costs its own value, and the time.
func TestOneKeyThatHangs(t *testing.T) {
	dmi, cloud := firmware(t, tablesOf(AWS)), newCloud(t, AWS)
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		p, reasons := Probe(t.Context(), Config{DMI: dmi, dial: overPipes(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == awsZoneID {
				hang(w, r)
				return
			}
			cloud.ServeHTTP(w, r)
		}))})
		if took := time.Since(began); took != time.Second {
			t.Errorf("took %s, want a second", took)
		}
		if p.ZoneID != "" || p.Region != "us-east-1" || p.PlacementGroup != "train-a" {
			t.Errorf("%+v", p)
		}
		wantReason(t, reasons, AWS, "availability-zone-id: no answer in time")
	})
}

// TestAnIdentityEndsTheRace: four services that hang do not hold up the fifth.
func TestAnIdentityEndsTheRace(t *testing.T) {
	dmi, cloud := t.TempDir(), newCloud(t, OCI)
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		p, reasons := Probe(t.Context(), Config{DMI: dmi, dial: overPipes(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") == "" {
				hang(w, r)
				return
			}
			cloud.ServeHTTP(w, r)
		}))})
		if took := time.Since(began); took != 0 {
			t.Errorf("took %s of virtual time, in which nothing but the hanging ones waits", took)
		}
		if p.Provider != OCI {
			t.Errorf("%+v", p)
		}
		for _, r := range reasons {
			if r.Probe != FromKubernetes {
				t.Errorf("nobody was waited for, so there is no reason: %v", r)
			}
		}
	})
}

// TestTheHopLimitIsNamed: the token's answer does not come, and everything else does.
func TestTheHopLimitIsNamed(t *testing.T) {
	dmi, cloud := firmware(t, tablesOf(AWS)), newCloud(t, AWS)
	synctest.Test(t, func(t *testing.T) {
		p, reasons := Probe(t.Context(), Config{DMI: dmi, dial: overPipes(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut {
				hang(w, r)
				return
			}
			cloud.ServeHTTP(w, r)
		}))})
		wantReason(t, reasons, AWS, "set the instance's metadata hop limit to 2, or use hostNetwork")
		if p.InstanceID == "" || p.Sources["instance_id"] != FromDMI {
			t.Errorf("%+v", p)
		}
	})
}

// TestAnAPIServerThatHangs has a cap of its own, as TLS needs a real network.
func TestAnAPIServerThatHangs(t *testing.T) {
	k := clusterOf(t, fakeNode, http.HandlerFunc(hang))
	_, reasons := Probe(t.Context(), Config{Known: Place{Provider: "own"}, DMI: t.TempDir(), Kubernetes: k, Cap: 50 * time.Millisecond})
	wantReason(t, reasons, FromKubernetes, "no answer in time")
}

// TestAProbeEndsWithItsCaller does not wait for the cap.
func TestAProbeEndsWithItsCaller(t *testing.T) {
	dmi := firmware(t, tablesOf(AWS))
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began := time.Now()
		Probe(ctx, Config{DMI: dmi, dial: overPipes(t, http.HandlerFunc(hang))})
		if took := time.Since(began); took != 100*time.Millisecond {
			t.Errorf("took %s", took)
		}
	})
}
