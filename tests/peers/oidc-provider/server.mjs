// oidc-provider as a token broker on loopback. README.md says what the environment sets.
import * as fs from 'node:fs';
import * as http from 'node:http';
import * as https from 'node:https';
import * as path from 'node:path';
import * as jose from 'jose';
import Provider from 'oidc-provider';
import { clientIds, configuration, resources } from './configuration.mjs';
import { tokenExchange } from './exchange.mjs';
import { faults } from './faults.mjs';
import { jwtSvids, spiffeAuthentication, witAttestation } from './spiffe.mjs';

const { env } = process;
const HOST = '127.0.0.1';
const TLS = env.TLS === '1';
const PREFIX = env.ISSUER_PATH ?? '';
const TRUST_DOMAIN = env.TRUST_DOMAIN ?? 'example.org';
const file = (name) => path.join(env.KEYS ?? 'keys', name);

const handlers = [];
const handle = (req, res) => handlers[0](req, res);

async function listen(port, { certificates = false } = {}) {
  const server = TLS
    ? https.createServer({
      key: fs.readFileSync(file('server.key')),
      cert: fs.readFileSync(file('server.pem')),
      ...(certificates && { ca: [fs.readFileSync(file('authorities.pem'))], requestCert: true, rejectUnauthorized: false }),
    }, handle)
    : http.createServer(handle);
  await new Promise((done) => { server.listen(port, HOST, done); });
  return `${TLS ? 'https' : 'http'}://${HOST}:${server.address().port}${PREFIX}`;
}

// With aliases the issuer's own port asks nobody for a certificate (RFC 8705 §5).
const aliased = TLS && env.MTLS_ALIASES === '1';
const issuer = await listen(Number(env.PORT ?? 0), { certificates: !aliased });
const discovery = {};
if (aliased) {
  const alias = await listen(0, { certificates: true });
  discovery.mtls_endpoint_aliases = {
    token_endpoint: `${alias}/token`,
    revocation_endpoint: `${alias}/token/revocation`,
    introspection_endpoint: `${alias}/token/introspection`,
  };
}

const attestation = await jose.generateKeyPair('ES256');
const provider = new Provider(issuer, await configuration({
  trustDomain: TRUST_DOMAIN,
  privateKeyJwtKeys: JSON.parse(fs.readFileSync(file('private-key-jwt.json'))),
  attestationKey: attestation.publicKey,
  nonce: env.DPOP_NONCE,
  discovery,
}));
const verifySvid = jwtSvids(file('bundle.json'), issuer);
const { plain, dpop } = clientIds(TRUST_DOMAIN);
provider.use(faults());
provider.use(witAttestation(file('wit-bundle.json'), attestation.privateKey));
provider.use(spiffeAuthentication(verifySvid, {
  spiffeClients: [...plain, dpop],
  requireClientId: env.REQUIRE_CLIENT_ID === '1',
}));
// What this broker adds, oidc-provider cannot announce: `discovery` only adds members, never to one.
provider.use(async (ctx, next) => {
  await next();
  if (ctx.path.includes('/.well-known/') && ctx.body?.issuer) {
    const own = ctx.body.token_endpoint_auth_methods_supported ?? [];
    ctx.body.token_endpoint_auth_methods_supported = [...own, 'spiffe_jwt', 'spiffe_x509', 'spiffe_wit'];
  }
});
tokenExchange(provider, { resources, verifySvid });

provider.on('server_error', (ctx, error) => console.error('server_error', error));
if (env.DEBUG_PEER) {
  provider.on('grant.error', (ctx, error) => console.error('grant.error', error.message, error.error_detail));
}

const callback = provider.callback();
const INSERTED = '/.well-known/oauth-authorization-server';
handlers.push((req, res) => {
  if (PREFIX) {
    req.originalUrl = req.url;
    req.baseUrl = PREFIX;
    if (req.url === INSERTED + PREFIX) {
      req.url = INSERTED;
    } else if (req.url.startsWith(`${PREFIX}/`)) {
      req.url = req.url.slice(PREFIX.length);
    } else {
      res.statusCode = 404;
      res.end();
      return;
    }
  }
  callback(req, res);
});
console.log(JSON.stringify({ ready: true, issuer, pid: process.pid }));
