//! The demo in a real browser. Ignored where Chromium and its driver are not installed.
//!
//! It runs the demo that is built: `cargo test -p session-refresh-examples` builds it first, `--test browser` alone does not.

use std::{
    env,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration as StdDuration,
};

use fantoccini::{
    Client, ClientBuilder, Locator,
    actions::{InputSource as _, KeyAction, KeyActions},
    cookies::Cookie,
    key::Key,
    wd::WindowHandle,
};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use sqlx::{SqlitePool, sqlite::SqliteConnectOptions};
use time::{Duration, OffsetDateTime, ext::NumericalDuration as _};

/// A process that ends with the test, however that ends.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// The demo on its own database, and a browser in front of it.
struct Stage {
    browser: Client,
    database: SqlitePool,
    url: String,
    // Dropped last, in this order.
    _driver: Process,
    _demo: Process,
    _folder: tempfile::TempDir,
}

impl Stage {
    async fn set() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let file = folder.path().join("demo.sqlite3");
        let (demo, url) = demo(&file);
        let options = SqliteConnectOptions::new().filename(&file);
        let database = SqlitePool::connect_with(options).await.expect("it is open");

        let port = free_port();
        let driver = Command::new(env!("CHROMEDRIVER"))
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        let driver = Process(driver);
        let profile = folder.path().join("profile");
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--window-size=1280,1000",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            &format!("--user-data-dir={}", profile.display()),
        ];
        let capabilities = json!({
            "goog:chromeOptions": { "binary": env!("CHROMIUM"), "args": arguments },
        });
        let browser = connect(port, &capabilities).await;
        Self {
            browser,
            database,
            url,
            _driver: driver,
            _demo: demo,
            _folder: folder,
        }
    }

    async fn visit(&self, path: &str) {
        let url = format!("{}{path}", self.url);
        self.browser.goto(&url).await.expect("the page loads");
    }

    /// Nobody is logged in any more.
    async fn forget(&self) {
        let deleted = sqlx::query("delete from tower_sessions")
            .execute(&self.database)
            .await;
        deleted.expect("the database can be written");
    }

    async fn log_in(&self) {
        self.visit("/login").await;
        self.click("button[value=ursula]").await;
        self.shows("h2", "Hello").await;
    }

    async fn find(&self, css: &str) -> fantoccini::elements::Element {
        let found = self.browser.wait().for_element(Locator::Css(css)).await;
        found.unwrap_or_else(|error| panic!("{css} is on the page: {error}"))
    }

    async fn click(&self, css: &str) {
        self.find(css).await.click().await.expect("it is clickable");
    }

    async fn text(&self, css: &str) -> String {
        self.find(css).await.text().await.expect("it has a text")
    }

    /// Waits until an element's text contains `text`: a page may still be loading, or its script be about to ask.
    async fn shows(&self, css: &str, text: &str) {
        self.holds(css, &format!("{css} shows {text:?}"), |shown| {
            shown.contains(text)
        })
        .await;
    }

    async fn holds(&self, css: &str, what: &str, condition: impl Fn(&str) -> bool) {
        const PATIENCE: StdDuration = StdDuration::from_secs(60);
        let shown = async {
            loop {
                if let Ok(element) = self.browser.find(Locator::Css(css)).await
                    && let Ok(shown) = element.text().await
                    && condition(&shown)
                {
                    return;
                }
                tokio::time::sleep(StdDuration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, shown).await.is_err() {
            let source = self.browser.source().await.unwrap_or_default();
            panic!("{what}: {source}");
        }
    }

    async fn cookie(&self) -> Cookie<'static> {
        let cookie = self.browser.get_named_cookie("id").await;
        cookie.expect("the browser holds the session's cookie")
    }

    async fn cookie_ends(&self) -> OffsetDateTime {
        let cookie = self.cookie().await;
        cookie.expires_datetime().expect("it has an end")
    }

    async fn session_ends(&self) -> OffsetDateTime {
        let (end,) = sqlx::query_as("select expiry_date from tower_sessions")
            .fetch_one(&self.database)
            .await
            .expect("there is one session");
        end
    }

    /// Has the session, and the browser's cookie, end at `end`, as if they had been extended that much earlier.
    async fn end_at(&self, end: OffsetDateTime) {
        sqlx::query("update tower_sessions set expiry_date = ?")
            .bind(end)
            .execute(&self.database)
            .await
            .expect("the database can be written");
        let mut cookie = self.cookie().await;
        cookie.set_expires(end);
        let set = self.browser.add_cookie(cookie).await;
        set.expect("the cookie can be set");
    }

    async fn age(&self, by: Duration) {
        let end = self.session_ends().await - by;
        self.end_at(end).await;
    }
}

