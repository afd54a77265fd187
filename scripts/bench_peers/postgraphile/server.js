// A peer: PostGraphile 5 as a library, as its documentation recommends: row security, told by pgSettings who asks.
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { makePgService } from "postgraphile/adaptors/pg";
import { postgraphile } from "postgraphile";
import { grafserv } from "postgraphile/grafserv/node";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";

const preset = {
  extends: [PostGraphileAmberPreset],
  pgServices: [
    makePgService({
      connectionString: process.env.BENCH_DATABASE_URL,
      schemas: ["app_public"],
      poolConfig: { max: Number(process.env.BENCH_POOL_SIZE ?? 10) },
    }),
  ],
  grafserv: { graphiql: false, watch: false },
  grafast: {
    explain: false,
    context(requestContext) {
      const token = requestContext.node?.req.headers.authorization?.slice("Bearer ".length) ?? "";
      const digest = createHash("sha256").update(token).digest("hex");
      return { pgSettings: { "jwt.claims.token_digest": digest } };
    },
  },
};

const server = createServer();
const served = postgraphile(preset).createServ(grafserv);
await served.addTo(server);
server.listen(Number(process.argv[2]), "127.0.0.1");
