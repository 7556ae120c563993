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

/** What the dialog can say: its texts, and the button that gets the focus. */
const VIEWS = {
  extendable: { heading: "heading", message: "message", button: "stay" },
  final: { heading: "heading", message: "message-final", button: "dismiss" },
  ended: { heading: "ended-heading", message: "ended-message", button: "signIn" },
};

// `display` is forced: a modal dialog in a hidden element would lock the page without being seen.
const SHEET = new CSSStyleSheet();
SHEET.replaceSync(`
  :host { display: contents !important; }
  [hidden] { display: none !important; }
  dialog {
    --accent: var(--session-keep-alive-accent, #1d4ed8);
    --on-accent: var(--session-keep-alive-on-accent, #ffffff);
    --background: var(--session-keep-alive-background, #ffffff);
    --text: var(--session-keep-alive-text, #1b1b1f);
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
  @media (prefers-color-scheme: dark) {
    dialog {
      --accent: var(--session-keep-alive-accent, #9db8ff);
      --on-accent: var(--session-keep-alive-on-accent, #10131c);
      --background: var(--session-keep-alive-background, #1f1f24);
      --text: var(--session-keep-alive-text, #f2f2f5);
    }
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
    border: 1px solid;
    border-radius: 0.5rem;
    background: transparent;
    color: inherit;
    font: inherit;
    cursor: pointer;
  }
  button.main { border-color: var(--accent); background: var(--accent); color: var(--on-accent); }
  button[aria-disabled="true"] { cursor: progress; opacity: 0.7; }
  button:focus-visible { outline: 3px solid var(--text); outline-offset: 2px; }
  [aria-live="assertive"] {
    position: fixed;
    inline-size: 1px;
    block-size: 1px;
    overflow: hidden;
    clip-path: inset(50%);
    white-space: nowrap;
  }
`);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
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
  #buttons = {
    stay: make("button", { type: "button", part: "stay", class: "main" }),
    dismiss: make("button", { type: "button", part: "dismiss" }),
    signIn: make("button", { type: "button", part: "sign-in", class: "main" }),
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
    this.#buttons.stay.addEventListener("click", () => this.#stay());
    this.#buttons.dismiss.addEventListener("click", () => this.#dismiss());
    this.#buttons.signIn.addEventListener("click", () => this.#goToSignIn());
    this.#dialog.addEventListener("submit", () => this.#tell({ signing_out: true }));
    this.#dialog.addEventListener("cancel", (event) => this.#answerEscape(event));
    this.#dialog.addEventListener("close", () => this.#closed());
  }

  connectedCallback() {
    this.#endpoint = new URL(
      this.getAttribute("endpoint") || DEFAULT_ENDPOINT,
      document.baseURI,
    ).href;
    this.#listeners = new AbortController();
    const listen = (target, name, listener) => {
      target.addEventListener(name, listener, { signal: this.#listeners.signal });
    };
    listen(document, "visibilitychange", () => this.#comeBack());
    listen(window, "focus", () => this.#comeBack());
    listen(window, "online", () => this.#comeBack());
    // A page with an open channel may not be kept for the "Back" button.
    listen(window, "pagehide", () => this.#pause());
    listen(window, "pageshow", (event) => event.persisted && this.#resume());
    // By the key: browsers let a second "cancel" in a row close the dialog, whatever its listener says.
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
    return Math.min(this.#askBy, this.#failures ? this.#retryAt() : this.#scheduledAsk());
  }

  #retryAt() {
    return this.#failedAt + Math.min(FIRST_RETRY * 2 ** (this.#failures - 1), LAST_RETRY);
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
    // The time of sending: the session never ends before the countdown does, however slow the network is.
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
    this.#failures += 1;
    this.#failedAt = performance.now();
    if (method === "POST") this.#error.textContent = this.#text("error");
    if (this.#session?.warnAt <= this.#failedAt && this.#timeLeft() > 0) this.#warn();
  }

  #goOn(answer, sent, method) {
    const { seconds_left: left, warn_before: warn, can_stay } = answer;
    const deadline = sent.askedAt + left * SECOND;
    this.#failures = 0;
    this.#session = { ...sent, deadline, warnAt: deadline - warn * SECOND, canStay: can_stay };
    if (method === "POST") this.#tell({ left, warn, can_stay });
    if (left > warn) this.#reassure();
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
    const { heading, message, button } = VIEWS[view];
    this.#view = view;
    this.#heading.textContent = this.#text(heading);
    this.#showMessage(this.#text(message));
    this.#showActions(button);
    this.#error.textContent = "";
    this.#spokenOutside.textContent = "";
    this.#spoken.textContent = wasOpen ? this.#heading.textContent : "";
    this.#open();
  }

  #showMessage(text) {
    const [before, after] = text.split("{time}");
    this.#secondsShown = undefined;
    this.#message.replaceChildren(before);
    if (after !== undefined) this.#message.append(this.#countdown, after);
    if (this.#session) this.#count();
  }

  #showActions(main) {
    const { stay, dismiss, signIn } = this.#buttons;
    stay.textContent = this.#text("stay");
    dismiss.textContent = this.#text("dismiss");
    signIn.textContent = this.#text("sign-in-label");
    for (const [name, button] of Object.entries(this.#buttons)) button.hidden = name !== main;
    this.#signOut.hidden = this.#view === "ended";
    this.#signOutButton.textContent = this.#text("sign-out-label");
    this.#signOutForm.hidden = !this.hasAttribute("sign-out");
    this.#signOutForm.action = this.getAttribute("sign-out") ?? "";
  }

  #open() {
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#buttons[VIEWS[this.#view].button].focus();
  }

  #hide() {
    this.#view = undefined;
    this.#dialog.close();
  }

  #closed() {
    if (this.#dialog.open) return;
    if (this.#view) this.#open(); // It was not closed by this element.
    else if (this.#session && !this.#isDismissed) {
      this.#spokenOutside.textContent = this.#text("stayed");
    }
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

  /** Escape is what is safe to press unread: it stays signed in, and where that can't be it closes. */
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
