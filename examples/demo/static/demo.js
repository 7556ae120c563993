// The countdown on each page, fed by an endpoint that keeps no session alive; times in the reader's own zone.

const POLL = 4000;

for (const time of document.querySelectorAll("time")) {
  const at = new Date(time.dateTime);
  time.textContent = at.toLocaleTimeString();
  time.title = at.toString();
}

const countdown = document.querySelector("#countdown");
if (countdown) watch();

function watch() {
  const remaining = document.querySelector("#remaining");
  const poll = document.querySelector("#poll");
  const cart = document.querySelector("#cart-count");
  let polls = 0;
  let endsAt;

  async function ask() {
    let status;
    try {
      const response = await fetch("/status");
      if (!response.ok) throw new Error(response.statusText);
      status = await response.json();
    } catch {
      poll.textContent = "The server does not answer.";
      return;
    }
    polls += 1;
    if (status.seconds_left === null) return end();
    endsAt = performance.now() + status.seconds_left * 1000;
    poll.textContent = `Questions to the server: ${polls}. Asking does not extend the session.`;
    cart.textContent = status.cart;
    cart.hidden = status.cart === 0;
    show();
  }

  function show() {
    if (endsAt === undefined) return;
    const seconds = Math.max(0, Math.ceil((endsAt - performance.now()) / 1000));
    const text = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    countdown.textContent = text;
    // Who is remembered has longer.
    remaining.max = Math.max(remaining.max, seconds);
    remaining.value = seconds;
    countdown.classList.toggle("soon", seconds <= 30);
  }

  function end() {
    clearInterval(asking);
    clearInterval(ticking);
    document.removeEventListener("visibilitychange", back);
    countdown.textContent = "ended";
    countdown.classList.add("soon");
    remaining.value = 0;
    const link = document.createElement("a");
    link.href = "/login";
    link.textContent = "Log in again";
    poll.replaceChildren("Your session has ended. ", link);
  }

  // Whoever comes back to this tab wants to know at once.
  function back() {
    if (!document.hidden) ask();
  }
  document.addEventListener("visibilitychange", back);
  const asking = setInterval(ask, POLL);
  const ticking = setInterval(show, 1000);
  ask();
}
