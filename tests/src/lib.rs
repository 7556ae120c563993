//! What the tests share: an application under test, served over real HTTP, and instruments to watch it with.

mod app;
pub mod backends;
mod clock;
mod counting;
mod events;
mod failing;
mod gate;
mod server;
mod site;

pub use app::{CurrentUser, Lookups, login_routes};
pub use clock::TestClock;
pub use counting::{CountingStore, Counts};
pub use events::{Event, Events};
pub use failing::FailingStore;
pub use gate::Gate;
pub use server::{Answer, Client, Server};
pub use site::{Setup, Site};
