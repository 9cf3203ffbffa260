// SPDX-License-Identifier: Apache-2.0

package place

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
)

// metadataProbe asks one provider's metadata service.
type metadataProbe struct {
	provider string
	host     string // name of the service; the address is the same for all
	header   map[string]string
	// ask returns what was found, what was not in spite of being asked, and why there is no identity.
	ask func(context.Context, service) (Place, []error, error)
}

// metadataProbes in the order in which an answer counts, should two services give one.
func metadataProbes() []metadataProbe {
	return []metadataProbe{
		{AWS, "", nil, askAWS},
		{Azure, "", map[string]string{"Metadata": "true"}, askAzure},
		{GCP, "metadata.google.internal", map[string]string{gcpFlavor: "Google"}, askGCP},
		{OCI, "", map[string]string{"Authorization": "Bearer Oracle"}, askOCI},
		{Nebius, "metadata.nebius.internal", map[string]string{"Metadata": "true"}, askNebius},
	}
}

// service is where the probe asks.
func (m metadataProbe) service(cfg Config, dial dialer) service {
	base := linkLocal
	if given := cfg.Endpoints[m.provider]; given != "" {
		base = strings.TrimSuffix(given, "/")
	}
	return service{base: base, name: m.host, header: m.header, client: newClient(dial, nil)}
}

// Probe finds out where the node is, within cfg.Cap. The firmware says whom to ask; if it says nothing, all are
// asked at once, and the first identity ends the race. The reasons say why the others did not answer.
func Probe(ctx context.Context, cfg Config) (Place, []Reason) {
	cfg = cfg.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, cfg.Cap)
	defer cancel()
	hint := readDMI(cfg.DMI)
	r := race(ctx, cfg, candidates(cfg.Known.Provider, hint.Provider))
	m := merger{reasons: r.reasons(cfg.Cap)}
	m.fill(FromConfiguration, cfg.Known)
	m.fill(FromKubernetes, r.normal)
	if r.winner != nil {
		m.fill(r.winner.place.Provider, r.winner.place)
	}
	if m.agrees(FromKubernetes, r.rest.Provider) {
		m.refine(cfg.Known, r.rest)
		m.fill(FromKubernetes, r.rest)
	} else {
		m.fill(FromKubernetes, Place{KubernetesNode: r.rest.KubernetesNode, Cluster: r.rest.Cluster})
	}
	if m.agrees(FromDMI, hint.Provider) {
		m.fill(FromDMI, hint)
	}
	if name, err := os.Hostname(); err == nil {
		m.fill(FromHost, Place{HostName: name})
	}
	return m.place, m.reasons
}

// candidates are the services worth asking. A provider that has none, such as a rack of one's own, is asked
// nothing.
func candidates(known, hint string) []metadataProbe {
	all := metadataProbes()
	wanted := known
	if wanted == "" {
		wanted = hint
	}
	if wanted == "" {
		return all
	}
	for _, p := range all {
		if p.provider == wanted {
			return []metadataProbe{p}
		}
	}
	return nil
}

// result is what one metadata service said.
type result struct {
	probe  string
	place  Place
	failed []error
	err    error
}

// outcome is what all that were asked said.
type outcome struct {
	results      []result
	winner       *result // the first in order that is an identity
	normal, rest Place   // of the Kubernetes node
	clusterErr   error
}

// race asks all at once and waits for all to end. An identity ends the other metadata services' time.
func race(ctx context.Context, cfg Config, probes []metadataProbe) outcome {
	dial := cfg.dial
	if dial == nil {
		dial = dialNearby
	}
	racing, stop := context.WithCancel(ctx)
	defer stop()
	o := outcome{results: make([]result, len(probes))}
	var asked sync.WaitGroup
	for i, probe := range probes {
		asked.Go(func() {
			s := probe.service(cfg, dial)
			defer s.client.CloseIdleConnections()
			own := result{probe: probe.provider}
			if own.place, own.failed, own.err = probe.ask(racing, s); own.err == nil {
				stop()
			}
			o.results[i] = own
		})
	}
	asked.Go(func() { o.normal, o.rest, o.clusterErr = askKubernetes(ctx, cfg.Kubernetes) })
	asked.Wait()
	for i := range o.results {
		if o.results[i].err == nil {
			o.winner = &o.results[i]
			break
		}
	}
	return o
}

// reasons leaves out those who were not waited for.
func (o outcome) reasons(limit fmt.Stringer) (reasons []Reason) {
	for _, r := range o.results {
		for _, err := range append(r.failed, r.err) {
			switch {
			case err == nil || o.winner != nil && errors.Is(err, context.Canceled):
			case errors.Is(err, errNoAnswer):
				reasons = append(reasons, Reason{r.probe, fmt.Sprintf("%s (%s for all)", err, limit)})
			default:
				reasons = append(reasons, Reason{r.probe, err.Error()})
			}
		}
		if r.err == nil && o.winner.probe != r.probe {
			reasons = append(reasons, Reason{r.probe, "answers too, and is not believed: " + o.winner.probe + " goes first"})
		}
	}
	if o.clusterErr != nil {
		reasons = append(reasons, Reason{FromKubernetes, o.clusterErr.Error()})
	}
	return reasons
}

// merger puts together what the probes found.
type merger struct {
	place   Place
	reasons []Reason
}

func (m *merger) fill(from string, found Place) {
	if refused := m.place.fill(from, found); len(refused) > 0 {
		m.reasons = append(m.reasons, Reason{from, "not a line of plain text, left out: " + strings.Join(refused, ", ")})
	}
}

// agrees tells whether a source speaks of the same provider as what is known already.
func (m *merger) agrees(from, provider string) bool {
	if provider == "" || m.place.Provider == "" || provider == m.place.Provider {
		return true
	}
	m.reasons = append(m.reasons, Reason{from, fmt.Sprintf("says %.40q, and %s says %q: the latter is believed", provider, m.place.Sources["provider"], m.place.Provider)})
	return false
}

// refine takes from the node's object what is more exact than what the instance itself can know: that the cluster
// is the provider's own, and that what looks like on-demand runs in a reservation.
func (m *merger) refine(known, labelled Place) {
	if known.Platform == "" && labelled.Platform != "" {
		m.place.replace("platform", FromKubernetes, labelled)
	}
	if known.LifeCycle == "" && labelled.LifeCycle != "" && m.place.LifeCycle == OnDemand {
		m.place.replace("life_cycle", FromKubernetes, labelled)
	}
}