/// `<session-keep-alive>`, seen from a test.
impl Stage {
    async fn run(&self, script: &str) -> Value {
        let ran = self.browser.execute(script, Vec::new()).await;
        ran.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Something in the element's shadow: `dialog` is the dialog, `shadow` what it lies in.
    async fn of_dialog(&self, expression: &str) -> Value {
        self.run(&format!(
            "const shadow = document.querySelector('session-keep-alive').shadowRoot;
             const dialog = shadow.querySelector('dialog');
             return {expression};"
        ))
        .await
    }

    /// Waits until that is so.
    async fn becomes(&self, expression: &str, expected: impl Into<Value>) {
        let expected = expected.into();
        let mut seen = Value::Null;
        for _ in 0..400 {
            seen = self.of_dialog(expression).await;
            if seen == expected {
                return;
            }
            tokio::time::sleep(StdDuration::from_millis(50)).await;
        }
        panic!("{expression} is {seen}, not {expected}");
    }

    /// As a laptop does that has slept for ten minutes: its clock has gone on, the page's timers have not.
    async fn wake(&self) {
        self.run(
            "const clock = Date.now;
             Date.now = () => clock() + 600000;
             window.dispatchEvent(new Event('focus'));
             Date.now = clock;",
        )
        .await;
    }

    /// Logs in, and lets the session come to its last seconds.
    async fn comes_to_its_end(&self) {
        self.forget().await;
        self.log_in().await;
        self.becomes("shadow.querySelector('dialog') !== null", true)
            .await;
        self.nears_its_end().await;
    }

    async fn nears_its_end(&self) {
        self.end_at(OffsetDateTime::now_utc() + 45.seconds()).await;
        self.wake().await;
    }

    async fn press(&self, key: Key) {
        let keys = KeyActions::new("keyboard".into())
            .then(KeyAction::Down { value: key.into() })
            .then(KeyAction::Up { value: key.into() });
        let pressed = self.browser.perform_actions(keys).await;
        pressed.expect("there is a keyboard");
    }

    /// What axe-core has to say about the page, dialog included. Skipped where it is not installed.
    async fn is_accessible(&self, name: &str) {
        self.picture(name).await;
        let axe = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../target/axe/node_modules/axe-core/axe.min.js"
        );
        let Ok(axe) = std::fs::read_to_string(axe) else {
            eprintln!(
                "skipped: no axe-core in target/axe (npm install --prefix target/axe axe-core)"
            );
            return;
        };
        self.run(&axe).await;
        let script = "const done = arguments[0];
             axe.run({ resultTypes: ['violations'] }).then(
                 (found) => done(found.violations.map((each) => `${each.id}: ${each.nodes.map((node) => node.html)}`)),
                 (error) => done([String(error)]),
             );";
        let found = self.browser.execute_async(script, Vec::new()).await;
        assert_eq!(found.expect("axe runs"), json!([]), "{name}");
    }

    /// For whoever wants to look: a picture in the folder that `SCREENSHOTS` names.
    async fn picture(&self, name: &str) {
        if let Some(folder) = env::var_os("SCREENSHOTS") {
            let picture = self.browser.screenshot().await.expect("a picture");
            let file = PathBuf::from(folder).join(format!("{name}.png"));
            std::fs::write(file, picture).expect("it can be written");
        }
    }
}

const IS_OPEN: &str = "dialog.open";
const HEADING: &str = "dialog.querySelector('h2').textContent";
const FOCUSED: &str = "shadow.activeElement?.textContent ?? null";

async fn a_person_is_warned_and_stays(stage: &Stage) {
    stage.comes_to_its_end().await;
    stage.becomes(IS_OPEN, true).await;
    stage.becomes(HEADING, "Your session is about to end").await;
    stage.becomes(FOCUSED, "Stay signed in").await;
    stage
        .becomes("dialog.getAttribute('role')", "alertdialog")
        .await;
    stage
        .becomes(
            "/^0:[34]\\d$/.test(shadow.querySelector('[role=timer]').textContent)",
            true,
        )
        .await;
    stage.becomes("document.getAnimations().length", 0).await;
    stage.is_accessible("warning").await;

    stage
        .of_dialog("shadow.querySelector('[part=stay]').click()")
        .await;
    stage.becomes(IS_OPEN, false).await;
    let a_lifetime = OffsetDateTime::now_utc() + 80.seconds();
    assert!(stage.session_ends().await > a_lifetime);
    assert!(stage.cookie_ends().await > a_lifetime);
}

