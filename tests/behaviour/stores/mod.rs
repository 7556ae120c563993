//! The stores that can touch, each test on every store.

mod bytes;
mod conformance;
mod faults;
mod locks;
mod outages;
mod processes;
mod races;
mod redis;
mod secrets;
mod serialized;
mod sql;
