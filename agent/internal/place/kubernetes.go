// SPDX-License-Identifier: Apache-2.0

package place

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// Kubernetes says how to read the node's object. The service account needs the right to get nodes.
type Kubernetes struct {
	APIServer string // https://host:port; "" outside a cluster
	Node      string // name of this node
	TokenFile string
	CAFile    string
}

// serviceAccount is where a pod finds its token and the authority of the API server.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount/"

// InCluster is what the environment of a pod says. NODE_NAME is not there by itself: the pod's description sets
// it from spec.nodeName.
func InCluster(getenv func(string) string) Kubernetes {
	k := Kubernetes{Node: getenv("NODE_NAME"), TokenFile: serviceAccount + "token", CAFile: serviceAccount + "ca.crt"}
	if host, port := getenv("KUBERNETES_SERVICE_HOST"), getenv("KUBERNETES_SERVICE_PORT"); host != "" && port != "" {
		k.APIServer = "https://" + net.JoinHostPort(host, port)
	}
	return k
}

var (
	errNoCluster  = errors.New("not asked: this is no pod (KUBERNETES_SERVICE_HOST is not set)")
	errNoNodeName = errors.New("not asked: set NODE_NAME in the pod's description, from fieldRef spec.nodeName")
)

// cluster is an API server that can be asked.
type cluster struct {
	service
	node string
}

// open reads the token and the authority anew: both are renewed while the agent runs.
func (k Kubernetes) open() (*cluster, error) {
	switch {
	case k.APIServer == "":
		return nil, errNoCluster
	case k.Node == "":
		return nil, errNoNodeName
	}
	token, err := os.ReadFile(k.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("read the service account's token: %w", err)
	}
	authority, err := os.ReadFile(k.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read the API server's authority: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("read the API server's authority: %s holds no certificate", k.CAFile)
	}
	secured := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	var d net.Dialer
	return &cluster{node: k.Node, service: service{
		base: strings.TrimSuffix(k.APIServer, "/"), client: newClient(d.DialContext, secured),
		header: map[string]string{"Authorization": "Bearer " + strings.TrimSpace(string(token)), "Accept": "application/json"},
	}}, nil
}

// read gets the node's object. Version 0 means: what the API server has in memory will do.
func (c *cluster) read(ctx context.Context) (node, error) {
	body, err := c.get(ctx, "/api/v1/nodes/"+url.PathEscape(c.node)+"?resourceVersion=0")
	switch {
	case hasStatus(err, http.StatusUnauthorized, http.StatusForbidden):
		return node{}, fmt.Errorf("%w: allow the agent's service account to get nodes", err)
	case absent(err):
		return node{}, fmt.Errorf("%w: is NODE_NAME right?", err)
	case err != nil:
		return node{}, err
	}
	return parseNode(body, c.node)
}

// askKubernetes reads the node's object. What topograph wrote into it comes first: it has the same form in all
// clouds.
func askKubernetes(ctx context.Context, k Kubernetes) (normal, rest Place, err error) {
	c, err := k.open()
	if err != nil {
		return Place{}, Place{}, err
	}
	defer c.client.CloseIdleConnections()
	n, err := c.read(ctx)
	if err != nil {
		return Place{}, Place{}, err
	}
	return normalForm(n.Metadata.Labels), n.place(), nil
}

// node is the part of a node's object that is read.
type node struct {
	Kind     string `json:"kind"`
	Metadata struct {
		Name   string            `json:"name"`
		Labels map[string]string `json:"labels"`
	} `json:"metadata"`
	Spec struct {
		ProviderID string `json:"providerID"`
	} `json:"spec"`
	Status struct {
		Conditions []condition `json:"conditions"`
	} `json:"status"`
}

type condition struct {
	Type               string `json:"type"`
	Status             string `json:"status"`
	Reason             string `json:"reason"`
	Message            string `json:"message"`
	LastTransitionTime string `json:"lastTransitionTime"`
}

// parseNode reads the object of the node that was asked for.
func parseNode(body []byte, name string) (node, error) {
	var n node
	if err := json.Unmarshal(body, &n); err != nil || n.Kind != "Node" || n.Metadata.Name != name {
		return node{}, fmt.Errorf("the API server's answer is not the node %s", name)
	}
	return n, nil
}
