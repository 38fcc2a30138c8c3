// The real SPIRE that `nox -s spire` builds and tests against. Why this version: docs/decisions.md.
module spiffe-client/tests/peers/spire

go 1.26

require github.com/spiffe/spire v1.13.3

// The patch release that SPIRE 1.13.3 asks for is missing from the public checksum database.
require github.com/GoogleCloudPlatform/cloudsql-proxy v1.37.15
