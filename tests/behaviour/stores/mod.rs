//! `RefreshStore` and the stores that can touch, each test on every store.

mod conformance;
mod scenarios;
