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
        // One subscriber for all threads and for good: `tracing` forgets events that it first meets while another
        // thread's subscriber comes or goes.
        static SUBSCRIBER: LazyLock<()> = LazyLock::new(|| {
            let subscriber = tracing_subscriber::registry().with(Recorder);
            tracing::subscriber::set_global_default(subscriber).expect("there is no other");
        });
        LazyLock::force(&SUBSCRIBER);
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

impl Drop for Events {
    fn drop(&mut self) {
        // Another may have begun meanwhile.
        RECORDED.with_borrow_mut(|current| {
            current.take_if(|current| Arc::ptr_eq(current, &self.recorded));
        });
    }
}

struct Recorder;

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let Some(recorded) = RECORDED.with_borrow(Clone::clone) else {
            return;
        };
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
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
