// SPDX-License-Identifier: Apache-2.0

package account

// text is a word that may not be known.
type text struct {
	value string
	known bool
}

func textOf(p *string) text {
	if p == nil {
		return text{}
	}
	return text{*p, true}
}

// pointer is the word as a Nullable column takes it.
func (t text) pointer() *string {
	if !t.known {
		return nil
	}
	return &t.value
}

// nodeID is a node as one tenant and zone has it. What another one says of the same node stands beside it.
type nodeID struct {
	tenant, residency string
	node              uint64
}

// gpuID is a GPU as one tenant and zone has it.
type gpuID struct {
	tenant, residency string
	gpu               uint64
}

// place is where a node is and how it is rented.
type place struct {
	name, provider, region, zone, instance, lifeCycle, cluster text
}

// owner is who has a GPU.
type owner struct {
	kind                             string
	team, deployment, account, model text
}

// nobody has the GPU.
var nobody = owner{kind: "none"} //nolint:gochecknoglobals // a constant, which Go has none of for structs

// price is what a GPU costs for an hour, in billionths of the currency; zero: none is known.
type price struct {
	known                      bool
	billionths                 int64
	currency, basis, lifeCycle string
	validFrom, readAt          int64
}

// key is what a row of account_hours is by.
type key struct {
	node  nodeID
	place place
	model text // of the GPUs
	owner owner
	split string
	price price
}

// The ways in which time is divided among owners.
const (
	splitWhole = "whole"
	splitEqual = "equal"
)

// The columns of time, in the order of schema.AccountMilliseconds.
const (
	inventory = iota
	productive
	allocatedIdle
	busyLost
	unhealthy
	unallocated
	undelivered
	unattributed
	unmeasured
	lost
	ownerUnknown
	unseen
	missing
	unlisted
	times
)

// firstPart is the first column that is a part of a state.
const firstPart = unattributed

// amounts are what a row has: milliseconds, and energy.
type amounts struct {
	of         [times]int64
	millijoule int64
	energy     bool // some is known
}

func (a *amounts) add(b amounts) {
	for i, n := range b.of {
		a.of[i] += n
	}
	a.millijoule += b.millijoule
	a.energy = a.energy || b.energy
}

// share is the amounts of the i-th of n owners who have it in equal parts. All shares add up to the amounts.
func (a amounts) share(i, n int64) amounts {
	if n == 1 {
		return a
	}
	var s amounts
	for c, whole := range a.of {
		s.of[c] = part(whole, i, i+1, n)
	}
	s.of[inventory] = 0
	for c := productive; c < firstPart; c++ {
		s.of[inventory] += s.of[c]
	}
	s.millijoule, s.energy = part(a.millijoule, i, i+1, n), a.energy
	return s
}
