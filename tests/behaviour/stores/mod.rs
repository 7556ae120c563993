//! `RefreshStore` and the stores that can touch, each test on every store.

mod advice;
mod bytes;
mod conformance;
mod outages;
mod processes;
mod races;
mod scenarios;
mod serialized;
