// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const installPage = "docs/install.md"

var (
	// wanted finds what a manifest takes from secrets and config maps.
	wanted = regexp.MustCompile(`secretName: ([a-z-]+)|secretKeyRef: \{ name: ([a-z-]+)|configMap: \{ name: ([a-z-]+)`)
	// made finds where the page makes one.
	made = regexp.MustCompile(`create (?:secret (?:generic|tls)|configmap) ([a-z-]+)`)
	// settled finds the files below /etc/gpufleet that units and the page name.
	settled = regexp.MustCompile(`/etc/gpufleet/[a-z.]+`)
	// closing finds what keeps a unit from devices, with one version of systemd or another.
	closing = regexp.MustCompile(`(?m)^(?:ProtectClock|PrivateDevices|DevicePolicy|DeviceAllow)=`)
	// mounted and volume find the two ends of a volume.
	mounted = regexp.MustCompile(`\{ name: ([a-z]+), mountPath:`)
	volume  = regexp.MustCompile(`(?m)^ +(?:- )?name: ([a-z]+)(?: #.*)?$`)
)

// TestDeployFilesAgreeWithTheirPage: what units and manifests want is made on the page that tells how to install them.
func TestDeployFilesAgreeWithTheirPage(t *testing.T) {
	report(t, deployViolations(checkout(t)))
}

func deployViolations(files tree) (found []string) {
	page := files[installPage]
	making := words(made, page)
	for _, name := range files.paths() {
		switch text := files[name]; {
		case strings.HasPrefix(name, "deploy/kubernetes/"):
			for _, want := range words(wanted, text) {
				if !slices.Contains(making, want) {
					found = append(found, fmt.Sprintf("%s wants %s, which %s does not make", name, want, installPage))
				}
			}
			for _, mount := range words(mounted, text) {
				if !slices.Contains(words(volume, text), mount) {
					found = append(found, fmt.Sprintf("%s mounts %s, which is no volume there", name, mount))
				}
			}
		case strings.HasPrefix(name, "deploy/systemd/"):
			if closes := closing.FindString(text); closes != "" && strings.Contains(name, "agent") {
				found = append(found, fmt.Sprintf("%s has %s, which closes the devices that it reads", name, closes))
			}
			for _, file := range settled.FindAllString(text, -1) {
				base := strings.TrimPrefix(file, "/etc/gpufleet/")
				if !strings.Contains(page, file) && !strings.Contains(page, " "+base+" ") {
					found = append(found, fmt.Sprintf("%s wants %s, of which %s says nothing", name, file, installPage))
				}
			}
		}
	}
	return found
}

// words are what the groups of an expression find, each once.
func words(e *regexp.Regexp, text string) (found []string) {
	for _, match := range e.FindAllStringSubmatch(text, -1) {
		found = append(found, strings.Join(match[1:], ""))
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func TestDeployRuleCatches(t *testing.T) {
	files := tree{
		installPage:                     "kubectl create secret generic a-key --from-file=x\nkubectl create configmap ca\ninstall x.key /etc/gpufleet/\ncat > /etc/gpufleet/a.yaml",
		"deploy/kubernetes/a.yaml":      "secret: { secretName: a-key }\nconfigMap: { name: ca }\nvolumeMounts:\n  - { name: data, mountPath: /a }\nvolumes:\n  - name: data # here\n",
		"deploy/systemd/a.service":      "A=/etc/gpufleet/a.yaml --b /etc/gpufleet/x.key",
		"deploy/clickhouse/package.txt": "secretName: other",
	}
	wantViolations(t, deployViolations(files))
	files["deploy/kubernetes/b.yaml"] = "env: { secretKeyRef: { name: b-key } }\n  - { name: run, mountPath: /run }\n"
	files["deploy/systemd/b.service"] = "A=/etc/gpufleet/b.pem"
	wantViolations(t, deployViolations(files),
		"deploy/kubernetes/b.yaml wants b-key, which docs/install.md does not make",
		"deploy/kubernetes/b.yaml mounts run, which is no volume there",
		"deploy/systemd/b.service wants /etc/gpufleet/b.pem, of which")
}
