// Clients, resource servers and features: what of oidc-provider itself is switched on.
import * as crypto from 'node:crypto';
import * as jose from 'jose';
import { errors } from 'oidc-provider';
import { TOKEN_EXCHANGE } from './exchange.mjs';

export const resources = {
  'https://api.example.org/': {
    scope: 'read write admin', audience: 'https://api.example.org/', accessTokenFormat: 'opaque', accessTokenTTL: 120,
  },
  'https://jwt.example.org/': {
    scope: 'read write', audience: 'https://jwt.example.org/', accessTokenFormat: 'jwt', accessTokenTTL: 120,
    jwt: { sign: { alg: 'ES256' } },
  },
  // Shorter than what a client would keep: each caller gets one of its own.
  'https://brief.example.org/': {
    scope: 'read', audience: 'https://brief.example.org/', accessTokenFormat: 'opaque', accessTokenTTL: 8,
  },
  // Says when it wants to be asked again, as Entra ID does.
  'https://renewed.example.org/': {
    scope: 'read', audience: 'https://renewed.example.org/', accessTokenFormat: 'opaque', accessTokenTTL: 20, renewAfter: 2,
  },
};

const CLIENT = {
  authorization_details_types: ['agent_action'],
  redirect_uris: [],
  response_types: [],
  grant_types: [TOKEN_EXCHANGE, 'client_credentials'],
  id_token_signed_response_alg: 'ES256',
};

export function clientIds(trustDomain) {
  const id = (name) => `spiffe://${trustDomain}/agent/${name}`;
  return { plain: [id('a'), id('sub')], dpop: id('dpop'), x509: id('x509'), wit: id('wit') };
}

function clients(trustDomain, privateKeyJwtKeys) {
  const { plain, dpop, x509, wit } = clientIds(trustDomain);
  return [
    ...plain.map((id) => ({ ...CLIENT, client_id: id, token_endpoint_auth_method: 'none' })),
    { ...CLIENT, client_id: dpop, token_endpoint_auth_method: 'none', dpop_bound_access_tokens: true },
    {
      ...CLIENT, client_id: x509, token_endpoint_auth_method: 'tls_client_auth',
      tls_client_auth_san_uri: x509, tls_client_certificate_bound_access_tokens: true,
    },
    { ...CLIENT, client_id: wit, token_endpoint_auth_method: 'attest_jwt_client_auth' },
    {
      ...CLIENT, client_id: 'signer', token_endpoint_auth_method: 'private_key_jwt',
      jwks: privateKeyJwtKeys, token_endpoint_auth_signing_alg: 'ES256',
    },
    {
      ...CLIENT, client_id: 'secretive', token_endpoint_auth_method: 'client_secret_basic',
      client_secret: 'a secret: with+signs&more%',
    },
    {
      ...CLIENT, client_id: 'poster', token_endpoint_auth_method: 'client_secret_post',
      client_secret: 'a secret: with+signs&more%',
    },
    // A resource server: it may look up everybody's tokens.
    { ...CLIENT, client_id: 'rs', token_endpoint_auth_method: 'client_secret_basic', client_secret: 'rs-secret' },
  ];
}

function validateAction(ctx, detail) {
  if (!Array.isArray(detail.actions)) throw new errors.InvalidAuthorizationDetails('actions required');
}

// A broker may grant less than was asked for (RFC 9396 §7): `admin` is never granted.
const reduced = (details) => details.map((one) => ({ ...one, actions: one.actions.filter((a) => a !== 'admin') }));

const uris = (certificate) => (certificate.subjectAltName ?? '').split(', ').filter((name) => name.startsWith('URI:'));

function features(nonce, attestationKey) {
  const own = (ctx, client, token) => client.clientId === token.clientId;
  return {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: {
      enabled: true,
      allowedPolicy: (ctx, client, token) => client.clientId === 'rs' || own(ctx, client, token),
    },
    revocation: { enabled: true, allowedPolicy: own },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      useGrantedResource: () => true,
      getResourceServerInfo(ctx, name) {
        if (!resources[name]) throw new errors.InvalidTarget();
        return resources[name];
      },
    },
    richAuthorizationRequests: {
      enabled: true,
      types: { agent_action: { validate: validateAction } },
      authorizationDetailsForAccessToken: (ctx) => reduced(JSON.parse(ctx.oidc.params.authorization_details)),
      authorizationDetailsForIntrospection: (ctx, token) => token.rar,
      authorizationDetailsForGrantSource: () => undefined,
    },
    dPoP: { enabled: true, nonceSecret: crypto.randomBytes(32), requireNonce: () => nonce === 'always' },
    attestClientAuth: {
      enabled: true,
      ack: 'draft-12',
      challengeSecret: crypto.randomBytes(32),
      getAttestationSignaturePublicKey: () => attestationKey,
      assertAttestationJwtAndPop() {},
    },
    mTLS: {
      enabled: true,
      certificateBoundAccessTokens: true,
      tlsClientAuth: true,
      selfSignedTlsClientAuth: false,
      getCertificate: (ctx) => ctx.socket.getPeerX509Certificate?.()?.toString(),
      certificateAuthorized: (ctx) => ctx.socket.authorized === true,
      // Exactly one URI SAN, and this one (X509-SVID §2).
      certificateSubjectMatches: (ctx, property, expected) => property === 'tls_client_auth_san_uri'
        && uris(ctx.socket.getPeerX509Certificate()).join() === `URI:${expected}`,
    },
  };
}

export async function configuration({
  trustDomain, privateKeyJwtKeys, attestationKey, nonce, discovery,
}) {
  const { privateKey } = await jose.generateKeyPair('ES256', { extractable: true });
  return {
    jwks: { keys: [{ ...await jose.exportJWK(privateKey), kid: 'broker', alg: 'ES256', use: 'sig' }] },
    clients: clients(trustDomain, privateKeyJwtKeys),
    scopes: ['openid', 'offline_access'],
    clientAuthMethods: [
      'none', 'client_secret_basic', 'client_secret_post', 'private_key_jwt', 'tls_client_auth', 'attest_jwt_client_auth',
    ],
    discovery,
    clientBasedCORS: () => false,
    extraTokenClaims: (ctx) => ctx.state.claims,
    ttl: { ClientCredentials: 120, AccessToken: (ctx, token) => token.resourceServer?.accessTokenTTL || 120 },
    features: features(nonce, attestationKey),
  };
}
