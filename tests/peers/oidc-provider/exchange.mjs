// Token exchange (RFC 8693), which oidc-provider lacks: its own access tokens and JWT-SVIDs as subject and
// actor, narrowing, `act` chains, DPoP and certificate binding, authorization details.
import { errors } from 'oidc-provider';
// 9.x has no `exports` map, so these resolve; they may move with any release, hence the exact pin.
import validateDpop, { checkDpopReplay } from 'oidc-provider/lib/helpers/validate_dpop.js';
import { applyAuthorizationDetails } from 'oidc-provider/lib/helpers/grant_authorization.js';

export const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';

const type = (name) => `urn:ietf:params:oauth:token-type:${name}`;
const PARAMETERS = [
  'audience', 'resource', 'scope', 'requested_token_type', 'subject_token', 'subject_token_type',
  'actor_token', 'actor_token_type', 'authorization_details',
];

function check(params) {
  for (const name of ['subject_token', 'subject_token_type']) {
    if (!params[name]) throw new errors.InvalidRequest(`missing required parameter '${name}'`);
  }
  if (Boolean(params.actor_token) !== Boolean(params.actor_token_type)) {
    throw new errors.InvalidRequest('actor_token and actor_token_type go together');
  }
  if (params.requested_token_type && params.requested_token_type !== type('access_token')) {
    throw new errors.InvalidRequest('unsupported requested_token_type');
  }
}

function target(params, resources) {
  const targets = [params.resource ?? [], params.audience ?? []].flat();
  if (targets.length !== 1) throw new errors.InvalidTarget('exactly one resource or audience is required');
  if (!resources[targets[0]]) throw new errors.InvalidTarget();
  return targets[0];
}

function granted(asked, subject, resourceServer) {
  let scope = asked ? asked.split(' ') : resourceServer.scope.split(' ');
  if (subject.scope !== undefined) {
    const over = scope.filter((one) => !subject.scope.split(' ').includes(one));
    if (asked && over.length) {
      throw new errors.InvalidScope('requested scope exceeds the subject_token', over.join(' '));
    }
    scope = scope.filter((one) => !over.includes(one));
  }
  // What the resource server does not know is left out without a word.
  return scope.filter((one) => resourceServer.scopes.has(one)).join(' ') || undefined;
}

async function bind(provider, ctx, token, proof) {
  const { client } = ctx.oidc;
  if (client.tlsClientCertificateBoundAccessTokens) {
    const certificate = ctx.socket.getPeerX509Certificate?.();
    if (!certificate) throw new errors.InvalidGrant('mutual TLS client certificate not provided');
    token.setThumbprint('x5t', certificate.toString());
  }
  if (proof) {
    await checkDpopReplay(provider, ctx, proof, client.clientId, errors.InvalidGrant);
    token.setThumbprint('jkt', proof.thumbprint);
  } else if (client.dpopBoundAccessTokens) {
    throw new errors.InvalidGrant('DPoP proof JWT not provided');
  }
}

export function tokenExchange(provider, { resources, verifySvid }) {
  async function read(token, tokenType) {
    if (tokenType === type('access_token')) {
      const found = await provider.AccessToken.find(token);
      if (!found?.isValid) throw new errors.InvalidRequest('subject_token is invalid');
      const { accountId, clientId, scope, exp, extra } = found;
      return { sub: accountId ?? clientId, scope, exp, act: extra?.act };
    }
    if (tokenType !== type('jwt')) throw new errors.InvalidRequest('unsupported token type');
    try {
      return await verifySvid(token);
    } catch (cause) {
      throw new errors.InvalidRequest('subject_token is invalid', undefined, { cause });
    }
  }

  async function exchange(ctx) {
    const { params, client } = ctx.oidc;
    check(params);
    const proof = await validateDpop(provider, ctx);
    const subject = await read(params.subject_token, params.subject_token_type);
    const actor = params.actor_token && await read(params.actor_token, params.actor_token_type);
    const id = target(params, resources);

    const token = new provider.AccessToken({ client, accountId: subject.sub, gty: 'token_exchange' });
    token.resourceServer = new provider.ResourceServer(id, resources[id]);
    token.scope = granted(params.scope, subject, token.resourceServer);
    const act = actor ? { sub: actor.sub, ...(subject.act && { act: subject.act }) } : subject.act;
    ctx.state.claims = act && { act };
    await bind(provider, ctx, token, proof);
    await applyAuthorizationDetails(provider, ctx, token);
    if (params.subject_token_type === type('access_token')) {
      // A child does not outlive its parent.
      const left = subject.exp - Math.floor(Date.now() / 1000);
      if (left < resources[id].accessTokenTTL) token.expiresIn = left;
    }
    ctx.oidc.entity('AccessToken', token);
    ctx.body = {
      access_token: await token.save(),
      issued_token_type: type('access_token'),
      token_type: token.tokenType,
      expires_in: token.expiration,
      refresh_in: resources[id].renewAfter,
      scope: token.scope,
      authorization_details: token.rar,
    };
  }

  provider.registerGrantType(TOKEN_EXCHANGE, exchange, PARAMETERS, ['audience', 'resource']);
}
