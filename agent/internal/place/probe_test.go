// SPDX-License-Identifier: Apache-2.0

package place

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gpufleet/gpufleet/schema"
)

// placeOf is what a probe finds, as it lies in testdata/places. The name of the host is this machine's.
func placeOf(p Place) map[string]map[string]string {
	facts, attributes, sources := p.Facts(), p.Attributes(), maps.Clone(p.Sources)
	delete(facts, "host_name")
	delete(attributes, "host.name")
	delete(sources, "host_name")
	return map[string]map[string]string{"facts": facts, "attributes": attributes, "sources": sources}
}

func wantPlace(t *testing.T, golden string, p Place) {
	t.Helper()
	got := placeOf(p)
	text, err := os.ReadFile(filepath.Join("testdata", "places", golden+".json"))
	if err == nil {
		var want map[string]map[string]string
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("place (-want +got):\n%s", diff)
		}
		return
	}
	whole, err := json.MarshalIndent(got, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	t.Errorf("there is no testdata/places/%s.json; if this is right, write it:\n%s", golden, whole)
}

// TestEachCloudIsIdentified asks each provider's service over HTTP, once with the firmware's hint, and once without,
// so that five probes ask the same address.
func TestEachCloudIsIdentified(t *testing.T) {
	for _, provider := range []string{AWS, Azure, GCP, OCI, Nebius} {
		for name, tables := range map[string]map[string]string{"with a hint": tablesOf(provider), "without": nil} {
			t.Run(provider+" "+name, func(t *testing.T) {
				cfg := Config{Endpoints: everywhere(serve(t, newCloud(t, provider))), DMI: firmware(t, tables)}
				p, reasons := Probe(t.Context(), cfg)
				wantPlace(t, provider, p)
				for _, r := range reasons {
					if r.Probe == provider {
						t.Errorf("%s has a reason for not answering: %s", provider, r.Text)
					}
				}
			})
		}
	}
}

// TestKubernetesProvidersAreIdentified reads the node's object where there is no metadata service.
func TestKubernetesProvidersAreIdentified(t *testing.T) {
	for _, provider := range []string{CoreWeave, Lambda, Crusoe} {
		t.Run(provider, func(t *testing.T) {
			nobody := serve(t, nobody{})
			p, reasons := Probe(t.Context(), Config{Endpoints: everywhere(nobody), DMI: t.TempDir(), Kubernetes: newCluster(t, provider)})
			wantPlace(t, provider, p)
			if len(reasons) != 5 {
				t.Errorf("reasons of %d probes, want of five metadata services: %v", len(reasons), reasons)
			}
		})
	}
}

// TestAHintSparesTheOthers: the services of other clouds are not asked on a machine whose firmware is plain.
func TestAHintSparesTheOthers(t *testing.T) {
	cloud := newCloud(t, AWS)
	_, reasons := Probe(t.Context(), Config{Endpoints: everywhere(serve(t, cloud)), DMI: firmware(t, tablesOf(AWS))})
	for _, asked := range cloud.asked {
		if !strings.Contains(asked, "/latest/") {
			t.Errorf("was asked %s", asked)
		}
	}
	want := []Reason{{FromKubernetes, errNoCluster.Error()}}
	if diff := cmp.Diff(want, reasons); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
}

// TestClusterAndInstanceTogether has both speak: the instance knows itself best, the cluster knows the network, and
// that the instance is in a capacity block.
func TestClusterAndInstanceTogether(t *testing.T) {
	cfg := Config{Endpoints: everywhere(serve(t, newCloud(t, AWS))), DMI: firmware(t, tablesOf(AWS)), Kubernetes: newCluster(t, "eks")}
	p, _ := Probe(t.Context(), cfg)
	wantPlace(t, "eks", p)
}

