//! What the tests share: an application under test, served over real HTTP, and instruments to watch it with.

mod app;
pub mod backends;
mod clock;
mod counting;
mod events;
mod server;

pub use app::{CurrentUser, Lookups, login_routes};
pub use clock::TestClock;
pub use counting::{CountingStore, Counts};
pub use events::{Event, Events};
pub use server::{Answer, Client, Server};
