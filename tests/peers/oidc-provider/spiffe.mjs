// Clients that authenticate with a JWT-SVID or a WIT-SVID (draft-ietf-oauth-spiffe-client-auth); oidc-provider
// knows only the assertion type of RFC 7523, and attestations with a `typ` of their own.
import * as fs from 'node:fs';
import * as querystring from 'node:querystring';
import * as jose from 'jose';

const JWT_SPIFFE = 'urn:ietf:params:oauth:client-assertion-type:jwt-spiffe';

// Reads the SPIFFE bundle anew for each token: authorities rotate while the broker runs.
export function jwtSvids(bundleFile, audience) {
  return async function verify(token) {
    const { keys } = JSON.parse(fs.readFileSync(bundleFile));
    const trusted = keys.filter((key) => key.use === 'jwt-svid').map(({ use, ...key }) => key);
    const options = { requiredClaims: ['sub', 'aud', 'exp'], clockTolerance: 5, algorithms: ['ES256', 'RS256'] };
    const { payload } = await jose.jwtVerify(token, jose.createLocalJWKSet({ keys: trusted }), options);
    const audiences = [payload.aud].flat();
    if (audiences.length !== 1 || audiences[0] !== audience) throw new Error('aud has to be the issuer alone');
    return payload;
  };
}

function refuse(ctx, why) {
  if (process.env.DEBUG_PEER) console.error('client authentication:', why);
  ctx.status = 401;
  ctx.set('cache-control', 'no-store');
  ctx.body = { error: 'invalid_client', error_description: 'client authentication failed' };
}

// Verifies a WIT-SVID and says the same as an attestation that oidc-provider knows, signed by `key`. The
// proof of possession, its challenge and its replay are oidc-provider's own business.
export function witAttestation(bundleFile, key) {
  return async function attest(ctx, next) {
    const wit = ctx.get('oauth-client-attestation');
    if (!wit) return next();
    const { keys } = JSON.parse(fs.readFileSync(bundleFile));
    const trusted = jose.createLocalJWKSet({ keys: keys.map(({ use, ...jwk }) => jwk) });
    const options = { typ: 'wit+jwt', requiredClaims: ['sub', 'exp', 'cnf'], clockTolerance: 5 };
    let claims;
    try {
      claims = (await jose.jwtVerify(wit, trusted, options)).payload;
    } catch (error) {
      return refuse(ctx, error.message);
    }
    const { sub, exp, cnf } = claims;
    const header = { typ: 'oauth-client-attestation+jwt', alg: 'ES256' };
    ctx.req.headers['oauth-client-attestation'] = await new jose.SignJWT({ sub, exp, cnf })
      .setProtectedHeader(header).setIssuedAt().sign(key);
    return next();
  };
}

export function spiffeAuthentication(verify, { spiffeClients, requireClientId }) {
  return async function authenticate(ctx, next) {
    if (ctx.method !== 'POST' || !ctx.is('application/x-www-form-urlencoded')) return next();
    const chunks = [];
    for await (const chunk of ctx.req) chunks.push(chunk);
    const form = querystring.parse(Buffer.concat(chunks).toString());
    if (form.client_assertion_type === JWT_SPIFFE) {
      try {
        const svid = await verify(form.client_assertion);
        if (requireClientId && !form.client_id) throw new Error('client_id is required');
        if (form.client_id && form.client_id !== svid.sub) throw new Error('client_id is another than sub');
        form.client_id = svid.sub;
      } catch (error) {
        return refuse(ctx, error.message);
      }
      delete form.client_assertion;
      delete form.client_assertion_type;
    } else if (spiffeClients.includes(form.client_id)) {
      // Registered with `none` below, so what keeps others out is here.
      return refuse(ctx, 'no JWT-SVID');
    }
    ctx.req.body = form;
    return next();
  };
}