async fn the_keyboard_is_enough(stage: &Stage) {
    // In the page's own words.
    stage
        .run(
            "const element = document.querySelector('session-keep-alive');
             element.setAttribute('stay', 'Bleiben');
             element.setAttribute('message', 'Noch {time}');",
        )
        .await;
    for key in [Key::Enter, Key::Escape] {
        stage.run("document.querySelector('nav a').focus();").await;
        stage.nears_its_end().await;
        stage.becomes(FOCUSED, "Bleiben").await;
        stage
            .becomes(
                "/^Noch 0:[34]/.test(dialog.querySelector('p').textContent)",
                true,
            )
            .await;
        stage.press(key).await;
        stage.becomes(IS_OPEN, false).await;
        assert!(stage.session_ends().await > OffsetDateTime::now_utc() + 80.seconds());
        // Back to where the person was.
        stage
            .becomes("document.activeElement.matches('nav a')", true)
            .await;
    }
    // Tab goes to the other button and stays in the dialog.
    stage.nears_its_end().await;
    stage.becomes(FOCUSED, "Bleiben").await;
    stage.press(Key::Tab).await;
    stage.becomes(FOCUSED, "Sign out").await;
    stage.press(Key::Enter).await;
    stage.shows("h1", "Log in").await;
}

async fn tabs_follow_each_other(stage: &Stage) {
    let browser = &stage.browser;
    stage.comes_to_its_end().await;
    stage.becomes(IS_OPEN, true).await;
    let first = browser.window().await.expect("there is one");
    let second = browser.new_window(true).await.expect("a tab opens").handle;
    let switch = async |window: &WindowHandle| {
        let switched = browser.switch_to_window(window.clone()).await;
        switched.expect("it is there");
    };
    switch(&second).await;
    stage.visit("/reports").await;
    stage.nears_its_end().await;
    stage.becomes(IS_OPEN, true).await;
    stage.press(Key::Enter).await;
    stage.becomes(IS_OPEN, false).await;
    switch(&first).await;
    stage.becomes(IS_OPEN, false).await;

    switch(&second).await;
    stage.nears_its_end().await;
    stage.becomes(IS_OPEN, true).await;
    stage
        .of_dialog("shadow.querySelector('[part=sign-out]').click()")
        .await;
    stage.shows("h1", "Log in").await;
    browser.close_window().await.expect("it closes");
    switch(&first).await;
    stage.becomes(HEADING, "You have been signed out").await;
}

async fn a_session_that_cannot_be_extended_is_announced(stage: &Stage) {
    stage.comes_to_its_end().await;
    stage.becomes(IS_OPEN, true).await;
    stage.press(Key::Escape).await;
    stage.becomes(IS_OPEN, false).await;
    // As the server answers for a session at its absolute limit.
    stage
        .run(
            "const answer = JSON.stringify({ seconds_left: 40, warn_before: 60, can_stay: false });
             window.fetch = async () => new Response(answer);",
        )
        .await;
    stage.wake().await;
    stage.becomes(IS_OPEN, true).await;
    stage
        .becomes("shadow.querySelector('[part=stay]').hidden", true)
        .await;
    stage
        .becomes(
            "dialog.querySelector('p').textContent.includes(\"can't be extended\")",
            true,
        )
        .await;
    stage.is_accessible("final").await;
    stage.press(Key::Escape).await;
    stage.becomes(IS_OPEN, false).await;
}

async fn an_end_is_told(stage: &Stage) {
    stage.comes_to_its_end().await;
    stage.becomes(IS_OPEN, true).await;
    stage.end_at(OffsetDateTime::now_utc() - 1.seconds()).await;
    stage.wake().await;
    stage.becomes(HEADING, "You have been signed out").await;
    stage.becomes(FOCUSED, "Sign in again").await;
    stage.is_accessible("ended").await;
    stage.press(Key::Enter).await;
    stage.shows("h1", "Log in").await;
}

async fn a_server_that_does_not_answer_is_not_the_end(stage: &Stage) {
    stage.comes_to_its_end().await;
    stage.becomes(IS_OPEN, true).await;
    stage
        .run("window.fetch = async () => { throw new Error('no network'); };")
        .await;
    stage.press(Key::Enter).await;
    stage
        .becomes(
            "dialog.querySelector('[role=alert]').textContent",
            "That did not work. Try again.",
        )
        .await;
    stage.becomes(HEADING, "Your session is about to end").await;
    stage.is_accessible("error").await;
}

