//! Behaviour over real HTTP.

mod handlers;
mod stores;
