//! The `tracing` events of this thread, recorded.

use std::{
    fmt::{Debug, Write as _},
    sync::{Arc, Mutex},
};

use tracing::{
    Level, Subscriber,
    field::{Field, Visit},
    subscriber::DefaultGuard,
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

/// Records this thread's events from its start to its drop: a test on a single-threaded runtime sees its server's.
#[derive(Debug)]
pub struct Events {
    recorded: Arc<Mutex<Vec<Event>>>,
    _guard: DefaultGuard,
}

impl Events {
    /// Starts to record.
    #[must_use]
    pub fn record() -> Self {
        let recorded = Arc::<Mutex<Vec<Event>>>::default();
        let subscriber = tracing_subscriber::registry().with(Recorder(Arc::clone(&recorded)));
        Self {
            recorded,
            _guard: tracing::subscriber::set_default(subscriber),
        }
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

struct Recorder(Arc<Mutex<Vec<Event>>>);

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
        self.0.lock().expect("no recorder panics").push(Event {
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
