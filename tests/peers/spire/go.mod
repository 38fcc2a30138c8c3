// The real SPIRE that `nox -s spire` builds and tests against. Why these versions: docs/decisions.md.
module spiffe-client/tests/peers/spire

go 1.26.3

require github.com/spiffe/spire v1.15.1

// The commits of the SDKs that SPIRE 1.15.1 asks for are not in the public checksum database; these are their releases.
require (
	github.com/spiffe/spire-api-sdk v1.15.1
	github.com/spiffe/spire-plugin-sdk v1.15.1
)

// Neither is this patch release, for a plugin that is not used here.
require github.com/aws/aws-sdk-go-v2/service/rolesanywhere v1.22.3

// For another plugin that is not used here: v1.1.0 is not to be had.
replace github.com/Keyfactor/ejbca-go-client-sdk => github.com/Keyfactor/ejbca-go-client-sdk v1.0.2
