// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Hello opens a stream: who sends, which table, and from where on.
//
//	 0         4       5      8        16       24          26
//	┌─────────┬───────┬──────┬────────┬────────┬───────────┬───────────┐
//	│ "GFH" 1 │ table │ zero │ epoch  │ oldest │ length    │ node name │
//	│         │ u8    │ 3    │ uint64 │ uint64 │ uint16    │ UTF-8     │
//	└─────────┴───────┴──────┴────────┴────────┴───────────┴───────────┘
type Hello struct {
	Table  uint8
	Epoch  uint64
	Oldest uint64 // lowest sequence that the agent does not know to be stored
	Name   string // of the node; NodeID(Name) is the node of every batch in the stream
}

const helloBytes = 26

// Append appends the encoded hello.
func (h Hello) Append(b []byte) []byte {
	b = append(b, helloMagic[:]...)
	b = append(b, h.Table, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, h.Epoch)
	b = binary.LittleEndian.AppendUint64(b, h.Oldest)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(h.Name)))
	return append(b, h.Name...)
}

// ParseHello reads a hello. Every error is an ErrMalformed.
func ParseHello(b []byte) (Hello, error) {
	if len(b) < helloBytes {
		return Hello{}, fmt.Errorf("hello of %d bytes, want at least %d: %w", len(b), helloBytes, ErrMalformed)
	}
	if [4]byte(b) != helloMagic {
		return Hello{}, fmt.Errorf("hello starts with %q, want %q: %w", b[:4], helloMagic[:], ErrMalformed)
	}
	name := b[helloBytes:]
	switch {
	case b[5] != 0 || b[6] != 0 || b[7] != 0:
		return Hello{}, fmt.Errorf("hello: reserved bytes are set: %w", ErrMalformed)
	case int(binary.LittleEndian.Uint16(b[24:])) != len(name):
		return Hello{}, fmt.Errorf("hello: node name of %d bytes, announced %d: %w", len(name), binary.LittleEndian.Uint16(b[24:]), ErrMalformed)
	}
	h := Hello{Table: b[4], Epoch: binary.LittleEndian.Uint64(b[8:]), Oldest: binary.LittleEndian.Uint64(b[16:]), Name: string(name)}
	if err := CheckNodeName(h.Name); err != nil {
		return Hello{}, fmt.Errorf("hello: %w: %w", err, ErrMalformed)
	}
	if h.Epoch == 0 || h.Oldest == 0 {
		return Hello{}, fmt.Errorf("hello of %s: epoch %d, oldest %d: both start at 1: %w", h.Name, h.Epoch, h.Oldest, ErrMalformed)
	}
	return h, nil
}

// SourcePrefix comes before the name of a source in what its token or certificate is of: no agent's node may have such a
// name, so that the proof of one is none of the other.
const SourcePrefix = "source:"

// CheckNodeName tells whether a name can be that of a node: 1 to 253 bytes of printable UTF-8
// without spaces or slashes, and neither "." nor "..", so that it can name a file.
func CheckNodeName(name string) error {
	if name == "" || len(name) > maxNameBytes || !utf8.ValidString(name) {
		return fmt.Errorf("node name of %d bytes: want 1 to %d bytes of UTF-8", len(name), maxNameBytes)
	}
	for _, r := range name {
		if !unicode.IsPrint(r) || r == ' ' || r == '/' || r == '\\' {
			return fmt.Errorf("node name %q: spaces, slashes and what cannot be printed are not allowed", name)
		}
	}
	if name == "." || name == ".." {
		return fmt.Errorf("node name %q names a folder", name)
	}
	return nil
}

// AnswerKind is what a collector says of a batch.
type AnswerKind uint8

// The answers. Accepted and Stored are different promises: see docs/architecture.md.
const (
	// Welcome opens the answers; its Sequence is 0 and its Window the first credit.
	Welcome AnswerKind = 1
	// Stored: the rows are in ClickHouse, counted. The agent forgets the batch.
	Stored AnswerKind = 2
	// Accepted: the batch is durable in the collector's own log. The agent keeps it until Stored.
	Accepted AnswerKind = 3
	// Retry: it is neither stored nor kept, for instance because the collector's log is full. The agent sends it again.
	Retry AnswerKind = 4
	// Rejected: it can never be stored, and is kept in the collector's quarantine. The agent forgets
	// it, and counts it.
	Rejected AnswerKind = 5
	// Ordered is no answer: its Reason is an Order, and its Sequence is 0. It is sent only on a stream that said that it
	// takes orders, see OrdersHeader.
	Ordered AnswerKind = 6
)

// Answer is what a PutResult carries.
//
//	 0         4      5      8        16      20       22
//	┌─────────┬──────┬──────┬────────┬───────┬────────┬────────┐
//	│ "GFA" 1 │ kind │ zero │ seq    │window │ length │ reason │
//	│         │ u8   │ 3    │ uint64 │ u32   │ uint16 │ UTF-8  │
//	└─────────┴──────┴──────┴────────┴───────┴────────┴────────┘
type Answer struct {
	Kind     AnswerKind
	Sequence uint64
	Window   uint32 // bytes that the agent may have under way on this stream: the credit
	Reason   string // of Retry and Rejected; of Ordered the Order
}

const answerBytes = 22

// Append appends the encoded answer. A reason over 1 KiB is cut, and what is not UTF-8 in it replaced.
func (a Answer) Append(b []byte) []byte {
	reason := strings.ToValidUTF8(a.Reason, "\ufffd")
	if len(reason) > maxReasonBytes {
		reason = strings.ToValidUTF8(reason[:maxReasonBytes], "") // the cut may lie within a character
	}
	b = append(b, answerMagic[:]...)
	b = append(b, byte(a.Kind), 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, a.Sequence)
	b = binary.LittleEndian.AppendUint32(b, a.Window)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(reason)))
	return append(b, reason...)
}

// ParseAnswer reads an answer. Every error is an ErrMalformed.
func ParseAnswer(b []byte) (Answer, error) {
	if len(b) < answerBytes {
		return Answer{}, fmt.Errorf("answer of %d bytes, want at least %d: %w", len(b), answerBytes, ErrMalformed)
	}
	if [4]byte(b) != answerMagic {
		return Answer{}, fmt.Errorf("answer starts with %q, want %q: %w", b[:4], answerMagic[:], ErrMalformed)
	}
	a := Answer{
		Kind: AnswerKind(b[4]), Sequence: binary.LittleEndian.Uint64(b[8:]),
		Window: binary.LittleEndian.Uint32(b[16:]), Reason: string(b[answerBytes:]),
	}
	if a.Kind < Welcome || a.Kind > Ordered {
		return Answer{}, fmt.Errorf("answer of kind %d: %w", a.Kind, ErrMalformed)
	}
	if b[5] != 0 || b[6] != 0 || b[7] != 0 {
		return Answer{}, fmt.Errorf("answer: reserved bytes are set: %w", ErrMalformed)
	}
	if !utf8.ValidString(a.Reason) {
		return Answer{}, fmt.Errorf("answer: reason is not UTF-8: %w", ErrMalformed)
	}
	if int(binary.LittleEndian.Uint16(b[20:])) != len(a.Reason) || len(a.Reason) > maxReasonBytes {
		return Answer{}, fmt.Errorf("answer: reason of %d bytes, announced %d: %w", len(a.Reason), binary.LittleEndian.Uint16(b[20:]), ErrMalformed)
	}
	return a, nil
}
