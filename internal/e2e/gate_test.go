// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"io"
	"math"
	"net"
	"sync"
	"testing"
)

// gate is a way to a server that can be closed: then nothing answers at its address, as if the server were stopped.
type gate struct {
	t       *testing.T
	address string
	target  string
	ended   sync.WaitGroup

	mu       sync.Mutex // guards the fields below
	listener net.Listener
	conns    map[net.Conn]struct{}
	closed   bool
	cut      func() int64 // after how many bytes to the server a connection breaks; nil: never
	cuts     int          // connections that broke so
	deaf     bool         // the server's next word on a connection is lost, and breaks it
	unheard  int          // connections that broke so
}

func newGate(t *testing.T, target string) *gate {
	t.Helper()
	g := &gate{t: t, target: target, address: "127.0.0.1:0", conns: map[net.Conn]struct{}{}}
	g.open()
	t.Cleanup(g.close)
	return g
}

// gateBehind is a gate to which a listener leads.
func gateBehind(t *testing.T, listener net.Listener, target string) *gate {
	t.Helper()
	g := &gate{t: t, target: target, conns: map[net.Conn]struct{}{}}
	g.serve(listener)
	return g
}

func (g *gate) open() {
	g.t.Helper()
	listener, err := net.Listen("tcp", g.address)
	if err != nil {
		g.t.Fatal(err)
	}
	g.serve(listener)
}

func (g *gate) serve(listener net.Listener) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.listener, g.address, g.closed = listener, listener.Addr().String(), false
	g.ended.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			g.ended.Go(func() { g.join(conn) })
		}
	})
}

// enter notes the ends of a new connection, and after how many bytes it is to break. A gate that was closed after it
// had accepted lets nobody in.
func (g *gate) enter(near, far net.Conn) (limit int64, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return 0, false
	}
	g.conns[near], g.conns[far] = struct{}{}, struct{}{}
	if g.cut == nil {
		return math.MaxInt64, true
	}
	return g.cut(), true
}

// unheardOf tells whether what the server says is lost from now on.
func (g *gate) unheardOf() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.deaf {
		g.unheard++
	}
	return g.deaf
}

// loseAnswers has what the server says lost: of an INSERT that landed nobody hears.
func (g *gate) loseAnswers(lose bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.deaf = lose
}

func (g *gate) unheardCount() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.unheard
}

// leave forgets a connection that has ended.
func (g *gate) leave(near, far net.Conn, cut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, near)
	delete(g.conns, far)
	if cut {
		g.cuts++
	}
}

// join copies both ways until one side or the gate closes.
func (g *gate) join(near net.Conn) {
	defer near.Close()
	far, err := net.Dial("tcp", g.target)
	if err != nil {
		return
	}
	defer far.Close()
	limit, ok := g.enter(near, far)
	if !ok {
		return
	}
	var sent int64
	var both sync.WaitGroup
	both.Go(func() {
		sent, _ = io.CopyN(far, near, limit)
		_ = near.Close()
		_ = far.Close()
	})
	both.Go(func() {
		_, _ = io.Copy(near, ears{far, g})
		_ = near.Close()
		_ = far.Close()
	})
	both.Wait()
	g.leave(near, far, sent == limit)
}

// ears are what a gate hears of a server. While it is deaf they are deafened by the first word.
type ears struct {
	net.Conn
	g *gate
}

// Read implements io.Reader.
func (e ears) Read(into []byte) (int, error) {
	n, err := e.Conn.Read(into)
	if n > 0 && e.g.unheardOf() {
		return 0, io.EOF
	}
	return n, err
}

// cutAfter has new connections break after as many bytes as a function says; nil ends that.
func (g *gate) cutAfter(bytes func() int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cut = bytes
}

func (g *gate) cutCount() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cuts
}

// breakAll breaks what is open.
func (g *gate) breakAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for conn := range g.conns {
		_ = conn.Close()
	}
}

// close breaks what is open and refuses what comes.
func (g *gate) close() {
	g.mu.Lock()
	g.closed = true
	_ = g.listener.Close()
	for conn := range g.conns {
		_ = conn.Close()
	}
	g.mu.Unlock()
	g.ended.Wait()
}