async fn a_login_says_how_long_the_session_lives(stage: &Stage) {
    stage.forget().await;
    stage.visit("/login").await;
    stage.click("#remember").await;
    stage.click("button[value=ursula]").await;
    stage.shows("h2", "Hello").await;
    let long = OffsetDateTime::now_utc() + 9.minutes();
    assert!(stage.session_ends().await > long);
    assert!(stage.cookie_ends().await > long);

    // A superuser's ends five minutes after the login, remembered or not.
    stage.forget().await;
    stage.visit("/login").await;
    stage.click("#remember").await;
    stage.click("button[value=root]").await;
    stage.shows("h2", "Hello").await;
    let ends = stage.session_ends().await - OffsetDateTime::now_utc();
    assert!(4.minutes() < ends && ends <= 5.minutes(), "{ends}");
}

/// Starts the demo as cargo has built it, and learns its address from its first line.
fn demo(file: &std::path::Path) -> (Process, String) {
    let test = env::current_exe().expect("this is a file");
    let target = test.ancestors().nth(2).expect("it lies in target/*/deps");
    let mut child = Command::new(target.join("examples/demo"))
        .env("DATABASE_PATH", file)
        .env("PORT", "0")
        .env_remove("DATABASE_URL")
        .env_remove("REDIS_URL")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the example `demo` is built");
    let output = child.stdout.take().expect("it is piped");
    let demo = Process(child);
    let mut lines = BufReader::new(output).lines();
    let first = lines.next().expect("it prints").expect("it is text");
    let url = first.split_whitespace().next().expect("its address");
    // It goes on logging.
    std::thread::spawn(move || lines.for_each(drop));
    (demo, url.to_owned())
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    listener.local_addr().expect("it is bound").port()
}

/// Waits until the driver listens.
async fn connect(port: u16, capabilities: &serde_json::Value) -> Client {
    let capabilities = capabilities.as_object().expect("it is one").clone();
    let mut builder = ClientBuilder::new(HttpConnector::new());
    builder.capabilities(capabilities);
    let mut attempts = 0;
    loop {
        match builder.connect(&format!("http://127.0.0.1:{port}")).await {
            Ok(browser) => return browser,
            Err(error) if attempts > 200 => panic!("the browser starts: {error}"),
            Err(_) => tokio::time::sleep(StdDuration::from_millis(100)).await,
        }
        attempts += 1;
    }
}

#[tokio::test]
#[cfg_attr(
    without_browser,
    ignore = "chromium and chromedriver are not both installed"
)]
async fn a_session_lives_as_its_pages_tell() {
    perform(|stage| async move {
        three_shops_are_compared(&stage).await;
        nobody_waits_to_see_a_skip(&stage).await;
        a_visit_extends_the_session_once_it_is_due(&stage).await;
        polling_extends_nothing(&stage).await;
        a_logout_is_seen_in_another_tab(&stage).await;
        a_page_counts_down_to_the_sessions_end(&stage).await;
    })
    .await;
}

#[tokio::test]
#[cfg_attr(
    without_browser,
    ignore = "chromium and chromedriver are not both installed"
)]
async fn a_person_hears_of_the_end_before_it_comes() {
    perform(|stage| async move {
        a_person_is_warned_and_stays(&stage).await;
        the_keyboard_is_enough(&stage).await;
        tabs_follow_each_other(&stage).await;
        a_session_that_cannot_be_extended_is_announced(&stage).await;
        an_end_is_told(&stage).await;
        a_server_that_does_not_answer_is_not_the_end(&stage).await;
        a_login_says_how_long_the_session_lives(&stage).await;
    })
    .await;
}

/// Some stories in one browser: starting one takes longer than most of them.
async fn perform<F: Future<Output = ()> + Send + 'static>(stories: impl FnOnce(Arc<Stage>) -> F) {
    let stage = Arc::new(Stage::set().await);
    // The browser outlives its driver unless it is closed, whatever becomes of the stories.
    let told = tokio::spawn(stories(Arc::clone(&stage))).await;
    stage.browser.clone().close().await.expect("it closes");
    if let Err(failed) = told {
        std::panic::resume_unwind(failed.into_panic());
    }
}

/// A figure of the first screen's table.
impl Stage {
    async fn figure(&self, way: &str, figure: &str) -> u64 {
        let cell = format!("[data-way={way}][data-figure={figure}]");
        let shown = self.text(&cell).await;
        let digits = shown.replace(',', "");
        digits
            .parse()
            .unwrap_or_else(|_| panic!("{cell} is {shown}"))
    }
}

