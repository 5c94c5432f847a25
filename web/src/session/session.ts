// Who is signed in, as the server says; the page itself keeps no key.

import { Problem, request, type Session } from "../api.ts";

export function readSession(): Promise<Session> {
  return request<Session>("/session");
}

/**
 * Begin a session with a key or a token. Raises Problem, `unauthorized` for one that is not known, and
 * `no_cookie` where the browser keeps none, as browsers do without TLS.
 */
export async function signIn(key: string): Promise<Session> {
  await request("/session", { method: "POST", headers: { Authorization: `Bearer ${key}` } });
  const session = await readSession();
  if (session.owner === null) {
    const detail = "The key is good, but this browser keeps no cookie from here. Open the page over https.";
    throw new Problem(0, "no_cookie", detail);
  }
  return session;
}

export async function signOut(): Promise<void> {
  await request("/session", { method: "DELETE" });
}
