// SPDX-License-Identifier: Apache-2.0

// Package clickhouseerror says in one plain line why a ClickHouse could not be asked, and what helps. The client's own
// errors name its steps and the whole address; what a person needs is which server was asked, as whom, what came of
// it, and what to change.
package clickhouseerror

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Target is the ClickHouse that was asked. What is not known stays empty.
type Target struct {
	Name     string // how errors call it; never with a password
	User     string
	Database string
	Secure   bool // it was asked with TLS
	Advice   Advice
}

// Advice says what helps in the words of a program: its flags and variables. What is empty is said in general words.
type Advice struct {
	Address  string // nobody listens there, or somebody else
	TLS      string // it speaks TLS, and was asked without
	NoTLS    string // the reverse
	Trust    string // its certificate comes from nobody who is trusted
	Login    string // user or password is wrong
	Database string // there is no such database
	Rights   string // the user may not do this
}

// general is what helps whatever the program.
func general() Advice {
	return Advice{
		Address:  "check host and port of its HTTP interface (8123, or 8443 with TLS), and that it runs",
		TLS:      "ask it with TLS",
		NoTLS:    "ask it without TLS, or at its port for TLS (8443)",
		Trust:    "trust the authority that its certificate comes from, and ask it by a name that is in the certificate",
		Login:    "check both",
		Database: "check the name, or create it",
		Rights:   "grant it, or be another user",
	}
}

// Error is an error of ClickHouse, or of the way to it, that has been put into words.
type Error struct {
	What   string // one line; with the name of the ClickHouse if that could not be asked
	Advice string // what helps, if What does not say it
	Cause  error
}

// Error implements error.
func (e *Error) Error() string {
	if e.Advice == "" {
		return e.What
	}
	return e.What + ": " + e.Advice
}

// Unwrap gives the client's own error.
func (e *Error) Unwrap() error { return e.Cause }

// Explain puts an error of the client into one line. An error that tells nothing of the way to the server, such as one
// of a query, comes back as it is, and so do one that is in one line already, and a cancelled context.
func Explain(err error, t Target) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	what, advice := t.why(err)
	if what == "" {
		return err
	}
	who := "ask ClickHouse"
	if t.Name != "" {
		who += " " + t.Name
	}
	return &Error{What: who + ": " + what, Advice: advice, Cause: err}
}

// why is what came of asking, and what helps; empty if that is not known.
func (t Target) why(err error) (what, advice string) {
	if exception, ok := errors.AsType[*clickhouse.Exception](err); ok {
		return t.answered(exception)
	}
	if answer, ok := errors.AsType[*clickhouse.HTTPError](err); ok {
		return t.strange(answer)
	}
	return t.notReached(err)
}

// Codes of ClickHouse's exceptions that are not about a query.
const (
	codeUnknownDatabase = 81
	codeReadonly        = 164
	codeUnknownUser     = 192
	codeWrongPassword   = 193
	codeNoPassword      = 194
	codeTooManyQueries  = 202
	codeAborted         = 236
	codeCancelled       = 394
	codeAccess          = 497
	codeAuthentication  = 516
)

// answered is an exception of ClickHouse.
func (t Target) answered(e *clickhouse.Exception) (what, advice string) {
	advised := t.advice()
	switch e.Code {
	case codeAuthentication, codeUnknownUser, codeWrongPassword, codeNoPassword:
		return "it refuses the user" + named(t.User) + " or the password", advised.Login
	case codeUnknownDatabase:
		return "it has no database" + named(t.Database), advised.Database
	case codeReadonly, codeAccess:
		return "the user" + named(t.User) + " may not do this (" + oneLine(e.Message) + ")", advised.Rights
	case codeTooManyQueries:
		return "it is busy with as many queries as it takes", "try again in a moment"
	case codeAborted, codeCancelled:
		return "it ended the query", "it is shutting down, or somebody cancelled the query: try again in a moment"
	default:
		return "", ""
	}
}

func named(name string) string {
	if name == "" {
		return ""
	}
	return " " + name
}

// advice is the program's, and where it has none the general one.
func (t Target) advice() Advice {
	a, g := t.Advice, general()
	return Advice{
		Address: cmp.Or(a.Address, g.Address), TLS: cmp.Or(a.TLS, g.TLS), NoTLS: cmp.Or(a.NoTLS, g.NoTLS), Trust: cmp.Or(a.Trust, g.Trust),
		Login: cmp.Or(a.Login, g.Login), Database: cmp.Or(a.Database, g.Database), Rights: cmp.Or(a.Rights, g.Rights),
	}
}

// longest is how much of what a server says is repeated.
const longest = 300

// oneLine is a message without line breaks and the names of version and code at its end.
func oneLine(message string) string {
	message = strings.Join(strings.Fields(message), " ")
	if at := strings.LastIndex(message, " (version "); at > 0 {
		message = message[:at]
	}
	message = strings.TrimSuffix(message, ".")
	if len(message) <= longest {
		return message
	}
	return strings.ToValidUTF8(message[:longest], "") + "…"
}
