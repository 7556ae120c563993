//! What the tests share: an application under test, served over real HTTP, and instruments to watch it with.

mod app;
pub mod backends;
mod events;
mod failing;
mod gate;
mod own_server;
mod proxy;
mod server;
mod site;

pub use app::{CurrentUser, Lookups, login_routes};
pub use events::{Event, Events};
pub use failing::FailingStore;
pub use gate::{FoundAtGate, Gate};
pub use own_server::{OwnServer, free_port};
pub use proxy::{Proxy, Wire};
pub use session_refresh::testing::{CountingStore, Counts, TestClock};

pub use server::{Answer, Client, Server, telling};
pub use site::{Options, Owned, Plain, Sessions, Setup, Site};
