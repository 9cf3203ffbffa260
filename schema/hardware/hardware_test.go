// SPDX-License-Identifier: Apache-2.0

package hardware

import (
	"slices"
	"strings"
	"testing"
)

func TestSpellings(t *testing.T) {
	for spelling, want := range map[string]string{
		// NVML, and labels made of it.
		"NVIDIA H100 80GB HBM3": "H100 SXM 80GB", "NVIDIA-H100-80GB-HBM3": "H100 SXM 80GB", "NVIDIA-H100-80GB-HBM3-SHARED": "H100 SXM 80GB",
		"NVIDIA-A100-SXM4-80GB-MIG-1g.10gb": "A100 SXM 80GB", "NVIDIA A100-SXM4-40GB": "A100 SXM 40GB", "Tesla T4": "T4", "NVIDIA GB200": "GB200 186GB",
		"NVIDIA H200": "H200 SXM 141GB", "NVIDIA B200": "B200 SXM 180GB", "NVIDIA H100 PCIe": "H100 PCIe 80GB", "NVIDIA H100 NVL": "H100 NVL 94GB",
		// Clouds and price feeds.
		"nvidia-tesla-a100": "A100 SXM 40GB", "nvidia-h100-mega-80gb": "H100 SXM 80GB", "H100-MEGA": "H100 SXM 80GB", "h100-sxm": "H100 SXM 80GB",
		"nvidia-a100-80gb": "A100 SXM 80GB", "nvidia-h200-141gb": "H200 SXM 141GB", "H100 SXM 80GB": "H100 SXM 80GB",
		// What does not tell which, and what is not known.
		"A100": "A100 PCIe 40GB, A100 PCIe 80GB, A100 SXM 40GB, A100 SXM 80GB", "H100": "H100 NVL 94GB, H100 PCIe 80GB, H100 SXM 80GB",
		"A100-80GB": "A100 PCIe 80GB, A100 SXM 80GB", "AMD Instinct MI300X": "", "": "", "NVIDIA": "", "H1000": "",
	} {
		var names []string
		for _, m := range FindModels(spelling) {
			names = append(names, m.Name)
		}
		slices.Sort(names)
		if got := strings.Join(names, ", "); got != want {
			t.Errorf("%q is %q, want %q", spelling, got, want)
		}
	}
}

// TestDriverSpellingsAreUnique: what NVML says must name one model, or its readings could not be priced.
func TestDriverSpellingsAreUnique(t *testing.T) {
	seen := map[string]string{}
	for _, m := range models {
		for _, s := range m.spellings {
			if !strings.HasPrefix(s, "NVIDIA ") && !strings.HasPrefix(s, "Tesla ") {
				continue
			}
			if other, ok := seen[fold(s)]; ok {
				t.Errorf("%q means %s and %s", s, other, m.Name)
			}
			seen[fold(s)] = m.Name
		}
	}
	if len(seen) < len(models)-1 {
		t.Errorf("%d spellings of NVML for %d models", len(seen), len(models))
	}
}

func TestFiguresAreSane(t *testing.T) {
	for _, m := range Models() {
		if m.Source == "" || m.Architecture == "" || m.MemoryGigabytes < 16 {
			t.Errorf("%s: %+v", m.Name, m)
		}
		// FP8 is at least twice BF16; where it is four times, somebody took a sparse figure for a dense one.
		if ratio := m.FP8TeraFLOPS / max(m.BF16TeraFLOPS, 1); m.FP8TeraFLOPS > 0 && (ratio < 1.9 || ratio > 2.1) {
			t.Errorf("%s: FP8 is %.1f times BF16", m.Name, ratio)
		}
		if m.SlowdownMarginCelsius != nil && (*m.SlowdownMarginCelsius >= 0 || m.Architecture == "ampere") {
			t.Errorf("%s: slows down at a margin of %d", m.Name, *m.SlowdownMarginCelsius)
		}
	}
}

func TestInstancesHaveModels(t *testing.T) {
	seen := map[string]bool{}
	for _, i := range Instances() {
		if _, ok := ModelByName(i.Model); !ok {
			t.Errorf("%s has %q, which is no model", i.Type, i.Model)
		}
		if key := i.Provider + strings.ToLower(i.Type); seen[key] {
			t.Errorf("%s of %s is there twice", i.Type, i.Provider)
		} else {
			seen[key] = true
		}
		if i.GPUs < 1 || i.GPUs > 16 || i.Source == "" || Provider(i.Provider) != i.Provider {
			t.Errorf("%+v", i)
		}
	}
}

func TestFindInstance(t *testing.T) {
	if i, ok := FindInstance(AWS, "p6e-gb200.36xlarge"); !ok || i.GPUs != 4 || i.DomainGPUs != 72 {
		t.Errorf("%+v, %v: AWS documents 4 GPUs, whatever price feeds say", i, ok)
	}
	if i, ok := FindInstance(Azure, "standard_nd96isr_h100_v5"); !ok || i.Model != "H100 SXM 80GB" {
		t.Errorf("%+v, %v", i, ok)
	}
	if i, ok := FindInstance(GCP, "p5.48xlarge"); ok {
		t.Errorf("GCP has %+v", i)
	}
}

func TestProvider(t *testing.T) {
	for name, want := range map[string]string{"Oracle": Oracle, "oracle_cloud": Oracle, "oci": Oracle, " AWS ": AWS, "google": GCP, "coreweave": "coreweave"} {
		if got := Provider(name); got != want {
			t.Errorf("Provider(%q) = %q, want %q", name, got, want)
		}
	}
}
