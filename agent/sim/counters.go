// SPDX-License-Identifier: Apache-2.0

package sim

// Salts tell the rare counters of a GPU apart.
const (
	saltRemapped uint64 = 1000 + 100*iota
	saltReplays
	saltRecoveries
	saltDRAM
	saltSRAM
	saltPCIe
	saltC2C
)

// The salts of the NVLink counters lie apart: one for each kind and link.
const (
	saltNVLink  uint64 = 1 << 16
	saltNVLink5 uint64 = 2 << 16
)

// lifeDays is for how long a GPU counted before the simulation began, for the counters that outlive the
// driver.
const lifeDays = 400

// occurred is how many rare events of a kind a GPU had from its birth until quantum q. They come evenly, at a
// rate of the GPU's own: most see next to none, a few see several times perHour.
func (b *board) occurred(salt uint64, perHour float64, q int64) uint64 {
	chance := unit(hash(b.seed, salt))
	rate := 4 * perHour * chance * chance * chance
	hours := float64(q-b.born) / float64(3600*quantaPerSecond)
	return uint64(hours*rate + unit(hash(b.seed, salt+50)))
}

// lifetime counts rare events over the GPU's life.
func (b *board) lifetime(salt uint64, perHour float64) uint64 {
	return b.occurred(salt, perHour, b.quantum)
}

// sinceLoad counts rare events since the driver was loaded.
func (b *board) sinceLoad(salt uint64, perHour float64) uint64 {
	return b.occurred(salt, perHour, b.quantum) - b.occurred(salt, perHour, b.count.loaded)
}

func sinceLoad32(salt uint64, perHour float64) answer {
	return number32(func(b *board) uint32 { return uint32(b.sinceLoad(salt, perHour)) })
}

func sinceLoad64(salt uint64, perHour float64) answer {
	return number64(func(b *board) uint64 { return b.sinceLoad(salt, perHour) })
}

// Corrected memory errors per hour of the worst GPUs.
const (
	correctedDRAMPerHour = 0.02
	correctedSRAMPerHour = 0.004
)

func (b *board) correctedDRAM() uint64 { return b.sinceLoad(saltDRAM, correctedDRAMPerHour) }
func (b *board) correctedSRAM() uint64 { return b.sinceLoad(saltSRAM, correctedSRAMPerHour) }
func (b *board) corrected() uint64     { return b.correctedDRAM() + b.correctedSRAM() }

func (b *board) correctedDRAMLifetime() uint64 { return b.lifetime(saltDRAM, correctedDRAMPerHour) }
func (b *board) correctedSRAMLifetime() uint64 { return b.lifetime(saltSRAM, correctedSRAMPerHour) }
func (b *board) correctedLifetime() uint64 {
	return b.correctedDRAMLifetime() + b.correctedSRAMLifetime()
}

// linkUp is 1 if the NVLink is up, else 0.
func (b *board) linkUp(link uint32) uint64 { return uint64(1 - bit(b.fault.linkDown == int(link)+1)) }

// nvlink4Fields count NVLink up to H200: data in KiB over one link or all of them, errors per link.
func nvlink4Fields(s *spec) map[string]answer {
	data := func(bytes func(b *board) uint64) answer {
		return perLink(s.links,
			func(b *board, _ uint32) uint64 { return bytes(b) / uint64(s.links) / 1024 },
			func(b *board) uint64 { return bytes(b) / 1024 })
	}
	raw := func(bytes uint64) uint64 { return bytes + bytes/8 } // with headers and flow control
	sent := func(b *board) uint64 { return b.count.nvlinkSent }
	got := func(b *board) uint64 { return b.count.nvlinkGot }
	errors := func(kind uint64, perHour float64, faulty uint64) (one func(*board, uint32) uint64, all func(*board) uint64) {
		one = func(b *board, link uint32) uint64 {
			return b.sinceLoad(saltNVLink+100*kind+uint64(link), perHour) + b.linkFaults(link)*faulty
		}
		all = func(b *board) (sum uint64) {
			for link := range uint32(s.links) {
				sum += one(b, link)
			}
			return sum
		}
		return one, all
	}
	replay, replays := errors(0, 0.002, 12)
	recovery, recoveries := errors(1, 0.0004, 3)
	crc, crcs := errors(2, 0.004, 150)
	_, crcData := errors(3, 0.001, 20)
	_, eccData := errors(4, 0.0002, 0)
	return map[string]answer{
		"DEV_NVLINK_THROUGHPUT_DATA_TX":         data(sent),
		"DEV_NVLINK_THROUGHPUT_DATA_RX":         data(got),
		"DEV_NVLINK_THROUGHPUT_RAW_TX":          data(func(b *board) uint64 { return raw(sent(b)) }),
		"DEV_NVLINK_THROUGHPUT_RAW_RX":          data(func(b *board) uint64 { return raw(got(b)) }),
		"DEV_NVLINK_ERROR_DL_REPLAY":            perLink(s.links, replay, nil),
		"DEV_NVLINK_ERROR_DL_RECOVERY":          perLink(s.links, recovery, nil),
		"DEV_NVLINK_ERROR_DL_CRC":               perLink(s.links, crc, nil),
		"DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL":   number64(replays),
		"DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL": number64(recoveries),
		"DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL": number64(crcs),
		"DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL": number64(crcData),
		"DEV_NVLINK_ECC_DATA_ERROR_COUNT_TOTAL": number64(eccData),
	}
}

// linkFaults is how often the link failed since the driver was loaded.
func (b *board) linkFaults(link uint32) uint64 {
	if b.fault.linkDown == int(link)+1 {
		return b.fault.linkErrors
	}
	return 0
}

