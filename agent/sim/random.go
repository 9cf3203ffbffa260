// SPDX-License-Identifier: Apache-2.0

package sim

// mix scrambles x so that every bit of the result depends on every bit of x (the finalizer of
// SplitMix64, Steele, Lea and Flood 2014). All chance in this package comes from it: a figure is a
// function of the seed and of what it is for, so it needs no state and comes out the same in any order.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// hash gives the chance that belongs to salt under seed.
func hash(seed, salt uint64) uint64 { return mix(seed ^ mix(salt)) }

// unit turns a hash into a number from 0 up to 1.
func unit(h uint64) float64 { return float64(h>>11) / (1 << 53) }

// between turns a hash into a number from low up to high.
func between(h uint64, low, high float64) float64 { return low + unit(h)*(high-low) }

// spread turns a hash into a number between -1 and 1, most often near 0.
func spread(h uint64) float64 {
	return float64(uint32(h))/(1<<32) + float64(h>>32)/(1<<32) - 1
}

// wholeBetween turns a hash into a whole number from low to high, both possible.
func wholeBetween(h uint64, low, high int64) int64 {
	return low + int64(h%uint64(high-low+1))
}
