//! Behaviour over real HTTP.

mod handlers;
