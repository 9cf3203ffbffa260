// SPDX-License-Identifier: Apache-2.0

package query

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/gpufleet/gpufleet/internal/clickhouseerror"
)

// Codes of ClickHouse's exceptions that are put into other words.
const (
	codeUnknownColumn = 47
	codeUnknownTable  = 60
	codeSyntax        = 62
	codeTimeout       = 159
	codeReadonly      = 164

	codeMemory      = 241
	codeTooManyRows = 396
	codeAccess      = 497
)

var (
	// syntaxError is: what is wrong, where it applies; the same in other cases; the position in bytes, from 1 on; the
	// word that stands there; and, if there are several lines, the line and, in bytes again, the column.
	syntaxError  = regexp.MustCompile(`(?s)^(?:([^:]*): )?Syntax error(?: \(([^()]*)\))?: failed at position (\d+) \((.*?)\)(?: \(line \d+, col \d+\))?:`)
	unknownName  = regexp.MustCompile("(?s)identifier [`'](.*?)[`']")
	unknownTable = regexp.MustCompile(`Table (\S+) does not exist`)
	suggestion   = regexp.MustCompile(`(?i)maybe you meant:? (.*?)\??\.? *(?:\([A-Z_]+\)|$)`)
	// tail is what ClickHouse puts after each message.
	tail = regexp.MustCompile(`(?s)\s*(\([A-Z][A-Z0-9_]+\))?\s*(\(version [^()]*(\([^()]*\))?\))?\s*$`)
)

// Explain puts an error of a query into one line. One of the way to the server comes back as it is, for whoever knows the
// server to explain, and so does one that is explained.
func Explain(err error, sql string) error {
	if _, ok := errors.AsType[*clickhouseerror.Error](err); ok {
		return err
	}
	exception, ok := errors.AsType[*clickhouse.Exception](err)
	if !ok {
		return err
	}
	message := oneLine(exception.Message)
	switch exception.Code {
	case codeSyntax:
		return explainSyntax(err, exception.Message, sql)
	case codeUnknownTable:
		return explained(err, "no table or view %s%s: `gpufleet schema` lists them", firstMatch(message, unknownName, unknownTable), meant(message))
	case codeUnknownColumn:
		return explained(err, "no column %s%s: `gpufleet schema TABLE` lists those of a table", firstMatch(message, unknownName), meant(message))
	case codeReadonly, codeAccess:
		return explained(err, "not allowed, this only reads: %s", cut(message))
	case codeTimeout, codeMemory, codeTooManyRows:
		return explained(err, "the answer goes beyond a limit of this user: %s: ask for less, or for less time", message)
	}
	if clickhouseerror.Explain(err, clickhouseerror.Target{}) != err { //nolint:errorlint // the same value: it is of the query
		return err
	}
	return explained(err, "%s (ClickHouse code %d)", message, exception.Code)
}

// explainSyntax says where, and what if ClickHouse knows more than that it did not go on from there.
func explainSyntax(err error, message, sql string) error {
	match := syntaxError.FindStringSubmatch(message)
	if match == nil {
		return explained(err, "syntax error: %s", cut(oneLine(message)))
	}
	reason, position, word := match[1]+match[2], match[3], match[4]
	if strings.Contains(message[len(match[0]):], "Unmatched parentheses") {
		reason = "unmatched parentheses"
	}
	at := "position " + position
	if offset, _ := strconv.Atoi(position); offset > 0 && offset <= len(sql)+1 {
		at = place(sql, offset)
	}
	switch {
	case strings.HasPrefix(reason, "Multi-statements"):
		return explained(err, "one query at a time: another one begins after %s", at)
	case reason != "":
		return explained(err, "syntax error at %s, at %s: %s", at, quoted(word), strings.ToLower(reason))
	case word == "end of query" || word == "":
		return explained(err, "syntax error at %s: the query ends too early", at)
	default:
		return explained(err, "syntax error at %s, at %s", at, quoted(word))
	}
}

// place is the line and column of a position. ClickHouse counts bytes; a person at an editor counts characters.
func place(sql string, position int) string {
	before := sql[:position-1]
	line := strings.Count(before, "\n")
	column := utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:])
	return fmt.Sprintf("line %d, column %d", line+1, column+1)
}

// quoted is a word of the query, which is all the rest of it where a quote is not closed.
func quoted(word string) string {
	const longest = 40
	word = oneLine(word)
	if len(word) > longest {
		word = strings.ToValidUTF8(word[:longest], "") + "…"
	}
	return strconv.Quote(word)
}

func oneLine(message string) string {
	return strings.TrimRight(strings.Join(strings.Fields(tail.ReplaceAllString(message, "")), " "), ".")
}

// cut shortens a message that lists every column of a table, or every word that could have come.
func cut(message string) string {
	const longest = 300
	if len(message) <= longest {
		return message
	}
	return strings.ToValidUTF8(message[:longest], "") + "…"
}

// firstMatch is the name that a message speaks of.
func firstMatch(message string, patterns ...*regexp.Regexp) string {
	for _, p := range patterns {
		if match := p.FindStringSubmatch(message); match != nil {
			return match[1]
		}
	}
	return "of that name (" + cut(message) + ")"
}

// meant is ClickHouse's own suggestion, in brackets.
func meant(message string) string {
	match := suggestion.FindStringSubmatch(message)
	if match == nil {
		return ""
	}
	return " (" + strings.Trim(strings.NewReplacer("'", "", "`", "").Replace(match[1]), "[] ") + "?)"
}
