//! What the compiler says: one fixture, one mistake.
