// SPDX-License-Identifier: Apache-2.0

package hardware

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestSpellings(t *testing.T) {
	for spelling, want := range map[string]string{
		// NVML, and labels made of it.
		"NVIDIA H100 80GB HBM3": "H100 SXM 80GB", "NVIDIA-H100-80GB-HBM3": "H100 SXM 80GB", "NVIDIA-H100-80GB-HBM3-SHARED": "H100 SXM 80GB",
		"NVIDIA-A100-SXM4-80GB-MIG-1g.10gb": "A100 SXM 80GB", "NVIDIA A100-SXM4-40GB": "A100 SXM 40GB", "Tesla T4": "T4", "NVIDIA RTX PRO 6000 Blackwell Server Edition": "RTX PRO 6000 Server 96GB", "NVIDIA GB200": "GB200 186GB",
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
	for _, m := range Models() {
		told := false
		for _, s := range m.Spellings {
			if s.UsedBy != "nvml" {
				continue
			}
			told = true
			if other, ok := seen[fold(s.Text)]; ok && other != m.Name {
				t.Errorf("%q means %s and %s", s.Text, other, m.Name)
			}
			seen[fold(s.Text)] = m.Name
			if found := FindModels(s.Text); len(found) != 1 {
				t.Errorf("%q means %d models", s.Text, len(found))
			}
		}
		if !told {
			t.Errorf("no spelling of NVML for %s", m.Name)
		}
	}
}

func TestFiguresAreSane(t *testing.T) {
	for _, m := range Models() {
		if m.Architecture == "" || m.MemoryGigabytes < 8 {
			t.Errorf("%s: %+v", m.Name, m)
		}
		for _, f := range m.Figures {
			if f.Source.What == "" || f.Source.ReadOn.Year() < 2024 || f.Verified && f.Source.Name == "knowledge" {
				t.Errorf("%s, %s: source %+v", m.Name, f.Name, f.Source)
			}
		}
		// FP8 is twice BF16; where it is four times, somebody took a sparse figure for a dense one.
		bf16, _ := m.Figure(BF16Peak)
		if fp8, ok := m.Figure(FP8Peak); ok {
			if ratio := fp8.Value.DivRound(bf16.Value, 2).String(); ratio != "2" && ratio != "2.001" && !strings.HasPrefix(ratio, "2.0") {
				t.Errorf("%s: FP8 is %s times BF16", m.Name, ratio)
			}
		}
		if margin, ok := m.Figure(SlowdownMargin); ok && (!margin.Value.IsNegative() || m.Architecture == "ampere") {
			t.Errorf("%s: slows down at a margin of %s", m.Name, margin.Value)
		}
	}
	h100, ok := ModelByName("H100 SXM 80GB")
	if bf16, found := h100.Figure(BF16Peak); !ok || !found || bf16.Value.String() != "989" || bf16.Verified {
		t.Errorf("H100: %+v", h100)
	}
	if _, found := h100.Figure("colour"); found {
		t.Error("a figure that nobody knows")
	}
}

func TestInstancesHaveModels(t *testing.T) {
	seen := map[string]bool{}
	for _, i := range Instances() {
		if key := i.Provider + strings.ToLower(i.Type); seen[key] {
			t.Errorf("%s of %s is there twice", i.Type, i.Provider)
		} else {
			seen[key] = true
		}
		if i.Source.What == "" || Provider(i.Provider) != i.Provider {
			t.Errorf("%+v", i)
		}
		if i.Unusable != "" {
			if i.GPUs != 0 || !slices.Contains([]Unusable{PartOfGPU, OtherMaker, NoGPU}, i.Unusable) {
				t.Errorf("%+v", i)
			}
			continue
		}
		if _, ok := ModelByName(i.Model); !ok {
			t.Errorf("%s has %q, which is no model", i.Type, i.Model)
		}
		if i.GPUs < 1 || i.GPUs > 16 || i.DomainGPUs != 0 && i.DomainGPUs%i.GPUs != 0 || (i.VCPUs == 0) != (i.MemoryGibibytes == 0) {
			t.Errorf("%+v", i)
		}
		if i.Provider == GCP && i.VCPUs == 0 {
			t.Errorf("%s: Google's prices are by vCPU and GiB", i.Type)
		}
	}
	for _, provider := range []string{AWS, Azure, GCP, Oracle, Nebius, CoreWeave, Lambda, Crusoe} {
		if !KnowsProvider(provider) || len(InstancesOf(provider)) < 5 {
			t.Errorf("%s has %d instance types", provider, len(InstancesOf(provider)))
		}
	}
	if KnowsProvider("own") || !Closed(AWS) || Closed(CoreWeave) {
		t.Error("who rents what is not as it was")
	}
}

// TestVersionStandsForTheRows: what is stored with a version must be found again by it.
func TestVersionStandsForTheRows(t *testing.T) {
	sum := sha256.New()
	for _, name := range []string{"sources", "models", "figures", "spellings", "instances"} {
		text, err := files.ReadFile("data/" + name + ".csv")
		if err != nil {
			t.Fatal(err)
		}
		sum.Write(text)
	}
	if got := fmt.Sprintf("%d %x", CatalogueVersion, sum.Sum(nil)[:8]); got != rows {
		t.Errorf("the rows have changed: raise CatalogueVersion if it was released, and have here %q in place of %q", got, rows)
	}
}

const rows = "2 b01d079b306a1b3b"

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
	for name, want := range map[string]string{"Oracle": Oracle, "oracle_cloud": Oracle, "oci": Oracle, " AWS ": AWS, "google": GCP, "Google Cloud": GCP, "Microsoft": Azure, "Amazon Web Services, Inc.": AWS, "coreweave": "coreweave"} {
		if got := Provider(name); got != want {
			t.Errorf("Provider(%q) = %q, want %q", name, got, want)
		}
	}
}
