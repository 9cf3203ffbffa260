// SPDX-License-Identifier: Apache-2.0

// Package rules holds the project's own rules as tests: which package may import which, what a program must
// not link, how a file begins, how long it may be, and that documents and golden files point at things that exist.
//
// Each rule is a function from what the checkout contains to a list of violations, so each has two tests: one
// over the checkout, and one over a few made-up files that must be caught. A rule that cannot fail is no rule.
//
// What a linter already checks is in .golangci.yml and not here.
package rules
