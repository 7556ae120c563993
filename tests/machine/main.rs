//! Machines that try to break the promises: requests, faults and time in random order, held against a model of what has to
//! become of the sessions.
//!
//! Read `world`, the words, and `model`, the rules: together they are the specification. `sequences` does one thing after
//! the other, and lets requests wait for each other; `histories` has requests race, and looks for an order of their steps
//! that explains what was seen.

mod histories;
mod hostile;
mod machine;
mod model;
mod mutants;
mod regressions;
mod sequences;
mod soak;
mod system;
mod world;