async fn three_shops_are_compared(stage: &Stage) {
    stage.visit("/").await;
    stage.is_accessible("first").await;
    stage.click("button[data-times]").await;
    stage.shows("#happening", "Done").await;
    stage.is_accessible("compared").await;

    for figure in ["lost", "undone"] {
        for careless in ["always-save", "stamp"] {
            assert_eq!(
                stage.figure(careless, figure).await,
                3,
                "{careless}: {figure}"
            );
        }
        assert_eq!(stage.figure("touch", figure).await, 0, "{figure}");
    }
    let requests = stage.figure("touch", "requests").await;
    for way in ["always-save", "stamp"] {
        assert_eq!(stage.figure(way, "requests").await, requests);
        for figure in ["writes", "bytes"] {
            let (theirs, ours) = (
                stage.figure(way, figure).await,
                stage.figure("touch", figure).await,
            );
            assert!(0 < ours && ours < theirs, "{figure}: {ours} of {theirs}");
        }
    }
}

async fn nobody_waits_to_see_a_skip(stage: &Stage) {
    for (name, page, skipped) in [
        ("stella", "/staff", "Skipped: staff"),
        ("root", "/admin", "Skipped: superuser"),
    ] {
        stage.forget().await;
        stage.visit("/login").await;
        stage.click(&format!("button[value={name}]")).await;
        stage.shows("h2", "Hello").await;
        stage.age(1.seconds()).await;
        stage.visit(page).await;
        assert_eq!(stage.text(".outcome").await, skipped);
    }
    stage.forget().await;
}

async fn a_visit_extends_the_session_once_it_is_due(stage: &Stage) {
    stage.log_in().await;
    assert_eq!(stage.text(".outcome").await, "Not due");

    stage.age(20.seconds()).await;
    let (session, cookie) = (stage.session_ends().await, stage.cookie_ends().await);
    stage.visit("/dashboard").await;
    assert_eq!(stage.text(".outcome").await, "Refreshed");
    assert!(stage.session_ends().await >= session + 20.seconds());
    assert!(stage.cookie_ends().await >= cookie + 19.seconds());

    let (session, cookie) = (stage.session_ends().await, stage.cookie_ends().await);
    stage.visit("/dashboard").await;
    assert_eq!(stage.text(".outcome").await, "Not due");
    assert_eq!(stage.session_ends().await, session);
    assert_eq!(stage.cookie_ends().await, cookie);
}

async fn polling_extends_nothing(stage: &Stage) {
    stage.age(20.seconds()).await;
    let (session, cookie) = (stage.session_ends().await, stage.cookie_ends().await);
    let questions = |shown: &str| -> Option<u32> {
        let (_, rest) = shown.split_once("server: ")?;
        rest.split('.').next()?.parse().ok()
    };
    let before = questions(&stage.text("#poll").await).unwrap_or(0);
    stage
        .holds("#poll", "the page polls twice", |shown| {
            questions(shown).is_some_and(|now| now >= before + 2)
        })
        .await;
    assert_eq!(stage.session_ends().await, session);
    assert_eq!(stage.cookie_ends().await, cookie);
    // A minute and a half, less what it has aged.
    let left = stage.text("#countdown").await;
    let goes_on = ["1:10", "1:0", "0:5"]
        .iter()
        .any(|early| left.starts_with(early));
    assert!(goes_on, "{left}");
}

async fn a_logout_is_seen_in_another_tab(stage: &Stage) {
    let browser = &stage.browser;
    let first = browser.window().await.expect("there is one");
    let second = browser.new_window(true).await.expect("a tab opens");
    let switched = browser.switch_to_window(second.handle).await;
    switched.expect("it is there");
    stage.visit("/cart").await;
    stage.click("form.user button").await;
    stage.shows("h1", "Log in").await;
    browser.close_window().await.expect("it closes");

    let switched = browser.switch_to_window(first).await;
    switched.expect("it is there");
    stage.shows("#countdown", "ended").await;
    stage.shows("#poll", "Log in again").await;
    stage.visit("/dashboard").await;
    stage.shows("h1", "Log in").await;
}

async fn a_page_counts_down_to_the_sessions_end(stage: &Stage) {
    stage.log_in().await;
    stage.end_at(OffsetDateTime::now_utc() + 6.seconds()).await;
    stage
        .holds("#countdown", "the page counts down", |shown| {
            shown.starts_with("0:0")
        })
        .await;
    stage.shows("#countdown", "ended").await;
    stage.visit("/dashboard").await;
    stage.shows("h1", "Log in").await;
}
