// SPDX-License-Identifier: Apache-2.0

package loopback

import (
	"net"
	"strconv"
	"testing"
)

func TestIs(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "127.1.2.3": true, "::1": true,
		"": false, "0.0.0.0": false, "::": false, "10.0.0.1": false, "localhost.example": false, "127.0.0.1.example": false,
	} {
		if got := Is(host); got != want {
			t.Errorf("%q: %t", host, got)
		}
	}
}

func TestFreeAddressIsOneThatNoClientTakes(t *testing.T) {
	for range 20 {
		free, err := FreeAddress(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		listener, err := net.Listen("tcp", free)
		if err != nil {
			t.Fatal(err)
		}
		port := listener.Addr().(*net.TCPAddr).Port
		if port < firstFreePort || port > lastFreePort {
			t.Errorf("port %d", port)
		}
		if err := Try(t.Context(), port); err == nil {
			t.Errorf("port %d is taken, and counts as free", port)
		}
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
		if err := Try(t.Context(), port); err != nil {
			t.Error(err)
		}
	}
}

func TestFreePortIsAnotherOne(t *testing.T) {
	first, err := FreePort(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := FreePort(t.Context(), first); err != nil || second == first {
		t.Errorf("%s, %v", strconv.Itoa(second), err)
	}
}