// TestConfigurationWins over the metadata service, the cluster and the firmware, and says so.
func TestConfigurationWins(t *testing.T) {
	known := Place{Region: "mars-1", LifeCycle: Reserved, Cluster: "mine", Platform: "own", TopologyTiers: [Tiers]string{"rack-7"}}
	p, _ := Probe(t.Context(), Config{
		Known: known, Endpoints: everywhere(serve(t, newCloud(t, GCP))), DMI: firmware(t, tablesOf(GCP)),
	})
	want := map[string]string{"region": "mars-1", "life_cycle": Reserved, "cluster": "mine", "platform": "own", "topology_tier_0": "rack-7"}
	for name, value := range want {
		if p.Facts()[name] != value || p.Sources[name] != FromConfiguration {
			t.Errorf("%s is %q from %s, want %q from the configuration", name, p.Facts()[name], p.Sources[name], value)
		}
	}
	if p.TopologyTiers[1] != "" {
		t.Errorf("tiers %q: they must not be mixed from two sources", p.TopologyTiers)
	}
	if p.InstanceID == "" || p.Sources["instance_id"] != GCP {
		t.Errorf("instance %q from %q: what is not configured is still found", p.InstanceID, p.Sources["instance_id"])
	}
}

// TestARackIsLeftAlone: an operator who names a provider of his own does not want metadata services asked.
func TestARackIsLeftAlone(t *testing.T) {
	cloud := newCloud(t, AWS)
	p, _ := Probe(t.Context(), Config{
		Known: Place{Provider: "own", LifeCycle: Owned, Rack: "r7"}, Endpoints: everywhere(serve(t, cloud)), DMI: firmware(t, tablesOf(AWS)),
	})
	if len(cloud.asked)+cloud.issued > 0 {
		t.Errorf("was asked %q", cloud.asked)
	}
	if p.Provider != "own" || p.Rack != "r7" || p.InstanceID != "" {
		t.Errorf("%+v: the firmware's instance belongs to another provider", p)
	}
}

// TestProvidersThatDisagree: what the node's object says of another provider is not mixed in.
func TestProvidersThatDisagree(t *testing.T) {
	cfg := Config{Endpoints: everywhere(serve(t, newCloud(t, OCI))), DMI: t.TempDir(), Kubernetes: newCluster(t, "crusoe")}
	p, reasons := Probe(t.Context(), cfg)
	if p.Provider != OCI || p.Region != "us-ashburn-1" || p.KubernetesNode == "" {
		t.Errorf("%+v", p)
	}
	wantReason(t, reasons, FromKubernetes, `says "crusoe", and oci says "oci"`)
}

// TestColumnsAgreeWithTheSchema: what is stored bears the names of its columns, and of OpenTelemetry where both have
// one.
func TestColumnsAgreeWithTheSchema(t *testing.T) {
	table, _ := schema.TableByID(schema.NodeInventoryID)
	columns := make(map[string]schema.Column)
	for _, c := range table.WireColumns() {
		columns[c.Name] = c
	}
	local := map[string]bool{"instance_name": true, "host_group": true, "host_name": true, "site": true} // for a person alone
	for _, f := range Fields() {
		c, stored := columns[f.Name]
		if stored == local[f.Name] {
			t.Errorf("%s: a column %v, want %v", f.Name, stored, !local[f.Name])
		}
		if c.OTel != "" && c.OTel != f.OTel {
			t.Errorf("%s is %s here, %s in the schema", f.Name, f.OTel, c.OTel)
		}
	}
	kinds := make(map[string]bool)
	for _, k := range schema.EventKinds() {
		kinds[k.Name] = k.Source == schema.SourceCloud
	}
	for _, kind := range []string{Interruption, Rebalance, MaintenanceScheduled, MaintenanceStarted, MaintenanceEnded} {
		if !kinds[kind] {
			t.Errorf("%s is no kind of a cloud's event", kind)
		}
	}
}

func wantReason(t *testing.T, reasons []Reason, probe, part string) {
	t.Helper()
	for _, r := range reasons {
		if r.Probe == probe && strings.Contains(r.Text, part) {
			return
		}
	}
	t.Errorf("no reason of %s says %q: %q", probe, part, reasons)
}
