// The same clicks for three shops, and what they come to.

const table = document.querySelector("#compared");
if (table) compare();

function compare() {
  const shops = [...new Set([...table.querySelectorAll("[data-way]")].map((cell) => cell.dataset.way))];
  const happening = document.querySelector("#happening");
  const buttons = document.querySelectorAll("#clicks button");
  const harm = Object.fromEntries(shops.map((shop) => [shop, { lost: 0, undone: 0 }]));

  // Longer than an interval: whoever asks next finds the session due.
  const untilDue = () => pause(1100);
  const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

  async function ask(shop, path, method = "GET") {
    const response = await fetch(`/compare/${shop}${path}`, { method });
    if (!response.ok) throw new Error(`${shop}${path} answered ${response.status}`);
    return response;
  }

  // What a visitor sees who has clicked in another tab while a page was loading.
  async function meanwhile(shop, click) {
    await ask(shop, "/login", "POST");
    await untilDue();
    const slow = ask(shop, "/slow");
    await pause(150);
    await ask(shop, click, "POST");
    await slow;
    return (await ask(shop, "/seen")).json();
  }

  const clicks = {
    "browse": {
      tells: "A visitor logs in and opens twenty pages.",
      async make(shop) {
        await ask(shop, "/login", "POST");
        for (let page = 0; page < 20; page++) await ask(shop, "/page");
      },
    },
    "add-meanwhile": {
      tells: "A page loads slowly; meanwhile an item goes into the cart in another tab.",
      async make(shop) {
        if ((await meanwhile(shop, "/cart")).cart === 0) harm[shop].lost += 1;
      },
    },
    "logout-meanwhile": {
      tells: "A page loads slowly; meanwhile the visitor logs out in another tab.",
      async make(shop) {
        if ((await meanwhile(shop, "/logout")).logged_in) harm[shop].undone += 1;
      },
    },
  };

  async function count() {
    const counts = await (await fetch("/compare/counts")).json();
    shops.forEach((shop, place) => {
      const figures = { ...counts[place], ...harm[shop] };
      for (const [figure, value] of Object.entries(figures)) {
        const cell = table.querySelector(`[data-way="${shop}"][data-figure="${figure}"]`);
        cell.textContent = value.toLocaleString("en");
        cell.classList.toggle("bad", figure in harm[shop] && value > 0);
      }
    });
  }

  async function run(names, times) {
    for (const button of buttons) button.disabled = true;
    const counting = setInterval(() => count().catch(() => {}), 150);
    try {
      for (let time = 0; time < times; time++) {
        for (const name of names) {
          happening.textContent = clicks[name].tells;
          await Promise.all(shops.map(clicks[name].make));
        }
      }
      happening.textContent = "Done.";
    } catch (error) {
      happening.textContent = `Something went wrong: ${error.message}.`;
    }
    clearInterval(counting);
    await count().catch(() => {});
    for (const button of buttons) button.disabled = false;
  }

  for (const button of buttons) {
    const names = button.dataset.clicks.split(" ");
    button.addEventListener("click", () => run(names, Number(button.dataset.times ?? 1)));
  }
  count();
}
