// Asks for a code, a login where there is none, and a decision. It is the API's own client: nothing happens here that
// a request could not do.

const SCOPES = {
  "agreements:read": "see agreements, referrals and matches",
  "agreements:write": "write agreements, referrals and matches",
  "contacts:read": "read clients' contacts",
  "organizations:write": "change your organizations",
  "secrets:read": "read secrets",
  "secrets:write": "write secrets",
  "tokens:write": "make and revoke tokens",
  "votes:write": "vote",
};

const at = (id) => document.getElementById(id);
const steps = ["enter", "login", "decide", "done"].map(at);
let code = new URLSearchParams(location.search).get("user_code") ?? "";

async function ask(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: body ? { "Content-Type": "application/json" } : {},
    body: body && JSON.stringify(body),
  });
  const told = response.status === 204 ? null : await response.json();
  if (!response.ok) throw Object.assign(new Error(told.detail), { status: response.status, told });
  return told;
}

function show(step) {
  for (const each of steps) each.hidden = each !== step;
  step.querySelector("h1").focus();
  document.title = `${step.querySelector("h1").textContent} · BrokerFlow`;
}

function complain(error) {
  at("problem").hidden = !error;
  at("problem").textContent = error ?? "";
}

// What went wrong, for a person: what the service said, and what to do about it.
function sentence(error) {
  if (error.status === undefined) return "The service does not answer. Try again.";
  if (error.status === 401) return "The email or the password is wrong.";
  if (error.status === 404) return "No machine waits with this code. It may have ended: start again on the machine.";
  const wrong = (error.told.errors ?? []).map((each) => `The ${each.field.replaceAll("_", " ")} ${each.message}.`);
  return wrong.join(" ") || error.message;
}

// One request at a time, its buttons off meanwhile.
async function during(step, act) {
  const buttons = [...step.querySelectorAll("button")];
  for (const button of buttons) button.disabled = true;
  complain();
  try {
    await act();
  } catch (error) {
    complain(sentence(error));
  } finally {
    for (const button of buttons) button.disabled = false;
  }
}

async function look() {
  let found, me;
  try {
    [found, me] = await Promise.all([ask("GET", `/auth/device?user_code=${encodeURIComponent(code)}`), ask("GET", "/api/me")]);
  } catch (error) {
    if (error.status === 401) return show(at("login"));
    show(at("enter"));
    throw error;
  }
  at("shown").textContent = code.replace(/[^a-z]/gi, "").toUpperCase().replace(/^(.{4})/, "$1-");
  at("name").textContent = found.name;
  at("address").textContent = found.address ?? "an unknown address";
  at("asked").dateTime = found.created_at;
  at("asked").textContent = new Date(found.created_at).toLocaleTimeString();
  at("scopes").replaceChildren(...found.scopes.map((scope) => {
    const item = document.createElement("li");
    item.textContent = SCOPES[scope] ?? scope;
    return item;
  }));
  at("days").textContent = found.token_days === 1 ? "one day" : `${found.token_days} days`;
  at("who").textContent = `${me.full_name} (${me.email})`;
  show(at("decide"));
}

at("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  code = at("code").value;
  during(at("enter"), look);
});

at("login").addEventListener("submit", (event) => {
  event.preventDefault();
  during(at("login"), async () => {
    await ask("POST", "/auth/login", { email: at("email").value, password: at("password").value });
    at("password").value = "";
    await look();
  });
});

at("leave").addEventListener("click", () => during(at("decide"), async () => {
  await ask("POST", "/auth/logout");
  show(at("login"));
}));

at("decide").addEventListener("submit", (event) => {
  event.preventDefault();
  const decision = event.submitter?.value ?? "deny";
  during(at("decide"), async () => {
    await ask("POST", "/auth/device/decision", { user_code: code, decision });
    const [title, text] = at("done").children;
    title.textContent = decision === "approve" ? "The machine is logged in" : "The machine was denied";
    text.textContent = decision === "approve"
      ? "Go back to it: it goes on by itself. You may close this page; its token is among your tokens, where you can revoke it."
      : "It gets nothing. You may close this page.";
    show(at("done"));
  });
});

at("code").value = code;
if (code) during(at("enter"), look);
else show(at("enter"));
