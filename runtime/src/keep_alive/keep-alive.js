// Warns a person before the session ends, and lets them stay signed in or sign out. In a page:
//   <script type="module" src="/session/keep-alive.js"></script>
//   <session-keep-alive sign-in="/login" sign-out="/logout"></session-keep-alive>

const NAME = "session-keep-alive";
/** The endpoint is the folder that this file is served from. */
const DEFAULT_ENDPOINT = new URL(".", import.meta.url).href.slice(0, -1);

const SECOND = 1000;
const MINUTE = 60 * SECOND;
/** setTimeout counts in 31 bits: a wait of more than 24 days would be over at once. */
const LONGEST_SLEEP = 60 * MINUTE;
const REQUEST_LIMIT = 15 * SECOND;
const WARNED_INTERVAL = 10 * SECOND;
const HIDDEN_INTERVAL = MINUTE;
const FIRST_RETRY = 5 * SECOND;
const LAST_RETRY = MINUTE;
/** An answer older than this is asked for again when someone comes back to the page. */
const OLD = MINUTE;
const CLOCK_TOLERANCE = 2 * SECOND;
/** Other tabs ask within this time of a message, not all at once. */
const JITTER = SECOND / 2;
/** What a sign-out needs to reach the server: the other tabs ask after it. */
const SIGN_OUT_TIME = 2 * SECOND;
/** The seconds left at which a screen reader says them. */
const ANNOUNCED = [60, 30, 10];

/** Each may be replaced by the attribute of the same name. */
const TEXTS = {
  "heading": "Your session is about to end",
  "message": "For your security you will be signed out in {time}.",
  "message-final": "Your session can't be extended and ends in {time}. Save your work.",
  "stay": "Stay signed in",
  "stayed": "You are still signed in.",
  "dismiss": "Close",
  "sign-out-label": "Sign out",
  "ended-heading": "You have been signed out",
  "ended-message": "Your session has ended. Sign in again to go on.",
  "sign-in-label": "Sign in again",
  "error": "That did not work. Try again.",
  "announce": "{time} left.",
};

/** What the dialog says: heading, message, and the button that gets the focus. */
const VIEWS = {
  extendable: ["heading", "message", "stay"],
  final: ["heading", "message-final", "dismiss"],
  ended: ["ended-heading", "ended-message", "sign-in-label"],
};

// The system's colours are light, dark or forced, as the reader's are. `display` is forced, since
// a modal dialog in a hidden element would lock the page without being seen.
const SHEET = new CSSStyleSheet();
SHEET.replaceSync(`
  :host { display: contents !important; }
  [hidden] { display: none !important; }
  dialog {
    --accent: var(--session-keep-alive-accent, #1e40af);
    --on-accent: var(--session-keep-alive-on-accent, #fff);
    --background: var(--session-keep-alive-background, Canvas);
    --text: var(--session-keep-alive-text, CanvasText);
    color-scheme: light dark;
    box-sizing: border-box;
    inline-size: 28rem;
    max-inline-size: calc(100% - 2rem);
    max-block-size: calc(100% - 2rem);
    padding: 1.5rem;
    border: 1px solid;
    border-radius: 0.75rem;
    background: var(--background);
    color: var(--text);
    line-height: 1.5;
    text-align: start;
    overflow-wrap: anywhere;
  }
  dialog::backdrop { background: rgb(0 0 0 / 60%); }
  h2 { margin: 0 0 0.75rem; font-size: 1.25rem; line-height: 1.3; }
  p { margin: 0; }
  [role="timer"] { font-weight: bold; font-variant-numeric: tabular-nums; }
  [role="alert"] { font-weight: bold; }
  [role="alert"]:not(:empty) { margin-block-start: 0.75rem; }
  .actions { display: flex; flex-wrap: wrap; gap: 0.75rem; margin-block-start: 1.5rem; }
  button {
    min-block-size: 2.75rem;
    padding: 0.5rem 1rem;
    border: 1px solid var(--text);
    border-radius: 0.5rem;
    background: var(--background);
    color: var(--text);
    font: inherit;
    cursor: pointer;
  }
  .main { background: var(--accent); color: var(--on-accent); }
  [aria-disabled="true"] { cursor: progress; opacity: 0.7; }
  button:focus-visible { outline: 3px solid var(--text); outline-offset: 2px; }
  [aria-live="assertive"] { position: fixed; clip-path: inset(50%); }
`);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function makeButton(part, listener) {
  const button = make("button", { type: "button", class: "main", part });
  button.addEventListener("click", listener);
  return button;
}

