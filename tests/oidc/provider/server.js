// A conforming OpenID provider on loopback: node server.js PORT CLIENT_SECRET (0: any port). It tells its issuer on
// standard output when it is ready, makes new keys at each start, and believes whoever logs in; who is called
// unverified-... has an address that it has not verified.
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { createServer } from "node:http";

import Provider from "oidc-provider";

const [port, secret] = process.argv.slice(2);

function account(login) {
  const claims = {
    sub: login,
    email: login,
    email_verified: !login.startsWith("unverified-"),
    name: `${login.split("@")[0]} of the provider`,
  };
  return { accountId: login, claims: () => claims };
}

function key() {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  return { ...privateKey.export({ format: "jwk" }), use: "sig", alg: "RS256", kid: randomBytes(8).toString("hex") };
}

const server = createServer();
server.listen(Number(port), "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name"] },
    clients: [
      {
        client_id: "brokerflow",
        client_secret: secret,
        application_type: "native", // its loopback address may have any port (RFC 8252)
        redirect_uris: ["http://127.0.0.1/auth/oidc/callback"],
        token_endpoint_auth_method: "client_secret_basic",
      },
    ],
    cookies: { keys: [randomBytes(16).toString("hex")] },
    findAccount: (_context, login) => account(login),
    jwks: { keys: [key()] },
  });
  server.on("request", provider.callback());
  console.log(issuer);
});
process.stdin.resume().on("end", () => process.exit(0)); // it ends with whoever started it
