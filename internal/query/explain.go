// SPDX-License-Identifier: Apache-2.0

package query

import (
	"errors"
	"regexp"
	"strconv"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Codes of ClickHouse's exceptions that are put into other words.
const (
	codeUnknownColumn = 47
	codeUnknownTable  = 60
	codeSyntax        = 62
	codeTimeout       = 159
	codeReadonly      = 164

	codeMemory          = 241
	codeTooManyRows     = 396
	codeAccess          = 497
	codeAuthentication  = 516
	codeUnknownDatabase = 81
)

var (
	syntaxPosition = regexp.MustCompile(`(?s)^Syntax error: failed at position (\d+) \((.*?)\)(?: \(line (\d+), col (\d+)\))?:`)
	unknownName    = regexp.MustCompile("(?s)identifier [`'](.*?)[`']")
	unknownTable   = regexp.MustCompile(`Table (\S+) does not exist`)
	suggestion     = regexp.MustCompile(`(?i)maybe you meant:? (.*?)\??\.? *(?:\([A-Z_]+\)|$)`)
	// tail is what ClickHouse puts after each message.
	tail = regexp.MustCompile(`(?s)\s*(\([A-Z][A-Z0-9_]+\))?\s*(\(version [^()]*(\([^()]*\))?\))?\s*$`)
)

// Explain puts an error of ClickHouse into one line. Other errors come back as they are.
func Explain(err error, sql string) error {
	var exception *clickhouse.Exception
	if !errors.As(err, &exception) {
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
	case codeUnknownDatabase:
		return explained(err, "%s: name one in the address, as in http://host:8123/gpufleet", message)
	case codeReadonly, codeAccess:
		return explained(err, "not allowed, this only reads: %s", cut(message))
	case codeAuthentication:
		return explained(err, "ClickHouse refuses the user or the password")
	case codeTimeout, codeMemory, codeTooManyRows:
		return explained(err, "the answer goes beyond a limit of this user: %s: ask for less, or for less time", message)
	default:
		return explained(err, "%s (ClickHouse code %d)", message, exception.Code)
	}
}

// explainSyntax says where. ClickHouse gives line and column only if there are several lines.
func explainSyntax(err error, message, sql string) error {
	match := syntaxPosition.FindStringSubmatch(message)
	if match == nil {
		return explained(err, "syntax error: %s", cut(oneLine(message)))
	}
	line, column := match[3], match[4]
	if line == "" {
		at, _ := strconv.Atoi(match[1])
		line, column = place(sql, at)
	}
	if match[2] == "end of query" || match[2] == "" {
		return explained(err, "syntax error at line %s, column %s: the query ends too early", line, column)
	}
	return explained(err, "syntax error at line %s, column %s, at %s", line, column, strconv.Quote(oneLine(match[2])))
}

// place is the line and column of a position, all counted from 1.
func place(sql string, position int) (line, column string) {
	before := sql[:min(max(position-1, 0), len(sql))]
	return strconv.Itoa(strings.Count(before, "\n") + 1), strconv.Itoa(len(before) - strings.LastIndexByte(before, '\n'))
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
