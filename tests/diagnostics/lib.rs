//! What is right compiles, without a warning: as part of this library. What is wrong is in `fail`, for the test.
#![allow(clippy::all, clippy::pedantic)]

#[path = "pass/options.rs"]
pub mod options;
#[path = "pass/signatures.rs"]
pub mod signatures;
#[path = "pass/surroundings.rs"]
pub mod surroundings;