/** The server's answer. Throws for each that says nothing about the session. */
async function fetchAnswer(endpoint, method, signal) {
  const response = await fetch(endpoint, {
    method,
    signal,
    credentials: "same-origin",
    cache: "no-store",
    redirect: "error", // It would lead to a login page.
    headers: { Accept: "application/json" },
  });
  if (response.status === 401) return { seconds_left: null };
  if (!response.ok) throw new Error(`The session endpoint answered ${response.status}.`);
  const answer = await response.json();
  const isLive = Number.isFinite(answer.seconds_left) && Number.isFinite(answer.warn_before);
  if (answer.seconds_left !== null && !isLive) throw new Error("That is not a session's state.");
  return answer;
}

function digits(seconds) {
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

function words(seconds, locale) {
  const [value, unit] = seconds % 60 ? [seconds, "second"] : [seconds / 60, "minute"];
  return new Intl.NumberFormat(locale, { style: "unit", unit, unitDisplay: "long" }).format(value);
}

/** English, the language of the texts, where the page has no language or one that is malformed. */
function localeOf(element) {
  try {
    return Intl.getCanonicalLocales(element.closest("[lang]")?.lang ?? "en");
  } catch {
    return "en";
  }
}

class SessionKeepAlive extends HTMLElement {
  #endpoint;
  #channel;
  #listeners;
  #timer;
  /** The controller of the one request that is on the way. */
  #request;
  /** Undefined: not known yet. Null: there is none, or it has ended. */
  #session;
  #failures = 0;
  #failedAt;
  /** When to ask because of another tab, at the latest. */
  #askBy = Infinity;
  /** What the dialog says. Undefined: it is to be closed. */
  #view;
  #isWarned = false;
  #isDismissed = false;
  #secondsShown;

  #heading = make("h2", { id: "heading", part: "heading" });
  #message = make("p", { id: "message", part: "message" });
  #countdown = make("span", { "role": "timer", "aria-live": "off" });
  #error = make("p", { role: "alert" });
  /** By the name of their text. */
  #buttons = {
    "stay": makeButton("stay", () => this.#stay()),
    "dismiss": makeButton("dismiss", () => this.#dismiss()),
    "sign-in-label": makeButton("sign-in", () => this.#goToSignIn()),
  };
  #signOutButton = make("button", { part: "sign-out" });
  #signOutForm = make("form", { method: "post" }, this.#signOutButton);
  #signOut = make("slot", { name: "sign-out" }, this.#signOutForm);
  #spoken = make("div", { "aria-live": "assertive" });
  /** An open dialog silences what is outside of it, and a closed one what is inside. */
  #spokenOutside = make("div", { "aria-live": "assertive" });
  #dialog = make(
    "dialog",
    {
      "role": "alertdialog",
      "part": "dialog",
      "aria-labelledby": "heading",
      "aria-describedby": "message",
    },
    this.#heading,
    this.#message,
    this.#error,
    make("div", { class: "actions" }, ...Object.values(this.#buttons), this.#signOut),
    this.#spoken,
  );

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [SHEET];
    root.append(this.#dialog, this.#spokenOutside);
    this.#dialog.addEventListener("submit", () => this.#tell({ signing_out: true }));
    this.#dialog.addEventListener("cancel", (event) => this.#answerEscape(event));
    this.#dialog.addEventListener("close", () => this.#closed());
  }

  connectedCallback() {
    const endpoint = this.getAttribute("endpoint") || DEFAULT_ENDPOINT;
    this.#endpoint = new URL(endpoint, document.baseURI).href;
    this.#listeners = new AbortController();
    const listen = (target, name, listener) => {
      target.addEventListener(name, listener, { signal: this.#listeners.signal });
    };
    const comeBack = () => this.#comeBack();
    listen(document, "visibilitychange", comeBack);
    listen(window, "focus", comeBack);
    listen(window, "online", comeBack);
    // A page with an open channel may not be kept for the "Back" button.
    listen(window, "pagehide", () => this.#pause());
    listen(window, "pageshow", (event) => event.persisted && this.#resume());
    // By the key, since browsers let a second "cancel" in a row close the dialog all the same.
    listen(window, "keydown", (event) => event.key === "Escape" && this.#answerEscape(event));
    this.#resume();
  }

  disconnectedCallback() {
    this.#listeners.abort();
    this.#pause();
    this.#session = undefined;
    this.#failures = 0;
    this.#askBy = Infinity;
    this.#isWarned = false;
    this.#isDismissed = false;
    this.#hide();
  }

  #resume() {
    this.#channel = new BroadcastChannel(`${NAME}:${this.#endpoint}`);
    this.#channel.addEventListener("message", (event) => this.#hear(event.data));
    if (this.#session !== null) this.#ask();
  }

  #pause() {
    clearTimeout(this.#timer);
    this.#request?.abort();
    this.#request = undefined;
    this.#channel?.close();
    this.#channel = undefined;
  }

  /** Someone is back at the page, or the network is: what is known may be old. */
  #comeBack() {
    if (document.hidden || this.#session === null) return;
    const isKnown = this.#session && !this.#failures && !this.#clocksDisagree();
    if (isKnown && performance.now() - this.#session.askedAt < OLD) this.#tick();
    else this.#ask();
  }

  /** They do when someone has set the one, or when the other has stood still in sleep. */
  #clocksDisagree() {
    const { askedAt, clock } = this.#session;
    return Math.abs(Date.now() - clock - (performance.now() - askedAt)) > CLOCK_TOLERANCE;
  }

  /** Does what is due, and sleeps until something is again. */
  #tick() {
    clearTimeout(this.#timer);
    if (!this.#session && !this.#failures) return;
    if (this.#view) this.#count();
    if (this.#nextAsk() <= performance.now()) this.#ask();
    this.#timer = setTimeout(() => this.#tick(), this.#sleepTime());
  }

  #sleepTime() {
    if (this.#view && !document.hidden) {
      const left = this.#timeLeft();
      return left > 0 ? (left % SECOND) + 1 : SECOND;
    }
    // What is on the way ends the sleep itself.
    if (this.#request) return LONGEST_SLEEP;
    return Math.min(this.#nextAsk() - performance.now(), LONGEST_SLEEP);
  }

  #nextAsk() {
    const retryAt = this.#failedAt + Math.min(FIRST_RETRY * 2 ** (this.#failures - 1), LAST_RETRY);
    return Math.min(this.#askBy, this.#failures ? retryAt : this.#scheduledAsk());
  }

  #scheduledAsk() {
    const { askedAt, warnAt, deadline } = this.#session;
    if (this.#clocksDisagree()) return askedAt;
    if (askedAt < warnAt) return warnAt;
    const interval = document.hidden ? HIDDEN_INTERVAL : WARNED_INTERVAL;
    return Math.min(askedAt + interval, Math.max(deadline, askedAt + SECOND));
  }

  #timeLeft() {
    return Math.max(0, this.#session.deadline - performance.now());
  }

  #ask() {
    if (!this.#request) this.#send("GET");
  }

  #stay() {
    if (this.#buttons.stay.getAttribute("aria-disabled") === "true") return;
    this.#error.textContent = "";
    this.#request?.abort(); // What it would say is old.
    this.#send("POST");
  }

  async #send(method) {
    const request = new AbortController();
    const limit = setTimeout(() => request.abort(), REQUEST_LIMIT);
    // From the sending on: on a slow network the countdown may end early, but never late.
    const sent = { askedAt: performance.now(), clock: Date.now() };
    this.#request = request;
    if (this.#askBy <= sent.askedAt) this.#askBy = Infinity;
    this.#buttons.stay.setAttribute("aria-disabled", method === "POST");
    const answer = await fetchAnswer(this.#endpoint, method, request.signal).catch(() => undefined);
    clearTimeout(limit);
    if (this.#request !== request) return;
    this.#request = undefined;
    this.#buttons.stay.setAttribute("aria-disabled", false);
    if (!answer) this.#fail(method);
    else if (answer.seconds_left === null) this.#end();
    else this.#goOn(answer, sent, method);
    this.#tick();
  }

  /** Nothing new is known: what was known stays true, and is enough for the warning. */
  #fail(method) {
    const now = performance.now();
    if (this.#session?.warnAt <= now && this.#timeLeft() > 0) this.#warn();
    if (method === "POST") {
      this.#error.textContent = this.#text("error");
    } else {
      this.#failures += 1;
      this.#failedAt = now;
    }
  }

  #goOn(answer, sent, method) {
    const { seconds_left: left, warn_before: warn, can_stay } = answer;
    const deadline = sent.askedAt + left * SECOND;
    const warnAt = deadline - warn * SECOND;
    this.#failures = 0;
    this.#session = { ...sent, deadline, warnAt, canStay: can_stay };
    if (method === "POST") this.#tell({ left, warn, can_stay });
    if (sent.askedAt < warnAt) this.#reassure();
    else this.#warn();
  }

  #reassure() {
    if (!this.#isWarned) return;
    this.#isWarned = false;
    this.#isDismissed = false;
    this.#hide();
    this.#emit("session-extended");
  }

  #warn() {
    const view = this.#session.canStay ? "extendable" : "final";
    if (view === "final" && this.#isDismissed) return;
    this.#show(view);
    if (this.#isWarned) return;
    this.#isWarned = true;
    this.#emit("session-warning");
  }

  #end() {
    const hadSession = Boolean(this.#session);
    this.#session = null;
    this.#failures = 0;
    // Also when there was none: this may be the page that follows a sign-out.
    this.#tell({ ended: true });
    if (!hadSession) return;
    this.#spokenOutside.textContent = "";
    const isWanted = this.#emit("session-ended", { cancelable: true });
    if (isWanted && this.isConnected) this.#show("ended");
    else this.#hide();
  }

  #emit(name, options) {
    return this.dispatchEvent(new Event(name, { bubbles: true, composed: true, ...options }));
  }

  #tell(news) {
    this.#channel?.postMessage(news);
  }

  /** Another tab's word closes a warning at most. For anything else the server is asked. */
  #hear({ left, warn, signing_out }) {
    if (!this.#session) return;
    if (left > warn) this.#hide();
    const delay = (signing_out ? SIGN_OUT_TIME : 0) + Math.random() * JITTER;
    this.#askBy = Math.min(this.#askBy, performance.now() + delay);
    this.#tick();
  }

  #show(view) {
    if (this.#view === view) return;
    const wasOpen = this.#dialog.open;
    const [heading, message, main] = VIEWS[view];
    this.#view = view;
    this.#heading.textContent = this.#text(heading);
    this.#showMessage(this.#text(message));
    for (const [name, button] of Object.entries(this.#buttons)) button.hidden = name !== main;
    this.#buttons[main].textContent = this.#text(main);
    this.#showSignOut();
    this.#error.textContent = "";
    this.#spokenOutside.textContent = "";
    this.#spoken.textContent = wasOpen ? this.#message.textContent : "";
    this.#open();
  }

  #showMessage(text) {
    const [before, after] = text.split("{time}");
    this.#message.replaceChildren(before);
    if (after !== undefined) this.#message.append(this.#countdown, after);
    this.#secondsShown = undefined;
    if (this.#session) this.#count();
  }

  #showSignOut() {
    this.#signOut.hidden = this.#view === "ended";
    this.#signOutForm.hidden = !this.hasAttribute("sign-out");
    this.#signOutForm.action = this.getAttribute("sign-out") ?? "";
    this.#signOutButton.textContent = this.#text("sign-out-label");
  }

  #open() {
    if (!this.#dialog.open) this.#dialog.showModal();
    const [, , main] = VIEWS[this.#view];
    this.#buttons[main].focus();
  }

  #hide() {
    this.#view = undefined;
    this.#dialog.close();
  }

  #closed() {
    if (this.#dialog.open) return;
    // With a view, it was not this element that has closed it.
    if (this.#view) return this.#open();
    const isExtended = this.#session && !this.#isDismissed;
    if (isExtended) this.#spokenOutside.textContent = this.#text("stayed");
  }

  #count() {
    const before = this.#secondsShown;
    const seconds = Math.ceil(this.#timeLeft() / SECOND);
    this.#secondsShown = seconds;
    this.#countdown.textContent = digits(seconds);
    if (!ANNOUNCED.some((at) => before > at && at >= seconds)) return;
    const time = words(seconds, localeOf(this));
    this.#spoken.textContent = this.#text("announce").replace("{time}", time);
  }

  /** Escape does what is safe: it stays signed in, and where that can't be it closes. */
  #answerEscape(event) {
    if (!this.#view) return;
    event.preventDefault();
    if (this.#view === "extendable") this.#stay();
    else if (this.#view === "final") this.#dismiss();
  }

  /** There is nothing to decide, but work to be saved. The end is shown all the same. */
  #dismiss() {
    this.#isDismissed = true;
    this.#hide();
    this.#tick();
  }

  #goToSignIn() {
    const url = this.getAttribute("sign-in");
    if (url) location.assign(url);
    else location.reload();
  }

  #text(name) {
    return this.getAttribute(name) ?? TEXTS[name];
  }
}

// Two elements on a page may each bring this file, from addresses that differ in their query.
if (!customElements.get(NAME)) customElements.define(NAME, SessionKeepAlive);
