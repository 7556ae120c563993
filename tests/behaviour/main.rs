//! Behaviour over real HTTP.

mod groups;
mod handlers;
mod stores;
