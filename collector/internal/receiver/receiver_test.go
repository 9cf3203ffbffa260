// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"errors"
	"net"
	"testing"

	"google.golang.org/grpc"
)

// TestEndedBeforeItBegan is an end like any other.
func TestEndedBeforeItBegan(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	server.Stop() // as the end of the context does it, which may come first
	if err := serveUntil(t.Context(), server, listener, 0); err != nil {
		t.Error(err)
	}
	if err := listener.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is open still: %v", err)
	}
}
