//! The `tracing` events of this thread, recorded.

use std::{
    cell::RefCell,
    fmt::{Debug, Write as _},
    sync::{Arc, LazyLock, Mutex},
};

use tracing::{
    Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt as _},
};

/// One event, its message and fields as text.
#[derive(Clone, Debug)]
pub struct Event {
    /// Where it comes from.
    pub target: String,
    /// How bad it is.
    pub level: Level,
    /// `message field=value field=value`.
    pub text: String,
}

thread_local! {
    static RECORDED: RefCell<Option<Recorded>> = const { RefCell::new(None) };
}

type Recorded = Arc<Mutex<Vec<Event>>>;

/// Records this thread's events from its start to its drop: a test on a single-threaded runtime sees its server's.
#[derive(Debug)]
pub struct Events {
    recorded: Recorded,
}

impl Events {
    /// Starts to record.
    ///
    /// # Panics
    /// If another subscriber is installed.
    #[must_use]
    pub fn record() -> Self {
        Self::listen();
        tracing::callsite::rebuild_interest_cache();
        let recorded = Recorded::default();
        RECORDED.set(Some(Arc::clone(&recorded)));
        Self { recorded }
    }

    /// The events with target `session_refresh` so far.
    #[must_use]
    pub fn ours(&self) -> Vec<Event> {
        self.all()
            .into_iter()
            .filter(|event| event.target == "session_refresh")
            .collect()
    }

    /// All events so far.
    ///
    /// # Panics
    /// If a recording thread has panicked.
    #[must_use]
    pub fn all(&self) -> Vec<Event> {
        self.recorded.lock().expect("no recorder panics").clone()
    }
}

impl Events {
    /// Installs the one subscriber, before a test's first request.
    ///
    /// # Panics
    /// If another subscriber is installed.
    pub fn listen() {
        // One subscriber for all threads and for good: `tracing` forgets events that it first meets while another
        // thread's subscriber comes or goes.
        static SUBSCRIBER: LazyLock<()> = LazyLock::new(|| {
            let subscriber = tracing_subscriber::registry().with(Recorder);
            tracing::subscriber::set_global_default(subscriber).expect("there is no other");
        });
        LazyLock::force(&SUBSCRIBER);
    }

    /// How many events of any thread had this in their text, since the first recording began.
    ///
    /// # Panics
    /// If a recording thread has panicked.
    #[must_use]
    pub fn all_of_the_process(part: &str) -> usize {
        let texts = PROCESS.lock().expect("no recorder panics");
        texts.iter().filter(|text| text.contains(part)).count()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // Another may have begun meanwhile.
        RECORDED.with_borrow_mut(|current| {
            current.take_if(|current| Arc::ptr_eq(current, &self.recorded));
        });
    }
}

/// What is told once in a process, whichever test comes first: the texts at level `INFO`.
static PROCESS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Recorder;

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut text = Text::default();
        if metadata.target() == "session_refresh" && *metadata.level() == Level::INFO {
            event.record(&mut text);
            let mut texts = PROCESS.lock().expect("no recorder panics");
            texts.push(std::mem::take(&mut text).0);
        }
        let Some(recorded) = RECORDED.with_borrow(Clone::clone) else {
            return;
        };
        event.record(&mut text);
        recorded.lock().expect("no recorder panics").push(Event {
            target: metadata.target().to_owned(),
            level: *metadata.level(),
            text: text.0,
        });
    }
}

#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let written = if field.name() == "message" {
            write!(self.0, "{value:?}")
        } else {
            write!(self.0, " {}={value:?}", field.name())
        };
        written.expect("writing to a string succeeds");
    }
}