// fecPerSecond is how many blocks of a link have that many mended symbols, per second and bin.
var fecPerSecond = [16]float64{1.06e8, 2.1e4, 31, 0.2, 0.004}

// secondsLoaded is for how long the driver is loaded.
func (b *board) secondsLoaded() float64 {
	return float64(b.quantum-b.count.loaded) * secondsPerQuanta
}

// linkQuality is a factor of the errors of one link: 1 for most, 3 for the worst.
func (b *board) linkQuality(link uint32) float64 {
	chance := unit(hash(b.seed, saltNVLink5+uint64(link)))
	return 0.5 + 2.5*chance*chance
}

// nvlink5Fields count NVLink of B200 and GB200, each link on its own.
func nvlink5Fields(s *spec) map[string]answer {
	share := func(bytes func(b *board) uint64, packet uint64) answer {
		return perLink(s.links, func(b *board, _ uint32) uint64 { return bytes(b) / uint64(s.links) / packet }, nil)
	}
	rare := func(kind uint64, perHour float64, faulty uint64) answer {
		return perLink(s.links, func(b *board, link uint32) uint64 {
			return b.sinceLoad(saltNVLink5+100*kind+uint64(link), perHour) + b.linkFaults(link)*faulty
		}, nil)
	}
	steady := func(perSecond float64) answer {
		return perLink(s.links, func(b *board, link uint32) uint64 {
			return uint64(b.secondsLoaded() * perSecond * b.linkQuality(link))
		}, nil)
	}
	sent := func(b *board) uint64 { return b.count.nvlinkSent }
	got := func(b *board) uint64 { return b.count.nvlinkGot }
	fields := map[string]answer{
		"DEV_NVLINK_COUNT_XMIT_BYTES":                      share(sent, 1),
		"DEV_NVLINK_COUNT_RCV_BYTES":                       share(got, 1),
		"DEV_NVLINK_COUNT_XMIT_PACKETS":                    share(sent, 272),
		"DEV_NVLINK_COUNT_RCV_PACKETS":                     share(got, 272),
		"DEV_NVLINK_COUNT_MALFORMED_PACKET_ERRORS":         rare(1, 0, 1),
		"DEV_NVLINK_COUNT_BUFFER_OVERRUN_ERRORS":           rare(2, 0, 0),
		"DEV_NVLINK_COUNT_RCV_ERRORS":                      rare(3, 0.0005, 4),
		"DEV_NVLINK_COUNT_RCV_REMOTE_ERRORS":               rare(4, 0.0002, 1),
		"DEV_NVLINK_COUNT_RCV_GENERAL_ERRORS":              rare(5, 0, 1),
		"DEV_NVLINK_COUNT_LOCAL_LINK_INTEGRITY_ERRORS":     rare(6, 0.0002, 1),
		"DEV_NVLINK_COUNT_XMIT_DISCARDS":                   rare(7, 0.0005, 9),
		"DEV_NVLINK_COUNT_LINK_RECOVERY_SUCCESSFUL_EVENTS": rare(8, 0.0008, 0),
		"DEV_NVLINK_COUNT_LINK_RECOVERY_FAILED_EVENTS":     rare(9, 0, 1),
		"DEV_NVLINK_COUNT_LINK_RECOVERY_EVENTS":            rare(8, 0.0008, 1),
		"DEV_NVLINK_COUNT_EFFECTIVE_ERRORS":                rare(10, 0.0002, 2),
		"DEV_NVLINK_COUNT_SYMBOL_ERRORS":                   rare(11, 0.02, 60),
		"DEV_NVLINK_COUNT_EFFECTIVE_BER":                   perLink(s.links, func(*board, uint32) uint64 { return bitErrorRate(15, 255) }, nil),
		"DEV_NVLINK_COUNT_SYMBOL_BER":                      perLink(s.links, (*board).symbolErrorRate, nil),
		"DEV_NVLINK_COUNT_RAW_BER_V2":                      perLink(s.links, (*board).rawErrorRate, nil),
		"DEV_NVLINK_COUNT_RAW_BER_LANE0_V2":                perLink(s.links, (*board).rawErrorRate, nil),
		"DEV_NVLINK_COUNT_RAW_BER_LANE1_V2":                perLink(s.links, (*board).rawErrorRate, nil),
		"DEV_NVLINK_COUNT_RAW_ERRORS_LANE0":                steady(2.1e4),
		"DEV_NVLINK_COUNT_RAW_ERRORS_LANE1":                steady(1.9e4),
		"DEV_NVLINK_PLR_XMIT_BLOCKS":                       steady(1.06e8),
		"DEV_NVLINK_PLR_XMIT_RETRY_BLOCKS":                 steady(0.3),
	}
	for bin, perSecond := range fecPerSecond {
		fields[fecField(bin)] = steady(perSecond)
	}
	return fields
}

// bitErrorRate codes mantissa × 10^-exponent as nvml.h does. 15e-255 is what a link without errors shows.
func bitErrorRate(mantissa, exponent uint64) uint64 { return mantissa<<8 | exponent }

func (b *board) symbolErrorRate(link uint32) uint64 {
	if quality := b.linkQuality(link); quality > 1.5 {
		return bitErrorRate(uint64(quality*3), 14)
	}
	return bitErrorRate(15, 255)
}

// rawErrorRate is what error correction mends.
func (b *board) rawErrorRate(link uint32) uint64 {
	return bitErrorRate(uint64(b.linkQuality(link)*3), 8)
}
