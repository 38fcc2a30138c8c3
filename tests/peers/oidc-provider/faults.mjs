// What a broken network or an overloaded broker would do, asked for over HTTP, and what was counted.
//
//   POST /__fault {"path": "/token", "n": 2, "status": 503, "retryAfter": "1", "headers": {}, "body": "{}",
//                  "type": "application/json", "delayMs": 0, "drop": false, "after": false}
//   DELETE /__fault     forget all
//   GET /__requests     {"POST /token": 3, …}
//
// `n` is how many requests it hits, `path` how their path ends. `after`: the broker acts, and its reply is lost.

async function read(req) {
  const chunks = [];
  for await (const chunk of req) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

export function faults() {
  const requests = {};
  let planned = [];

  async function control(ctx) {
    if (ctx.path === '/__requests') {
      ctx.body = requests;
    } else if (ctx.method === 'DELETE') {
      planned = [];
      ctx.status = 204;
    } else {
      planned.push(JSON.parse(await read(ctx.req)));
      ctx.status = 204;
    }
  }

  function drop(ctx) {
    ctx.respond = false;
    ctx.req.socket.destroy();
  }

  return async function faulty(ctx, next) {
    if (ctx.path.startsWith('/__')) return control(ctx);
    const name = `${ctx.method} ${ctx.path}`;
    requests[name] = (requests[name] ?? 0) + 1;
    const fault = planned.find((f) => f.n > 0 && ctx.path.endsWith(f.path ?? ''));
    if (!fault) return next();
    fault.n -= 1;
    if (fault.delayMs) await new Promise((done) => setTimeout(done, fault.delayMs));
    if (fault.after) await next();
    if (fault.drop) return drop(ctx);
    if (!fault.status) return fault.after ? undefined : next();
    ctx.status = fault.status;
    if (fault.retryAfter) ctx.set('retry-after', fault.retryAfter);
    for (const [header, value] of Object.entries(fault.headers ?? {})) ctx.set(header, value);
    ctx.type = fault.type ?? 'application/json';
    ctx.body = fault.body ?? JSON.stringify({ error: 'temporarily_unavailable' });
    return undefined;
  };
}
