//! The same page in every way to keep a session alive, for whoever measures.

pub mod accounts;
mod data;
mod encoded;
mod pages;
mod record;

pub use data::data;
pub use encoded::EncodedStore;
pub use pages::{COOKIE, INTERVAL, LIFETIME, Way, lifetime_pages, pages, routes, sessions};
pub use record::{record, stamps};
