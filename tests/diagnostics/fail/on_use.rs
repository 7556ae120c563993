use session_refresh::session_refresh;

#[session_refresh]
use std::fmt;

fn main() {}
