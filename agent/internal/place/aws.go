// SPDX-License-Identifier: Apache-2.0

package place

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// Paths of EC2's instance metadata service, version 2.
const (
	awsToken      = "/latest/api/token" //nolint:gosec // a path, not a secret
	awsDocument   = "/latest/dynamic/instance-identity/document"
	awsMetadata   = "/latest/meta-data/"
	awsLifeCycle  = awsMetadata + "instance-life-cycle"
	awsZoneID     = awsMetadata + "placement/availability-zone-id"
	awsGroup      = awsMetadata + "placement/group-name"
	awsPartition  = awsMetadata + "placement/partition-number"
	awsHost       = awsMetadata + "placement/host-id"
	awsTTLHeader  = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	awsTokenTitle = "X-Aws-Ec2-Metadata-Token" //nolint:gosec // the name of a header, not a secret
	awsTokenTTL   = 6 * time.Hour              // the most that is given
)

// errHopLimit names what a pod on a node with the default settings runs into.
var errHopLimit = errors.New("the service is there, but its token does not reach us: set the instance's metadata hop limit to 2, or use hostNetwork")

// awsService asks with a token, which it renews when it is old or no longer taken.
type awsService struct {
	service
	mu    sync.Mutex
	token string
	until time.Time
}

// get makes a request with a token.
func (s *awsService) get(ctx context.Context, path string) ([]byte, error) {
	for fresh := false; ; fresh = true {
		token, err := s.currentToken(ctx, fresh)
		if err != nil {
			return nil, err
		}
		a, err := s.ask(ctx, http.MethodGet, path, map[string]string{awsTokenTitle: token})
		if fresh || !hasStatus(err, http.StatusUnauthorized) {
			return a.body, err
		}
	}
}

func (s *awsService) currentToken(ctx context.Context, fresh bool) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !fresh && s.token != "" && time.Now().Before(s.until) {
		return s.token, nil
	}
	asked := time.Now()
	token, ttl, err := s.newToken(ctx)
	if err != nil {
		return "", err
	}
	s.token, s.until = token, asked.Add(ttl-ttl/10)
	return token, nil
}

// newToken leaves some of the time for finding out why there is no answer: to a container the service's answer
// may be one network hop too far, which this answer alone is not allowed to make.
func (s *awsService) newToken(ctx context.Context) (string, time.Duration, error) {
	limited, cancel := mostOf(ctx)
	defer cancel()
	a, err := s.ask(limited, http.MethodPut, awsToken, map[string]string{awsTTLHeader: strconv.Itoa(int(awsTokenTTL.Seconds()))})
	switch {
	case errors.Is(err, errNoAnswer) && s.answersWithoutToken(ctx):
		return "", 0, fmt.Errorf("%w: %w", err, errHopLimit)
	case hasStatus(err, http.StatusForbidden):
		return "", 0, fmt.Errorf("%w: the instance's metadata service is switched off", err)
	case err != nil:
		return "", 0, err
	}
	seconds, err := strconv.Atoi(a.header.Get(awsTTLHeader))
	if err != nil || seconds <= 0 || seconds > int(awsTokenTTL.Seconds()) || !plain(string(a.body)) {
		return "", 0, otherFormat("PUT " + awsToken)
	}
	return string(a.body), time.Duration(seconds) * time.Second, nil
}

// mostOf is three fifths of the time that is left.
func mostOf(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithTimeout(ctx, defaultCap)
	}
	return context.WithTimeout(ctx, time.Until(deadline)*3/5)
}

func (s *awsService) answersWithoutToken(ctx context.Context) bool {
	_, err := s.ask(ctx, http.MethodGet, awsMetadata, nil)
	return err == nil || hasStatus(err, http.StatusUnauthorized)
}

// askAWS asks for the identity document first: what follows is only asked of a service that proved to be EC2's.
func askAWS(ctx context.Context, s service) (Place, []error, error) {
	aws := &awsService{service: s}
	body, err := aws.get(ctx, awsDocument)
	if err != nil {
		return Place{}, nil, err
	}
	p, err := parseAWSDocument(body)
	if err != nil {
		return Place{}, nil, err
	}
	found, failed := many(ctx, aws.get, awsLifeCycle, awsZoneID, awsGroup, awsPartition, awsHost)
	p.ZoneID = string(found[awsZoneID])
	p.PlacementGroup = string(found[awsGroup])
	p.FaultDomain = string(found[awsPartition]) // a partition shares no racks with the others of its group
	p.PhysicalHost = string(found[awsHost])
	if said, ok := found[awsLifeCycle]; ok {
		if p.LifeCycle = awsLifeCycles[string(said)]; p.LifeCycle == "" {
			failed = append(failed, fmt.Errorf("GET %s: %.40q is no life cycle that this version knows", awsLifeCycle, said))
		}
	}
	return p, failed, nil
}

// awsLifeCycles has what the service says, which is what the API says too, except that the API is silent for
// on-demand.
var awsLifeCycles = map[string]string{
	"on-demand": OnDemand, "spot": Spot, "scheduled": Reserved, "capacity-block": CapacityBlock,
	"interruptible-capacity-reservation": Spot, // lent out of somebody's reservation, and taken back
}

var awsAccount = regexp.MustCompile(`^[0-9]{12}$`)

// parseAWSDocument reads an instance identity document. Others imitate EC2's service, so all that an identity
// needs must be there and look right.
func parseAWSDocument(body []byte) (Place, error) {
	var d struct {
		AccountID        string `json:"accountId"`
		AvailabilityZone string `json:"availabilityZone"`
		ImageID          string `json:"imageId"`
		InstanceID       string `json:"instanceId"`
		InstanceType     string `json:"instanceType"`
		Region           string `json:"region"`
	}
	if err := json.Unmarshal(body, &d); err != nil {
		return Place{}, otherFormat("GET " + awsDocument)
	}
	if !awsAccount.MatchString(d.AccountID) || !awsInstanceID.MatchString(d.InstanceID) || !awsInstanceType.MatchString(d.InstanceType) || d.Region == "" {
		return Place{}, otherFormat("GET " + awsDocument)
	}
	return Place{
		Provider: AWS, Platform: "aws_ec2", Region: d.Region, ZoneName: d.AvailabilityZone, AccountID: d.AccountID,
		InstanceType: d.InstanceType, InstanceID: d.InstanceID, ImageID: d.ImageID,
	}, nil
}

// otherFormat is the error for an answer that this cloud does not give.
func otherFormat(what string) error {
	return fmt.Errorf("%s: %w", what, errOtherFormat)
}

var errOtherFormat = errors.New("there is an answer, but not as this cloud gives it: no identity")
